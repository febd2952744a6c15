//! What stands behind a proxy and shows what arrives: the bytes of a request as they came, and each
//! part of an answer when the test wants it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(super) struct Bare {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// One request that has arrived, and its connection.
pub(super) struct Arrival {
    stream: TcpStream,
    /// Its first line and its headers.
    pub(super) head: String,
    /// How many bytes have come after that.
    pub(super) body: usize,
}

impl Bare {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The next request, whose head is here.
    pub(super) async fn next(&self) -> Arrival {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "cut off");
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                return Arrival {
                    stream,
                    head: String::from_utf8(bytes[..end].to_vec()).unwrap(),
                    body: bytes.len() - end - 4,
                };
            }
        }
    }
}

impl Arrival {
    /// Method and path as they came.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// All values of a header.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let headers = self.head.lines().skip(1);
        headers
            .filter_map(|line| line.split_once(':'))
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// Waits for this many bytes after the head.
    pub(super) async fn wait_for_body(&mut self, length: usize) {
        let mut buffer = vec![0; 64 * 1024];
        while self.body < length {
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "cut off after {} bytes", self.body);
            self.body += count;
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A whole answer.
    pub(super) async fn answer(mut self) {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        self.send(answer).await;
    }
}
