//! [`Tls`]: the certificate, and its renewal without a restart.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    },
    server::TlsStream,
};

use crate::{config::TlsConfig, lifecycle::Lifecycle};

/// What clients may choose: Deno takes HTTP/2, all others HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}` ({variable}, or `{key}` in the file): {reason}", path.display())]
pub struct TlsError {
    variable: &'static str,
    key: &'static str,
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn certificate(path: &Path, reason: &dyn Display) -> Self {
        Self {
            variable: "RUSTACCIO_TLS_CERT",
            key: "https.cert",
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn key(path: &Path, reason: &dyn Display) -> Self {
        Self {
            variable: "RUSTACCIO_TLS_KEY",
            key: "https.key",
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The variable that names the file.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it cannot be used.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The certificate that connections are served with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads the files of `config`; `None` if it names none.
    pub async fn open(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
            return Ok(None);
        };
        let read = read(certificate, key).await?;
        Ok(Some(Self {
            certificate: certificate.clone(),
            key: key.clone(),
            config: Arc::new(RwLock::new(Arc::new(read))),
        }))
    }

    /// All that is wrong with the files of `config`.
    pub async fn check(config: &TlsConfig) -> Vec<TlsError> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
            return Vec::new();
        };
        let (chain, private) = (read_chain(certificate).await, read_key(key).await);
        match (chain, private) {
            (Ok(chain), Ok(private)) => {
                let combined = combine(chain, private, certificate, key);
                combined.err().into_iter().collect()
            }
            (chain, private) => chain.err().into_iter().chain(private.err()).collect(),
        }
    }

    /// Reads the files again. New connections get what is in them now.
    pub async fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.certificate, &self.key).await?;
        *self.config.write() = Arc::new(read);
        Ok(())
    }

    /// Reads the files again whenever the process gets a SIGHUP.
    pub fn reload_on_hangup(&self, lifecycle: &Lifecycle) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (tls, stopped) = (self.clone(), lifecycle.clone());
        // Not tracked: it waits for signals, and nobody waits for it.
        lifecycle.spawn_untracked(async move {
            loop {
                tokio::select! {
                    _ = hangup.recv() => {}
                    () = stopped.shutdown_begun() => return,
                }
                match tls.reload().await {
                    Ok(()) => tracing::info!("the certificate was read again"),
                    Err(error) => {
                        tracing::error!(%error, "the certificate stays as it was");
                    }
                }
            }
        });
        Ok(())
    }

    /// Greets a client.
    pub(super) async fn accept<T>(&self, stream: T) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.config.read());
        TlsAcceptor::from(config).accept(stream).await
    }
}

async fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = read_chain(certificate).await?;
    combine(chain, read_key(key).await?, certificate, key)
}

async fn read_chain(certificate: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = tokio::fs::read(certificate).await;
    let chain = chain.map_err(|error| TlsError::certificate(certificate, &error))?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|error| TlsError::certificate(certificate, &error))?;
    if chain.is_empty() {
        return Err(TlsError::certificate(
            certificate,
            &"no certificate is in it; it has to be in PEM, with `-----BEGIN CERTIFICATE-----`",
        ));
    }
    Ok(chain)
}

async fn read_key(key: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let private = tokio::fs::read(key).await;
    let private = private.map_err(|error| TlsError::key(key, &error))?;
    let private = PrivateKeyDer::from_pem_slice(&private);
    private.map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::key(
            key,
            &"no private key is in it; it has to be in PEM, with `-----BEGIN PRIVATE KEY-----`",
        ),
        error => TlsError::key(key, &error),
    })
}

/// What connections are served with; `certificate` and `key` are the files that it comes from.
fn combine(
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    certificate: &Path,
    key: &Path,
) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::key(
            key,
            &format!(
                "it is not the key of the certificate in `{}`",
                certificate.display()
            ),
        ),
        error => TlsError::key(key, &error),
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
