//! Which proxies requests go through: the configured ones, else those of the environment.

use std::sync::Arc;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, NoProxy, Proxy};

use super::client::ClientOptions;

/// Addresses that no list of exceptions names, to find out what the environment says.
const SOME_HTTP: &str = "http://proxy-check.invalid/";
const SOME_HTTPS: &str = "https://proxy-check.invalid/";

type Make = fn(String) -> reqwest::Result<Proxy>;

/// The hosts of all proxies that requests with `options` may go through.
pub(super) fn proxy_hosts(options: &ClientOptions) -> Arc<[String]> {
    let system = Matcher::from_system();
    [
        (&options.http_proxy, SOME_HTTP),
        (&options.https_proxy, SOME_HTTPS),
    ]
    .into_iter()
    .filter_map(|(configured, some)| match configured {
        Some(proxy) => proxy.host_str().map(str::to_owned),
        None => {
            let proxy = system.intercept(&Uri::from_static(some))?;
            proxy.uri().host().map(str::to_owned)
        }
    })
    .collect()
}

/// Makes requests go through the proxies of `options`.
pub(super) fn through_proxies(
    mut builder: ClientBuilder,
    options: &ClientOptions,
) -> reqwest::Result<ClientBuilder> {
    let is_configured = options.http_proxy.is_some()
        || options.https_proxy.is_some()
        || !options.no_proxy.is_empty();
    if !is_configured {
        // The library's default: what the environment says.
        return Ok(builder);
    }
    let exceptions = if options.no_proxy.is_empty() {
        NoProxy::from_env()
    } else {
        NoProxy::from_string(&options.no_proxy.join(","))
    };
    let system = Matcher::from_system();
    builder = builder.no_proxy();
    let schemes: [(_, Make, _); 2] = [
        (&options.http_proxy, Proxy::http, SOME_HTTP),
        (&options.https_proxy, Proxy::https, SOME_HTTPS),
    ];
    for (configured, make, some) in schemes {
        let of_environment = || system.intercept(&Uri::from_static(some));
        let proxy = if let Some(proxy) = configured {
            make(proxy.to_string())?
        } else if let Some(found) = of_environment() {
            let proxy = make(found.uri().to_string())?;
            match found.basic_auth() {
                Some(credentials) => proxy.custom_http_auth(credentials.clone()),
                None => proxy,
            }
        } else {
            continue;
        };
        builder = builder.proxy(proxy.no_proxy(exceptions.clone()));
    }
    Ok(builder)
}
