//! [`probe`]: whether an address can be reached at all.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// Tries to connect to every address of `host`, one after the other; each may take `patience`.
pub async fn probe(
    host: &str,
    port: u16,
    patience: Duration,
) -> io::Result<Vec<(SocketAddr, io::Result<()>)>> {
    let mut results = Vec::new();
    for address in lookup_host((host, port)).await? {
        let connected = timeout(patience, TcpStream::connect(address)).await;
        let result = match connected {
            Ok(stream) => stream.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        results.push((address, result));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn open_and_closed_ports_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = probe("127.0.0.1", port, Duration::from_secs(5))
            .await
            .unwrap();
        assert!(open[0].1.is_ok());
        drop(listener);
        let closed = probe("127.0.0.1", port, Duration::from_secs(5))
            .await
            .unwrap();
        assert!(closed[0].1.is_err());
    }
}
