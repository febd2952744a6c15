//! Whether what a registry needs can be reached at all, for the log. Nothing depends on it.

use std::{net::SocketAddr, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    config::{
        AuthBackend, Config, CoordinationBackend, MetadataBackend, PolicyBackend, QuotaBackend,
        RateLimitBackend, S3Config, TarballBackend, UplinksConfig,
    },
    net::probe,
};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The least and the most that an uplink's own patience counts for.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Logs which addresses of the uplinks answer; a machine may lack one family of them.
pub(super) async fn check_uplinks(uplinks: &UplinksConfig) {
    check(places_of_uplinks(uplinks)).await;
}

/// The same for all else that the settings name.
pub(super) async fn check_backends(config: &Config) {
    check(places_of_backends(config)).await;
}

async fn check(places: Vec<Place>) {
    futures_util::future::join_all(places.into_iter().map(check_place)).await;
}

async fn check_place(place: Place) {
    let Place {
        what,
        host,
        port,
        patience,
    } = place;
    let results = match probe(&host, port, patience).await {
        Ok(results) => results,
        Err(error) => {
            tracing::warn!(what, host, %error, "has no address");
            return;
        }
    };
    for (family, is_of_it) in [
        ("IPv4", SocketAddr::is_ipv4 as fn(&SocketAddr) -> bool),
        ("IPv6", SocketAddr::is_ipv6),
    ] {
        let mut has_any = false;
        for (address, result) in results.iter().filter(|(address, _)| is_of_it(address)) {
            has_any = true;
            match result {
                Ok(()) => tracing::info!(what, host, family, %address, "can be reached"),
                Err(error) => {
                    tracing::warn!(what, host, family, %address, %error, "cannot be reached");
                }
            }
        }
        if !has_any {
            tracing::info!(what, host, family, "has no address of this family");
        }
    }
}

/// Where something listens.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    what: String,
    host: String,
    port: u16,
    patience: Duration,
}

impl Place {
    /// `None` for what is not reached over TCP.
    fn at(what: &str, address: &str, default_port: u16) -> Option<Self> {
        let url = address.parse::<url::Url>().ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        // A path of a socket has its slashes encoded.
        if host.is_empty() || host.contains('%') {
            return None;
        }
        Some(Self {
            what: what.to_owned(),
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or(default_port),
            patience: PATIENCE,
        })
    }
}

fn places_of_uplinks(uplinks: &UplinksConfig) -> Vec<Place> {
    let places = uplinks.uplinks.iter().filter_map(|(name, uplink)| {
        let place = Place::at(&format!("uplink {name}"), uplink.url.as_str(), 443)?;
        let patience = uplink.connect_timeout.clamp(SHORTEST, LONGEST);
        Some(Place { patience, ..place })
    });
    places.collect()
}

/// Everything but uplinks. A new backend is one more row.
fn places_of_backends(config: &Config) -> Vec<Place> {
    let rows = buckets(config)
        .into_iter()
        .chain(databases(config))
        .chain(services(config));
    let places = rows.filter_map(|(what, address, port)| Place::at(&what, &address?, port));
    places.collect()
}

/// What it is, its address if it is used, and the port where that is not said.
type Row = (String, Option<String>, u16);

fn buckets(config: &Config) -> [Row; 2] {
    let storage = &config.storage;
    let amazon = |s3: &S3Config| {
        let default = || format!("https://s3.{}.amazonaws.com", s3.region);
        s3.endpoint.clone().unwrap_or_else(default)
    };
    let (what, packages) = match storage.tarballs {
        TarballBackend::Local => ("bucket", None),
        TarballBackend::S3 => ("s3", Some(amazon(&storage.s3))),
        TarballBackend::Gcs => {
            let google = || "https://storage.googleapis.com".to_owned();
            let endpoint = storage.gcs.endpoint.clone();
            ("gcs", Some(endpoint.unwrap_or_else(google)))
        }
        TarballBackend::Azure => {
            let azure = || format!("https://{}.blob.core.windows.net", storage.azure.account);
            let endpoint = storage.azure.endpoint.clone();
            ("azure", Some(endpoint.unwrap_or_else(azure)))
        }
    };
    let has_leases = config.coordination.backend == CoordinationBackend::S3;
    let leases = has_leases.then(|| {
        let bucket = &config.coordination.bucket;
        amazon(&bucket.with_packages(&storage.s3))
    });
    [
        (what.to_owned(), packages, 443),
        ("s3 of the leases".to_owned(), leases, 443),
    ]
}

fn databases(config: &Config) -> [Row; 4] {
    let row = |what: &str, is_used: bool, url: &Option<SecretString>, port| {
        let url = url.as_ref().filter(|_| is_used);
        let address = url.map(|url| url.expose_secret().to_owned());
        (what.to_owned(), address, port)
    };
    let (storage, leases) = (&config.storage, &config.coordination);
    let (rate_limit, quota) = (&config.rate_limit, &config.quota);
    let is_transactional = storage.metadata == MetadataBackend::Transactional;
    let has_leases = leases.backend == CoordinationBackend::Redis;
    let has_limit = rate_limit.backend == RateLimitBackend::Redis;
    let has_quota = quota.backend == QuotaBackend::Postgres;
    [
        row("postgres", is_transactional, &storage.postgres.url, 5432),
        row("redis", has_leases, &leases.redis_url, 6379),
        row(
            "redis of the rate limit",
            has_limit,
            &rate_limit.redis_url,
            6379,
        ),
        row(
            "postgres of the quotas",
            has_quota,
            &quota.postgres_url,
            5432,
        ),
    ]
}

