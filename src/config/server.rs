//! Where the server listens, and what it puts up with.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use http::HeaderName;
use ipnet::IpNet;

use crate::models::BaseUrl;

/// One place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A host name or address (without brackets), and a port; port 0 takes any free one.
    Tcp {
        /// Host name, IPv4 or IPv6 address.
        host: String,
        /// Port.
        port: u16,
        /// Whether it speaks TLS; `None`: if there is a certificate.
        tls: Option<bool>,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whose forwarded headers count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TrustProxy {
    /// Nobody's.
    #[default]
    No,
    /// Everybody's: the server can be reached through the proxy only.
    Yes,
    /// Those of connections from these networks.
    From(Vec<IpNet>),
}

impl TrustProxy {
    /// Whether forwarded headers of a connection from `peer` count. `None` is a unix socket.
    pub fn covers(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Self::No, _) => false,
            (Self::Yes, _) | (Self::From(_), None) => true,
            (Self::From(networks), Some(peer)) => networks
                .iter()
                .any(|network| network.contains(&peer.to_canonical())),
        }
    }
}

/// The files of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate and those between it and the root, in PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM.
    pub key: Option<PathBuf>,
}

/// Settings of the HTTP server and of the runtime below it.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: Vec<ListenAddress>,
    /// The certificate, if there is one.
    pub tls: TlsConfig,
    /// The address that clients use, if it is not the one that they send.
    pub public_url: Option<BaseUrl>,
    /// Whose forwarded headers count.
    pub trust_proxy: TrustProxy,
    /// The header in which they say whether the client uses TLS.
    pub forwarded_proto: HeaderName,
    /// The largest request body in bytes.
    pub max_body_size: u64,
    /// How long an idle connection is kept.
    pub keep_alive_timeout: Duration,
    /// The time without progress after which a request is given up.
    pub request_timeout: Duration,
    /// Threads that run requests; `None` for as many as there are processors, at most 8.
    pub worker_threads: Option<usize>,
    /// Threads for blocking work.
    pub max_blocking_threads: usize,
    /// Stack of each thread in bytes.
    pub thread_stack_size: usize,
    /// Whether to try upstream's and the bucket's addresses at start.
    pub startup_connectivity_check: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 4873,
                tls: None,
            }],
            tls: TlsConfig::default(),
            public_url: None,
            trust_proxy: TrustProxy::No,
            forwarded_proto: HeaderName::from_static("x-forwarded-proto"),
            max_body_size: 50 * 1024 * 1024,
            keep_alive_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(30),
            worker_threads: None,
            max_blocking_threads: 64,
            thread_stack_size: 1024 * 1024,
            startup_connectivity_check: false,
        }
    }
}
