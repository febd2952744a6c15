//! Settings of connections to uplinks, as an uplink sees them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Barrier,
};

use crate::support::Registry;

const PATIENCE: Duration = Duration::from_secs(60);

/// An uplink that has nothing, answers so many requests at once, and counts connections.
struct Uplink {
    address: SocketAddr,
    closed: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Uplink {
    async fn start(at_once: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closed: Arc<AtomicUsize> = Arc::default();
        let (closings, barrier) = (Arc::clone(&closed), Arc::new(Barrier::new(at_once)));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (closings, barrier) = (Arc::clone(&closings), Arc::clone(&barrier));
                tokio::spawn(async move {
                    let _ = answer(stream, &barrier).await;
                    closings.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            closed,
            task,
        }
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    async fn registry(&self, setting: &str, value: &str) -> Registry {
        let url = format!("http://{}/", self.address);
        Registry::start(&[("RUSTACCIO_UPSTREAM", &url), (setting, value)]).await
    }
}

/// Answers until the other side closes.
async fn answer(mut stream: TcpStream, barrier: &Barrier) -> std::io::Result<()> {
    let mut head = [0; 4096];
    while stream.read(&mut head).await? > 0 {
        barrier.wait().await;
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).await?;
    }
    Ok(())
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, waiting).await;
    done.expect("it does not become so");
}

#[tokio::test]
async fn idle_ones_are_closed_in_time() {
    const IDLE: &str = "RUSTACCIO_UPSTREAM_POOL_IDLE_TIMEOUT_SECS";
    let (left, kept) = tokio::join!(Uplink::start(1), Uplink::start(1));
    let registries = tokio::join!(left.registry(IDLE, "1"), kept.registry(IDLE, "3600"));
    for registry in [&registries.1, &registries.0] {
        registry.get("/app").await.assert(404);
    }
    until(|| left.closed() == 1).await;
    assert_eq!(kept.closed(), 0);
}

#[tokio::test]
async fn no_more_are_kept_than_allowed() {
    const MOST: &str = "RUSTACCIO_UPSTREAM_POOL_MAX_IDLE_PER_HOST";
    let (one, many) = tokio::join!(Uplink::start(3), Uplink::start(3));
    let registries = tokio::join!(one.registry(MOST, "1"), many.registry(MOST, "3"));
    for registry in [&registries.1, &registries.0] {
        let asked = ["/a", "/b", "/c"].map(|path| registry.get(path));
        for answer in join_all(asked).await {
            answer.assert(404);
        }
    }
    until(|| one.closed() == 2).await;
    assert_eq!(many.closed(), 0);
}

/// When the kernel looks whether a connection to `port` still stands, in seconds.
fn next_probe(port: u16) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let suffix = format!(":{port:04X}");
    let rows = text
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut established = rows.filter(|row| row[2].ends_with(&suffix) && row[3] == "01");
    let (timer, ticks) = established.next()?[5].split_once(':')?;
    // Ticks for users are hundredths of a second everywhere.
    (timer == "02").then(|| u64::from_str_radix(ticks, 16).unwrap() / 100)
}

#[tokio::test]
async fn they_are_looked_after_as_often_as_it_shall_be() {
    for (seconds, range) in [("7", 0..=7), ("3000", 2000..=3000)] {
        let uplink = Uplink::start(1).await;
        let setting = "RUSTACCIO_UPSTREAM_TCP_KEEPALIVE_SECS";
        let registry = uplink.registry(setting, seconds).await;
        registry.get("/app").await.assert(404);
        let probe = next_probe(uplink.address.port());
        assert!(
            probe.is_some_and(|probe| range.contains(&probe)),
            "{probe:?}"
        );
    }
}

/// Nobody takes connections from the queue, which is full.
#[tokio::test]
async fn one_that_cannot_be_made_is_given_up_in_time() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await
    {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue is never full");
    }
    let url = format!("http://{address}/");
    let start = async |seconds| {
        Registry::start(&[
            ("RUSTACCIO_UPSTREAM", &url),
            ("RUSTACCIO_UPSTREAM_CONNECT_TIMEOUT_SECS", seconds),
            ("RUSTACCIO_UPSTREAM_TIMEOUT_SECS", "3600"),
        ])
        .await
    };
    let (short, long) = tokio::join!(start("1"), start("300"));
    let patient = long.get("/app");
    tokio::pin!(patient);
    tokio::select! {
        answer = short.get("/app") => assert!(answer.status.is_server_error()),
        _ = &mut patient => panic!("it was given up too early"),
    }
}