fn services(config: &Config) -> Vec<Row> {
    let row = |what: &str, is_used: bool, url: &Option<url::Url>| {
        let url = url.as_ref().filter(|_| is_used);
        (what.to_owned(), url.map(url::Url::to_string), 443)
    };
    let (auth, policy, events) = (&config.auth, &config.policy, &config.events);
    let traces = &config.traces;
    let collector = traces.are_on.then(|| traces.endpoint().to_owned());
    let mut rows = vec![
        row(
            "service of accounts",
            auth.backend == AuthBackend::Http,
            &auth.http.base_url,
        ),
        row(
            "service of decisions",
            policy.backend == PolicyBackend::Http,
            &policy.base_url,
        ),
        row("sink of events", events.is_http, &events.base_url),
        ("collector of traces".to_owned(), collector, 443),
    ];
    let hooks = events.hooks.iter();
    rows.extend(hooks.map(|hook| (hook.path.clone(), Some(hook.endpoint.to_string()), 443)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HookConfig, UplinkConfig};

    fn shown(places: Vec<Place>) -> Vec<String> {
        let places = places.into_iter();
        let shown = places.map(|place| {
            let Place {
                what, host, port, ..
            } = place;
            format!("{what} {host} {port}")
        });
        shown.collect()
    }

    #[test]
    fn every_backend_of_the_settings_is_asked() {
        let mut config = Config::default();
        config.storage.postgres.url = Some("postgres://u:p@db.example/x".into());
        config.rate_limit.redis_url = Some("redis://limits.example".into());
        config.quota.postgres_url = Some("postgres://u:p@quotas.example:7/x".into());
        assert_eq!(places_of_backends(&config), []);
        config.storage.metadata = MetadataBackend::Transactional;
        config.storage.tarballs = TarballBackend::S3;
        config.coordination.backend = CoordinationBackend::Redis;
        config.coordination.redis_url = Some("redis://:secret@[::1]:7000/".into());
        config.rate_limit.backend = RateLimitBackend::Redis;
        config.quota.backend = QuotaBackend::Postgres;
        config.auth.backend = AuthBackend::Http;
        config.auth.http.base_url = "https://accounts.example/v1".parse().ok();
        config.policy.backend = PolicyBackend::Http;
        config.policy.base_url = "http://decisions.example:81/".parse().ok();
        config.events.is_http = true;
        config.events.base_url = "https://events.example/".parse().ok();
        config.events.hooks = vec![hook("notify.chat", "https://chat.example/a-secret")];
        config.traces.are_on = true;
        let amazon = "s3 s3.us-east-1.amazonaws.com 443";
        let rest = [
            "postgres db.example 5432",
            "redis ::1 7000",
            "redis of the rate limit limits.example 6379",
            "postgres of the quotas quotas.example 7",
            "service of accounts accounts.example 443",
            "service of decisions decisions.example 81",
            "sink of events events.example 443",
            "collector of traces 127.0.0.1 4318",
            "notify.chat chat.example 443",
        ];
        let all = shown(places_of_backends(&config));
        assert_eq!(all, [&[amazon], &rest[..]].concat());
        config.storage.s3.endpoint = Some("http://127.0.0.1:9000".to_owned());
        let socket = "postgres://u@%2Frun%2Fpostgres/x";
        config.storage.postgres.url = Some(socket.into());
        let all = shown(places_of_backends(&config));
        assert_eq!(all, [&["s3 127.0.0.1 9000"], &rest[1..]].concat());
    }

    #[test]
    fn each_kind_of_bucket_has_its_address() {
        let mut config = Config::default();
        config.storage.tarballs = TarballBackend::Gcs;
        config.coordination.backend = CoordinationBackend::S3;
        let google = "gcs storage.googleapis.com 443";
        let amazon = "s3 of the leases s3.us-east-1.amazonaws.com 443";
        assert_eq!(shown(places_of_backends(&config)), [google, amazon]);
        config.storage.tarballs = TarballBackend::Azure;
        config.storage.azure.account = "ours".to_owned();
        config.storage.s3.endpoint = Some("http://127.0.0.1:9000".to_owned());
        config.coordination.bucket.endpoint = Some("http://leases.example".to_owned());
        let azure = "azure ours.blob.core.windows.net 443";
        let own = "s3 of the leases leases.example 80";
        assert_eq!(shown(places_of_backends(&config)), [azure, own]);
    }

    fn hook(path: &str, endpoint: &str) -> HookConfig {
        HookConfig {
            path: path.to_owned(),
            endpoint: endpoint.parse().unwrap(),
            method: http::Method::POST,
            headers: http::HeaderMap::new(),
            content: handlebars::Template::compile("{}").unwrap(),
            packages: None,
        }
    }

    #[test]
    fn an_uplink_has_as_long_as_it_says_within_reason() {
        let mut uplinks = UplinksConfig::default();
        uplinks.uplinks.clear();
        for (name, patience) in [("short", 0), ("right", 7), ("long", 600)] {
            let mut uplink = UplinkConfig::new("https://npm.example/".parse().unwrap());
            uplink.connect_timeout = Duration::from_secs(patience);
            uplinks.uplinks.push((name.parse().unwrap(), uplink));
        }
        let places = places_of_uplinks(&uplinks).into_iter();
        let patience: Vec<u64> = places.map(|place| place.patience.as_secs()).collect();
        assert_eq!(patience, [1, 7, 60]);
    }
}
