//! A proxy as companies have it, and a door that leads elsewhere.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A forward proxy; it leads all names to one address, as if it were the only one who knows them.
pub(crate) struct ForwardProxy {
    /// With a name that is not public, as proxies have.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ForwardProxy {
    pub(crate) async fn before(url: &str) -> Self {
        let (_, target) = url.rsplit_once("//").unwrap();
        let target: SocketAddr = target.replace("localhost", "127.0.0.1").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(forward(client, target, Arc::clone(&seen)));
            }
        });
        Self {
            url: format!("http://localhost:{port}"),
            asked,
            task,
        }
    }

    /// The heads of all requests.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Handles one request; a tunnel lasts as long as its ends want.
async fn forward(mut client: TcpStream, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    asked.lock().unwrap().push(head.clone());
    let mut upstream = TcpStream::connect(target).await.unwrap();
    if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        // `GET http://host/path` becomes `GET /path`.
        let (line, rest) = head.split_once("\r\n").unwrap();
        let mut words = line.split(' ');
        let (method, address) = (words.next().unwrap(), words.next().unwrap());
        let path = address.splitn(4, '/').nth(3).unwrap();
        let request = format!("{method} /{path} HTTP/1.1\r\nconnection: close\r\n{rest}");
        upstream.write_all(request.as_bytes()).await.unwrap();
    }
    let _ = copy_bidirectional(&mut client, &mut upstream).await;
}

/// An address that leads to another one, which may be told later.
pub(crate) struct Door {
    pub(crate) url: String,
    listener: TcpListener,
}

impl Door {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { url, listener }
    }

    /// From now on it leads to `url`, until the test ends. How many went through, is counted.
    pub(crate) fn lead_to(self, url: &str) -> Arc<AtomicUsize> {
        let count: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&count);
        let target: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = self.listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        count
    }
}
