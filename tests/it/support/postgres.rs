//! Postgres, as `scripts/services/postgres` starts it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::JoinHandle,
};

use super::server::Server;

/// A URL whose tables are nobody else's.
pub(crate) async fn schema() -> String {
    let url = std::env::var("RUSTACCIO_POSTGRES_IT_URL")
        .expect("RUSTACCIO_POSTGRES_IT_URL is not set: run this through ./scripts/test");
    let schema = format!("it_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    connection.execute(create).await.unwrap();
    connection.close().await.unwrap();
    format!("{url}?options[search_path]={schema}")
}

/// The variables of a registry in the database at `url`.
pub(crate) fn variables(url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("RUSTACCIO_METADATA_BACKEND", "transactional".to_owned()),
        ("RUSTACCIO_METADATA_POSTGRES_URL", url.to_owned()),
        ("RUSTACCIO_METADATA_POSTGRES_TIMEOUT_SECS", "3".to_owned()),
    ]
}

/// One of a test's own.
pub(crate) fn server() -> Server {
    Server::start("postgres", "RUSTACCIO_POSTGRES_IT_URL")
}

/// A proxy that swallows notifications, as one that pools transactions does, but for what could be a
/// beat of anybody else.
pub(crate) struct Pooler {
    pub(crate) url: String,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Inner {
    passes_notices: AtomicBool,
    commands: AtomicUsize,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pooler {
    /// Before the database at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let (start, path) = url.rsplit_once('@').unwrap();
        let (target, path) = path.split_once('/').unwrap();
        let (target, listener) = (target.to_owned(), TcpListener::bind("127.0.0.1:0").await);
        let listener = listener.unwrap();
        let own = listener.local_addr().unwrap();
        let inner: Arc<Inner> = Arc::default();
        let shared = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, mut to_client) = client.into_split();
                let server = TcpStream::connect(&target).await.unwrap();
                let (mut from_server, mut to_server) = server.into_split();
                let (shared, mut from_client) = (Arc::clone(&shared), from_client);
                tokio::spawn(async move {
                    let _ = copy(&mut from_client, &mut to_server).await;
                });
                tokio::spawn(async move {
                    while let Ok(message) = shared.next(&mut from_server).await {
                        if to_client.write_all(&message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            url: format!("{start}@{own}/{path}&sslmode=disable"),
            inner,
            task,
        }
    }

    /// From now on notifications arrive.
    pub(crate) fn pass_notices_on(&self) {
        self.inner.passes_notices.store(true, Ordering::SeqCst);
    }

    /// How many commands the database has completed.
    pub(crate) fn commands(&self) -> usize {
        self.inner.commands.load(Ordering::SeqCst)
    }
}

impl Inner {
    /// The next message of the server, or nothing of it.
    async fn next(&self, server: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
        let (kind, length) = (server.read_u8().await?, server.read_u32().await?);
        let mut message = vec![kind];
        message.extend(length.to_be_bytes());
        message.resize(length as usize + 1, 0);
        server.read_exact(&mut message[5..]).await?;
        match kind {
            b'A' if !self.passes_notices.load(Ordering::SeqCst) => message = foreign_beat(&message),
            b'C' => drop(self.commands.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        Ok(message)
    }
}

/// A notification (`A`: its length, the sender's process, the channel and the text, both ended by a
/// zero) as another node's beat, if it is a beat; else nothing.
fn foreign_beat(notice: &[u8]) -> Vec<u8> {
    const BEAT: &[u8] = b"beat";
    let channel = 9 + notice[9..].iter().position(|byte| *byte == 0).unwrap();
    if !notice[channel + 1..].starts_with(BEAT) {
        return Vec::new();
    }
    let mut beat = notice[..=channel].to_vec();
    beat.extend([BEAT, b"\0"].concat());
    let length = u32::try_from(beat.len() - 1).unwrap();
    beat[1..5].copy_from_slice(&length.to_be_bytes());
    beat
}
