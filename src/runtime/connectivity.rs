//! Whether what a registry needs can be reached at all, for the log.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::{
    config::{Config, CoordinationBackend, MetadataBackend, TarballBackend, UplinksConfig},
    net::probe,
};

/// How long a store may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Logs which addresses of the uplinks answer; a machine may lack one family of them.
pub(super) async fn check_uplinks(uplinks: &UplinksConfig) {
    for (name, uplink) in &uplinks.uplinks {
        let host = uplink.url.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']);
        let port = uplink.url.port_or_known_default().unwrap_or(443);
        match probe(host, port, uplink.connect_timeout).await {
            Ok(results) => {
                for (address, result) in results {
                    match result {
                        Ok(()) => tracing::info!(uplink.name = %name, %address, "can be reached"),
                        Err(error) => {
                            tracing::warn!(uplink.name = %name, %address, %error, "cannot be reached");
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(uplink.name = %name, host, %error, "has no address");
            }
        }
    }
}

/// The same for the bucket, Postgres and Redis, as far as the settings name them.
pub(super) async fn check_stores(config: &Config) {
    let checks = stores(config).into_iter().map(check_store);
    futures_util::future::join_all(checks).await;
}

async fn check_store(store: Store) {
    let Store { what, host, port } = store;
    match probe(&host, port, PATIENCE).await {
        Ok(results) => {
            for (address, result) in results {
                match result {
                    Ok(()) => tracing::info!(store = what, host, %address, "can be reached"),
                    Err(error) => {
                        tracing::warn!(store = what, host, %address, %error, "cannot be reached");
                    }
                }
            }
        }
        Err(error) => tracing::warn!(store = what, host, %error, "has no address"),
    }
}

/// Where something listens.
#[derive(Debug, PartialEq, Eq)]
struct Store {
    what: &'static str,
    host: String,
    port: u16,
}

impl Store {
    /// `None` for what is not reached over TCP.
    fn at(what: &'static str, address: &str, default_port: u16) -> Option<Self> {
        let url = address.parse::<url::Url>().ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        // A path of a socket has its slashes encoded.
        if host.is_empty() || host.contains('%') {
            return None;
        }
        Some(Self {
            what,
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or(default_port),
        })
    }
}

fn stores(config: &Config) -> Vec<Store> {
    let storage = &config.storage;
    let bucket = match storage.tarballs {
        TarballBackend::Local => None,
        TarballBackend::S3 => {
            let amazon = || format!("https://s3.{}.amazonaws.com", storage.s3.region);
            Some(("s3", storage.s3.endpoint.clone().unwrap_or_else(amazon)))
        }
        TarballBackend::Gcs => {
            let google = || "https://storage.googleapis.com".to_owned();
            Some(("gcs", storage.gcs.endpoint.clone().unwrap_or_else(google)))
        }
        TarballBackend::Azure => {
            let azure = || format!("https://{}.blob.core.windows.net", storage.azure.account);
            Some((
                "azure",
                storage.azure.endpoint.clone().unwrap_or_else(azure),
            ))
        }
    };
    let postgres = storage.postgres.url.as_ref();
    let postgres = postgres.filter(|_| storage.metadata == MetadataBackend::Transactional);
    let redis = config.coordination.redis_url.as_ref();
    let redis = redis.filter(|_| config.coordination.backend == CoordinationBackend::Redis);
    let found = [
        bucket.and_then(|(what, address)| Store::at(what, &address, 443)),
        postgres.and_then(|url| Store::at("postgres", url.expose_secret(), 5432)),
        redis.and_then(|url| Store::at("redis", url.expose_secret(), 6379)),
    ];
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_of_the_settings_is_asked() {
        let mut config = Config::default();
        config.storage.postgres.url = Some("postgres://u:p@db.example/x".into());
        assert_eq!(stores(&config), []);
        config.storage.metadata = MetadataBackend::Transactional;
        config.storage.tarballs = TarballBackend::S3;
        config.coordination.backend = CoordinationBackend::Redis;
        config.coordination.redis_url = Some("redis://:secret@[::1]:7000/".into());
        let shown = |config: &Config| {
            let stores = stores(config).into_iter();
            let shown = stores.map(|store| format!("{} {} {}", store.what, store.host, store.port));
            shown.collect::<Vec<_>>()
        };
        let amazon = "s3 s3.us-east-1.amazonaws.com 443";
        let rest = ["postgres db.example 5432", "redis ::1 7000"];
        assert_eq!(shown(&config), [amazon, rest[0], rest[1]]);
        config.storage.s3.endpoint = Some("http://127.0.0.1:9000".to_owned());
        let socket = "postgres://u@%2Frun%2Fpostgres/x";
        config.storage.postgres.url = Some(socket.into());
        assert_eq!(shown(&config), ["s3 127.0.0.1 9000", rest[1]]);
    }
}
