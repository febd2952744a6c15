//! [`build_client`]: outgoing HTTP with the system's trust roots and proxies.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Certificate, Client, redirect};
use url::Url;

use super::{
    egress::{PublicResolver, Reach},
    proxies::{proxy_hosts, through_proxies},
};

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// The longest time between two pieces of an answer.
    pub read_timeout: Duration,
    /// How long an idle connection is kept.
    pub pool_idle_timeout: Duration,
    /// How many idle connections a host may have.
    pub pool_max_idle: usize,
    /// The interval of TCP keep-alive probes.
    pub tcp_keepalive: Duration,
    /// Whether certificates are checked.
    pub strict_ssl: bool,
    /// A file with certificate authorities to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Proxy for `http` addresses; `None` for the environment's.
    pub http_proxy: Option<Url>,
    /// Proxy for `https` addresses; `None` for the environment's.
    pub https_proxy: Option<Url>,
    /// Host suffixes that are asked directly.
    pub no_proxy: Vec<String>,
    /// What it may connect to.
    pub reach: Reach,
}

impl ClientOptions {
    /// Whether requests may go through a proxy, which resolves names itself.
    pub fn has_proxies(&self) -> bool {
        !proxy_hosts(self).is_empty()
    }
}

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The file with certificate authorities cannot be used.
    #[error("cannot read the certificate authorities in {}: {reason}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library refused the settings.
    #[error("cannot build an HTTP client: {0}")]
    Build(#[from] reqwest::Error),
}

/// The certificate authorities in a PEM file.
#[expect(clippy::disallowed_methods, reason = "reads one small file at start")]
pub fn read_authorities(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let failed = |reason: String| ClientError::Ca {
        path: path.to_owned(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let authorities = Certificate::from_pem_bundle(&pem);
    let authorities = authorities.map_err(|_| failed("it is not PEM".to_owned()))?;
    if authorities.is_empty() {
        return Err(failed("no certificate is in it".to_owned()));
    }
    Ok(authorities)
}

/// Builds a client that follows no redirects: who uses it checks each new address first.
pub fn build_client(options: &ClientOptions) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .user_agent(concat!("rustaccio/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .pool_idle_timeout(options.pool_idle_timeout)
        .pool_max_idle_per_host(options.pool_max_idle)
        .tcp_keepalive(options.tcp_keepalive)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never());
    if options.reach == Reach::PublicOnly {
        builder = builder.dns_resolver(PublicResolver::except(proxy_hosts(options)));
    }
    if !options.strict_ssl {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(path) = &options.ca {
        builder = builder.tls_certs_merge(read_authorities(path)?);
    }
    builder = through_proxies(builder, options)?;
    Ok(builder.build()?)
}
