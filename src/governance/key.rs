//! Whose requests are counted together.
//!
//! A key is a text with a mark before each of its parts, which are escaped: no two callers share one
//! because of how they are called.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
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

/// The key of the rate limit: tenant, user, class and address.
pub(super) fn rate_key(caller: &Caller, class: Class) -> String {
    let mut key = String::with_capacity(64);
    put_tenant(&mut key, &caller.request.tenant);
    put_user(&mut key, caller);
    put(&mut key, 'c', class.as_str());
    put_address(&mut key, caller.address);
    key
}

/// The key of the quota: whom the request is for, else the user, else the address. Strangers do not
/// use up each other's quota.
pub(super) fn quota_key(caller: &Caller) -> String {
    let mut key = String::with_capacity(32);
    put_tenant(&mut key, &caller.request.tenant);
    if key.is_empty() {
        put_user(&mut key, caller);
    }
    if key.is_empty() {
        put_address(&mut key, caller.address);
    }
    if key.is_empty() {
        key.push_str("anonymous");
    }
    key
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
    separate(key);
    let written = match address {
        None => Ok(()),
        Some(IpAddr::V4(address)) => write!(key, "a={address}"),
        Some(IpAddr::V6(address)) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
            write!(key, "a={network}/64")
        }
    };
    debug_assert!(written.is_ok(), "a String takes all");
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
            assert_eq!(rate_key(caller, Class::Access), rate);
            assert_eq!(quota_key(caller), quota);
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
        for keys in [
            callers.iter().map(quota_key).collect::<Vec<_>>(),
            callers
                .iter()
                .map(|caller| rate_key(caller, Class::Other))
                .collect(),
        ] {
            let mut different = keys.clone();
            different.sort();
            different.dedup();
            assert_eq!(different.len(), keys.len(), "{keys:?}");
            let is_plain = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
            assert!(keys.iter().all(is_plain), "{keys:?}");
        }
    }
}
