//! Certificates, and a proxy that ends TLS before a registry as nginx or a load balancer does.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::Router;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustaccio::{
    config::{ListenAddress, TlsConfig},
    lifecycle::Lifecycle,
    server::{ServeOptions, Tls, bind, serve},
    telemetry::Connections,
};
use tempfile::TempDir;

use super::front::router_behind_tls;

/// Someone who signs certificates for this machine, whom clients may trust.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { folder, issuer };
        authority.renew();
        authority
    }

    /// What clients need to trust it.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes a new certificate for this machine over the last one. Its DER form.
    pub(crate) fn renew(&self) -> Vec<u8> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let folder = self.folder.path();
        std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    /// The files that a server needs.
    pub(crate) fn settings(&self) -> TlsConfig {
        TlsConfig {
            certificate: Some(self.folder.path().join("cert.pem")),
            key: Some(self.folder.path().join("key.pem")),
        }
    }
}

/// A running listener that speaks TLS; stops when dropped.
pub(crate) struct Secure {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    lifecycle: Lifecycle,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.lifecycle.stop_now();
    }
}

/// Serves `router` over TLS.
pub(crate) async fn serve_over_tls(router: Router, authority: &Authority) -> Secure {
    let tls = Tls::open(&authority.settings()).await.unwrap().unwrap();
    let address = ListenAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
        tls: None,
    };
    let listeners = bind(&[address], Some(&tls)).await.unwrap();
    let address = listeners[0].tcp_address().unwrap();
    let lifecycle = Lifecycle::new();
    let options = ServeOptions {
        keep_alive_timeout: Duration::from_secs(60),
        stall_timeout: Duration::from_secs(60),
        max_connections: 1000,
        connections: Connections::default(),
    };
    let served = lifecycle.clone();
    // It ends with the lifecycle.
    drop(
        lifecycle.spawn_untracked(async move { serve(listeners, router, options, &served).await }),
    );
    Secure {
        url: format!("https://localhost:{}", address.port()),
        address,
        lifecycle,
    }
}

/// A proxy before the registry at `url`, which tells it by forwarded headers what clients see.
pub(crate) async fn proxy_before(url: &str, authority: &Authority) -> Secure {
    serve_over_tls(router_behind_tls(url), authority).await
}
