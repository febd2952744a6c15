//! [`Base`]: the address under which the client sees this registry.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{HeaderMap, header, request::Parts, uri::Scheme};
use parking_lot::Mutex;

use crate::{
    models::{BaseUrl, InvalidBaseUrl},
    web::{
        error::Error,
        state::{WebSettings, WebState},
    },
};

/// For clients that do not say how they call us.
const FALLBACK_HOST: &str = "localhost:4873";

/// The path that was taken off the request before routing: the configured prefix, and the one of
/// a router that this one is nested in.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct PublicPrefix(pub(in crate::web) String);

/// The public address of the registry, for this request.
pub(in crate::web) struct Base(pub(in crate::web) BaseUrl);

impl FromRequestParts<WebState> for Base {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        Ok(Self(base_of(parts, state)?))
    }
}

/// The public address of the registry, for the request with these `parts`.
pub(in crate::web) fn base_of(parts: &Parts, state: &WebState) -> Result<BaseUrl, Error> {
    let prefix = parts.extensions.get::<PublicPrefix>();
    let connection = Connection {
        peer: peer(parts),
        prefix: prefix.map_or("", |prefix| prefix.0.as_str()),
        is_tls: parts.extensions.get::<Scheme>() == Some(&Scheme::HTTPS),
    };
    base_url(&state.settings, state.bases(), &parts.headers, &connection)
}

/// Clients choose their `Host` freely; this many addresses are remembered.
const MAX_BASES: usize = 1000;

/// The addresses under which the registry was seen lately: to read one anew takes longer than to
/// find a document.
#[derive(Debug, Default)]
pub(in crate::web) struct Bases(Mutex<HashMap<String, BaseUrl>>);

impl Bases {
    fn read(&self, text: &str) -> Result<BaseUrl, InvalidBaseUrl> {
        if let Some(base) = self.0.lock().get(text) {
            return Ok(base.clone());
        }
        let base: BaseUrl = text.parse()?;
        let mut known = self.0.lock();
        if known.len() >= MAX_BASES {
            known.clear();
        }
        known.insert(text.to_owned(), base.clone());
        Ok(base)
    }
}

/// What is known of a request besides its headers.
struct Connection<'a> {
    peer: Option<IpAddr>,
    prefix: &'a str,
    is_tls: bool,
}

/// Where the connection comes from; `None` for a unix socket.
pub(super) fn peer(parts: &Parts) -> Option<IpAddr> {
    let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    info.map(|info| info.0.ip().to_canonical())
}

fn base_url(
    settings: &WebSettings,
    bases: &Bases,
    headers: &HeaderMap,
    connection: &Connection<'_>,
) -> Result<BaseUrl, Error> {
    if let Some(url) = &settings.public_url {
        return Ok(url.clone());
    }
    let is_proxied = settings.trust_proxy.covers(connection.peer);
    let forwarded = |name| is_proxied.then(|| first(headers, name)).flatten();
    let scheme = match forwarded(settings.forwarded_proto.as_str()) {
        Some("https") => "https",
        None if connection.is_tls => "https",
        _ => "http",
    };
    let prefix = connection.prefix;
    let forwarded_prefix = forwarded("x-forwarded-prefix")
        .map(|prefix| prefix.trim_matches('/'))
        .filter(|prefix| !prefix.is_empty())
        .map_or_else(String::new, |prefix| format!("/{prefix}"));
    let port = forwarded("x-forwarded-port").filter(|port| port.parse::<u16>().is_ok());
    let hosts = [
        forwarded("x-forwarded-host"),
        headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok()),
    ];
    for host in hosts.into_iter().flatten() {
        let host = match port {
            Some(port) if !has_port(host) => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        // A host is letters, digits and a few signs; anything else would end up in addresses.
        let is_host = host.starts_with(|c: char| c == '[' || c.is_ascii_alphanumeric())
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        let text = format!("{scheme}://{host}{forwarded_prefix}{prefix}");
        if is_host && let Ok(base) = bases.read(&text) {
            return Ok(base);
        }
    }
    let fallback = format!("{scheme}://{FALLBACK_HOST}{prefix}");
    Ok(fallback
        .parse()
        .map_err(crate::error::RegistryError::internal)?)
}

/// The first of a list of forwarded values: the one nearest to the client.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?;
    text.split(',')
        .next()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::{MetricsConfig, TrustProxy};

    #[track_caller]
    fn check(trust_proxy: TrustProxy, sent: &[(&str, &str)], expected: &str) {
        let settings = WebSettings {
            has_local_logins: true,
            has_page_logins: true,
            language: "en",
            forwarded_proto: HeaderName::from_static("x-forwarded-proto"),
            instance: "".into(),
            url_prefix: String::new(),
            public_url: None,
            trust_proxy,
            max_body_size: 1,
            request_timeout: Duration::from_secs(1),
            has_pages: false,
            web_login: false,
            title: String::new(),
            metrics: MetricsConfig::default(),
            are_traced: false,
            audit: false,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let connection = Connection {
            peer: "10.0.0.1".parse().ok(),
            prefix: "/npm",
            is_tls: false,
        };
        let base = base_url(&settings, &Bases::default(), &headers, &connection).unwrap();
        assert_eq!(base.as_str(), expected, "{sent:?}");
    }

    #[test]
    fn forwarded_headers_count_behind_a_trusted_proxy_only() {
        let forwarded = [
            ("host", "inner:4873"),
            ("x-forwarded-host", "npm.example, inner"),
            ("x-forwarded-proto", "https,http"),
        ];
        check(TrustProxy::No, &forwarded, "http://inner:4873/npm");
        check(TrustProxy::Yes, &forwarded, "https://npm.example/npm");
        let ours = TrustProxy::From(vec!["10.0.0.0/8".parse().unwrap()]);
        check(ours, &forwarded, "https://npm.example/npm");
        let others = TrustProxy::From(vec!["192.168.0.0/16".parse().unwrap()]);
        check(others, &forwarded, "http://inner:4873/npm");
        let with_port = [
            ("x-forwarded-host", "npm.example"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/outer/"),
        ];
        check(
            TrustProxy::Yes,
            &with_port,
            "https://npm.example:8443/outer/npm",
        );
    }

    #[test]
    fn a_host_that_is_none_is_not_repeated() {
        for host in ["a\"b", "a/b", "a b", "<x>", "user@host", "", "a?b", "a#b"] {
            check(
                TrustProxy::No,
                &[("host", host)],
                "http://localhost:4873/npm",
            );
        }
        check(TrustProxy::No, &[("host", "[::1]:80")], "http://[::1]/npm");
    }
}
