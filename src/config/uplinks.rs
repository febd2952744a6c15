//! The upstream registries.

use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderValue};
use secrecy::SecretString;
use url::Url;

use crate::models::UplinkName;

/// How an uplink wants to be convinced.
#[derive(Clone, Debug)]
pub enum UplinkAuth {
    /// `Authorization: Bearer <token>`.
    Bearer(SecretString),
    /// `Authorization: Basic <token>`, already in base64.
    Basic(SecretString),
}

/// One upstream registry, with Verdaccio's keys.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// Its base address, without a trailing slash in the path.
    pub url: Url,
    /// The time without progress after which a request is given up.
    pub timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub pool_idle_timeout: Duration,
    /// How many idle connections are kept.
    pub pool_max_idle: usize,
    /// The interval of TCP keep-alive probes.
    pub tcp_keepalive: Duration,
    /// How long a document is fresh.
    pub maxage: Duration,
    /// Consecutive failures after which the uplink is left alone.
    pub max_fails: u32,
    /// For how long it is left alone.
    pub fail_timeout: Duration,
    /// Whether its tarballs are kept on disk.
    pub cache: bool,
    /// The largest tarball in bytes; no setting changes it.
    pub max_tarball: u64,
    /// Whether its certificate is checked.
    pub strict_ssl: bool,
    /// A file with a certificate authority to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Headers added to every request, overruling ours.
    pub headers: HeaderMap<HeaderValue>,
    /// Credentials, sent to the uplink's own origin only.
    pub auth: Option<UplinkAuth>,
    /// Proxy for `http` addresses; `None` for the environment's.
    pub http_proxy: Option<Url>,
    /// Proxy for `https` addresses; `None` for the environment's.
    pub https_proxy: Option<Url>,
    /// Host suffixes that are asked directly.
    pub no_proxy: Vec<String>,
}

impl UplinkConfig {
    /// An uplink at `url` with the defaults of everything else.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(3),
            pool_idle_timeout: Duration::from_secs(30),
            pool_max_idle: 4,
            tcp_keepalive: Duration::from_secs(30),
            maxage: Duration::from_secs(120),
            max_fails: 2,
            fail_timeout: Duration::from_secs(300),
            cache: true,
            max_tarball: 4 << 30,
            strict_ssl: true,
            ca: None,
            headers: HeaderMap::new(),
            auth: None,
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
        }
    }
}

/// All uplinks, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct UplinksConfig {
    /// Name and settings of each.
    pub uplinks: Vec<(UplinkName, UplinkConfig)>,
    /// Origins (`https://host[:port]`) that tarballs may come from although they are private or
    /// foreign.
    pub allowed_origins: Vec<Url>,
    /// Whether searches look for what is hosted here alone.
    pub searches_are_local: bool,
}
