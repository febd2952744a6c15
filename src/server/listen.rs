//! [`bind`]: opens every address that the settings name.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};

use super::tls::Tls;
use crate::config::ListenAddress;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}` (RUSTACCIO_BIND, or `listen` in the file): {reason}")]
pub struct ListenError {
    address: String,
    reason: String,
    #[source]
    source: io::Error,
}

/// An open socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// The certificate, if it speaks TLS.
    pub(super) tls: Option<Tls>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A connection as it was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// The file of a unix socket; removed with it.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already, which is as good.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A response is written in few pieces; waiting for more only delays it.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Socket::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// The address that it has; with the port that the system chose where that was 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.socket, self.tcp_address()) {
            (Socket::Unix(_, file), _) => write!(f, "unix:{}", file.0.display()),
            (Socket::Tcp(_), Some(address)) if self.tls.is_some() => write!(f, "https://{address}"),
            (Socket::Tcp(_), Some(address)) => write!(f, "http://{address}"),
            (Socket::Tcp(_), None) => f.write_str("a closed socket"),
        }
    }
}

/// Opens all addresses, or none. With a certificate, TCP speaks TLS where the address does not say
/// otherwise.
pub async fn bind(
    addresses: &[ListenAddress],
    tls: Option<&Tls>,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let opened = match address {
            ListenAddress::Tcp { host, port, .. } => bind_host(host, *port).await,
            ListenAddress::Unix(path) => bind_unix(path).await.map(|socket| vec![socket]),
        };
        let opened = opened.map_err(|source| ListenError {
            address: address.to_string(),
            reason: reason(&source),
            source,
        })?;
        let wants_tls = match address {
            ListenAddress::Tcp { tls, .. } => tls.unwrap_or(true),
            // Who can open the file is on this machine.
            ListenAddress::Unix(_) => false,
        };
        let tls = tls.filter(|_| wants_tls);
        listeners.extend(opened.into_iter().map(|socket| Listener {
            socket,
            tls: tls.cloned(),
        }));
    }
    Ok(listeners)
}

/// A name such as `localhost` has addresses of two families, of which a machine may lack one.
async fn bind_host(host: &str, port: u16) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match bind_tcp(address) {
            Ok(listener) => sockets.push(Socket::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    if sockets.is_empty() {
        Err(failure)
    } else {
        Ok(sockets)
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Else a restart would have to wait for the last connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn bind_unix(path: &Path) -> io::Result<Socket> {
    match UnixListener::bind(path) {
        Ok(listener) => Ok(Socket::Unix(listener, SocketFile(path.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // The file may be left over from a process that was killed.
            if UnixStream::connect(path).await.is_ok() {
                return Err(error);
            }
            remove_socket(path)?;
            let listener = UnixListener::bind(path)?;
            Ok(Socket::Unix(listener, SocketFile(path.to_owned())))
        }
        Err(error) => Err(error),
    }
}

/// Removes the file at `path` if it is a socket: a mistyped setting must cost nobody a file.
fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;

    if fs::symlink_metadata(path)?.file_type().is_socket() {
        fs::remove_file(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of this name that is not a socket",
        ))
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another address".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 and foreign folders need more rights".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; 0.0.0.0 means all that it has".to_owned()
        }
        _ => error.to_string(),
    }
}
