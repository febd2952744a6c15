//! Whose requests are counted together.
//!
//! A key is a text with a mark before each of its parts, which are escaped: no two callers share one
//! because of how they are called.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
    ops::Range,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::Class;
use crate::models::{Caller, Tenant};

/// What stands in keys as it is.
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'@')
    .remove(b'/');
/// A longer name is replaced by its hash.
const LONGEST: usize = 256;

/// The keys of one caller.
pub(super) struct Keys {
    /// Tenant, user, class and address, as far as they are known.
    text: String,
    /// Where in it the key of the quota stands.
    quota: Range<usize>,
}

impl Keys {
    pub(super) fn of(caller: &Caller, class: Class) -> Self {
        let mut text = String::with_capacity(64);
        put_tenant(&mut text, &caller.request.tenant);
        let tenant = 0..text.len();
        put_user(&mut text, caller);
        let user = 0..text.len();
        separate(&mut text);
        text.push_str("c=");
        text.push_str(class.as_str());
        text.push(':');
        let address = text.len();
        put_address(&mut text, caller.address);
        let address = address..text.len();
        // The user is not needed where there is a tenant.
        let ranges = [tenant, user, address];
        let quota = ranges.into_iter().find(|range| !range.is_empty());
        Self {
            text,
            quota: quota.unwrap_or_default(),
        }
    }

    /// The key of the rate limit: tenant, user, class and address.
    pub(super) fn of_rate(&self) -> &str {
        &self.text
    }

    /// The key of the quota: whom the request is for, else the user, else the address. Strangers do
    /// not use up each other's quota.
    pub(super) fn of_quota(&self) -> &str {
        let key = self.text.get(self.quota.clone()).unwrap_or_default();
        if key.is_empty() { "anonymous" } else { key }
    }
}

fn put_tenant(key: &mut String, tenant: &Tenant) {
    if let Some(organisation) = &tenant.org_id {
        put(key, 'o', organisation);
    }
    if let Some(project) = &tenant.project_id {
        put(key, 'p', project);
    }
}

/// The user, else the first group that the credentials show.
fn put_user(key: &mut String, caller: &Caller) {
    let Some(identity) = &caller.identity else {
        return;
    };
    match (&identity.username, identity.groups.first()) {
        (Some(user), _) => put(key, 'u', user),
        (None, Some(group)) => put(key, 'g', group),
        (None, None) => put(key, 'g', ""),
    }
}

/// The address as it is, which may have colons: it stands last. Whoever has an IPv6 address has all
/// of its /64.
fn put_address(key: &mut String, address: Option<IpAddr>) {
    match address {
        None => {}
        // Every request of a stranger comes by here.
        Some(IpAddr::V4(address)) => {
            let mut mark = "a=";
            for number in address.octets() {
                key.push_str(mark);
                key.push_str(itoa::Buffer::new().format(number));
                mark = ".";
            }
        }
        Some(IpAddr::V6(address)) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
            let written = write!(key, "a={network}/64");
            debug_assert!(written.is_ok(), "a String takes all");
        }
    }
}

fn put(key: &mut String, mark: char, text: &str) {
    separate(key);
    key.push(mark);
    key.push('=');
    if text.len() > LONGEST {
        // A `#` of a name is escaped.
        key.push('#');
        key.push_str(&hex::encode(Sha256::digest(text)));
    } else {
        key.extend(utf8_percent_encode(text, &PLAIN));
    }
}

fn separate(key: &mut String) {
    if !key.is_empty() {
        key.push(':');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::{AuthIdentity, RequestInfo};

    fn caller(user: Option<&str>, groups: &[&str], tenant: [&str; 2], address: &str) -> Caller {
        let named = |name: &str| (!name.is_empty()).then(|| name.into());
        let is_known = user.is_some() || !groups.is_empty();
        Caller {
            identity: is_known.then(|| {
                Arc::new(AuthIdentity {
                    username: user.map(str::to_owned),
                    groups: groups.iter().map(|&group| group.to_owned()).collect(),
                })
            }),
            address: address.parse().ok(),
            request: Arc::new(RequestInfo {
                tenant: Tenant {
                    org_id: named(tenant[0]),
                    project_id: named(tenant[1]),
                },
                ..RequestInfo::default()
            }),
            ..Caller::default()
        }
    }

    #[test]
    fn keys_say_who_it_is() {
        let check = |caller: &Caller, rate: &str, quota: &str| {
            let keys = Keys::of(caller, Class::Access);
            assert_eq!(keys.of_rate(), rate);
            assert_eq!(keys.of_quota(), quota);
        };
        let stranger = caller(None, &[], ["", ""], "192.0.2.1");
        check(&stranger, "c=access:a=192.0.2.1", "a=192.0.2.1");
        let stranger = caller(None, &[], ["", ""], "2001:db8:1:2:3:4:5:6");
        let network = "a=2001:db8:1:2::/64";
        check(&stranger, &format!("c=access:{network}"), network);
        let alice = caller(Some("alice"), &["ops"], ["", ""], "192.0.2.1");
        check(&alice, "u=alice:c=access:a=192.0.2.1", "u=alice");
        let build = caller(None, &["build"], ["acme", "web"], "192.0.2.1");
        check(
            &build,
            "o=acme:p=web:g=build:c=access:a=192.0.2.1",
            "o=acme:p=web",
        );
        let local = caller(None, &[], ["", ""], "");
        check(&local, "c=access:", "anonymous");
    }

    #[test]
    fn nobody_is_called_so_that_a_key_is_somebody_elses() {
        let long = "x".repeat(LONGEST + 1);
        let callers = [
            caller(Some("a:p=b"), &[], ["", ""], ""),
            caller(Some("a"), &[], ["", "b"], ""),
            caller(Some("a%3Ap%3Db"), &[], ["", ""], ""),
            caller(Some(""), &[], ["", ""], ""),
            caller(Some("-"), &[], ["", ""], ""),
            caller(None, &["a"], ["", ""], ""),
            caller(None, &[], ["a", ""], ""),
            caller(None, &[], ["", "a"], ""),
            caller(None, &[], ["a:p=b", ""], ""),
            caller(None, &[], ["a", "b"], ""),
            caller(None, &[], ["", ""], ""),
            caller(Some("anonymous"), &[], ["", ""], ""),
            caller(Some(&long), &[], ["", ""], ""),
            caller(Some(&format!("{long}x")), &[], ["", ""], ""),
            caller(Some("a\0b"), &[], ["", ""], ""),
        ];
        let keys = callers.iter().map(|caller| Keys::of(caller, Class::Other));
        let keys: Vec<Keys> = keys.collect();
        let keys_of = |key: fn(&Keys) -> &str| -> Vec<String> {
            keys.iter().map(|keys| key(keys).to_owned()).collect()
        };
        for keys in [keys_of(Keys::of_quota), keys_of(Keys::of_rate)] {
            let mut different = keys.clone();
            different.sort();
            different.dedup();
            assert_eq!(different.len(), keys.len(), "{keys:?}");
            let is_plain = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
            assert!(keys.iter().all(is_plain), "{keys:?}");
        }
    }
}
