//! What trusted proxies say of a request: who the client is, and for whom the request is.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName};

use crate::{config::TrustProxy, error::RegistryError, models::Tenant};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Each name by which the organisation may come.
const ORG_ID: [HeaderName; 2] = [
    HeaderName::from_static("x-rustaccio-org-id"),
    HeaderName::from_static("x-org-id"),
];
const PROJECT_ID: [HeaderName; 2] = [
    HeaderName::from_static("x-rustaccio-project-id"),
    HeaderName::from_static("x-project-id"),
];
/// The longest name of an organisation or a project, in bytes.
const MAX_TENANT: usize = 128;

/// The address of the client: that of the connection, or as the trusted proxies before us say.
/// `None` where they say what cannot be read: it is anybody's, but not the proxy's own.
pub(super) fn client_address(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trust: &TrustProxy,
) -> Option<IpAddr> {
    let mut address = peer;
    // Each proxy appends whom it saw: the last entry that no trusted proxy has is the client. Where
    // every address counts as a proxy only the last entry is sure to be one's; those before it may
    // be the client's own words, in any bytes.
    let lists = headers.get_all(X_FORWARDED_FOR).iter().rev();
    for entry in lists.flat_map(|list| list.as_bytes().rsplit(|&byte| byte == b',')) {
        if !trust.covers(address) {
            break;
        }
        address = Some(address_of(entry)?);
        if *trust == TrustProxy::Yes {
            break;
        }
    }
    address
}

/// An address, with or without a port; one of IPv6 may stand in brackets.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok();
    let address = address.or_else(|| in_brackets().map(IpAddr::V6));
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// For whom a trusted proxy says that the request is; anybody's word would be a way around limits.
pub(super) fn tenant(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trust: &TrustProxy,
) -> Result<Tenant, RegistryError> {
    if !trust.covers(peer) {
        return Ok(Tenant::default());
    }
    Ok(Tenant {
        org_id: the_one(headers, &ORG_ID)?,
        project_id: the_one(headers, &PROJECT_ID)?,
    })
}

/// The one value that headers of these `names` have. Of several, one is the client's that the proxy
/// passed on, and none is more certain than the others.
fn the_one(
    headers: &HeaderMap,
    names: &[HeaderName; 2],
) -> Result<Option<Arc<str>>, RegistryError> {
    let values = names.iter().flat_map(|name| headers.get_all(name));
    // Headers of one name may have been joined on the way.
    let values = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let mut values = values.map(<[u8]>::trim_ascii);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let is_usable = (1..=MAX_TENANT).contains(&value.len()) && value.iter().all(is_plain);
    match std::str::from_utf8(value) {
        Ok(text) if is_usable && values.all(|other| other == value) => Ok(Some(text.into())),
        _ => {
            let [own, short] = names;
            Err(RegistryError::bad_request(format!(
                "`{own}` and `{short}` must have one value together, of at most {MAX_TENANT} \
                 characters; the proxy before this registry has to set or delete both"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn proxies() -> TrustProxy {
        TrustProxy::From(vec!["10.0.0.0/8".parse().unwrap()])
    }

    /// Who is behind the proxy 10.0.0.1 that sent these.
    fn client(lists: &[&[u8]], trust: &TrustProxy) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(list).unwrap());
        }
        client_address(&headers, "10.0.0.1".parse().ok(), trust)
    }

    #[test]
    fn addresses_may_have_ports_and_brackets() {
        for (entry, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:4873\t", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            let expected: Option<IpAddr> = expected.parse().ok();
            assert_eq!(address_of(entry.as_bytes()), expected, "{entry}");
        }
        for entry in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "[192.0.2.1",
            "[2001:db8::1",
            "192.0.2.1 192.0.2.2",
            "\u{e9}",
        ] {
            assert_eq!(address_of(entry.as_bytes()), None, "{entry}");
        }
    }

    #[test]
    fn the_last_that_is_no_proxy_is_the_client() {
        let outside: Option<IpAddr> = "192.0.2.1".parse().ok();
        let trust = proxies();
        assert_eq!(client(&[], &trust), "10.0.0.1".parse().ok());
        let chain: &[&[u8]] = &[b"8.8.8.8", b"192.0.2.1, 10.0.0.3", b"10.0.0.2"];
        assert_eq!(client(chain, &trust), outside);
        assert_eq!(client(chain, &TrustProxy::Yes), "10.0.0.2".parse().ok());
        assert_eq!(client(chain, &TrustProxy::No), "10.0.0.1".parse().ok());
        // A proxy that says what cannot be read has seen somebody.
        assert_eq!(client(&[b"192.0.2.1, unknown, 10.0.0.2"], &trust), None);
        assert_eq!(client(&[b""], &trust), None);
    }

    proptest! {
        #[test]
        fn each_form_of_an_address_is_read(bits: u128, port: u16, is_v4: bool) {
            let (address, forms) = if is_v4 {
                let address = Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap());
                (IpAddr::from(address), vec![format!("{address}"), format!("{address}:{port}")])
            } else {
                let address = Ipv6Addr::from_bits(bits);
                let forms = vec![
                    format!("{address}"),
                    format!("[{address}]"),
                    format!("[{address}]:{port}"),
                ];
                (IpAddr::from(address), forms)
            };
            for form in forms {
                prop_assert_eq!(address_of(form.as_bytes()), Some(address.to_canonical()));
            }
        }

        /// Whatever a client says before it, what the proxy appends counts, in the same header or
        /// in one of its own; and the client never passes for the proxy.
        #[test]
        fn a_client_says_nothing_of_himself(
            said in prop::collection::vec((32_u8..=255).prop_filter("DEL", |byte| *byte != 127), 0..40),
            seen: u32,
        ) {
            let seen = IpAddr::from(Ipv4Addr::from_bits(seen));
            prop_assume!(!proxies().covers(Some(seen)));
            let appended = [&said, format!(", {seen}").as_bytes()].concat();
            let own = seen.to_string();
            for trust in [proxies(), TrustProxy::Yes] {
                prop_assert_eq!(client(&[&appended], &trust), Some(seen));
                prop_assert_eq!(client(&[&said, own.as_bytes()], &trust), Some(seen));
            }
            let last = said.rsplit(|&byte| byte == b',').next().unwrap_or_default();
            prop_assert_eq!(client(&[&said], &TrustProxy::Yes), address_of(last));
        }
    }
}
