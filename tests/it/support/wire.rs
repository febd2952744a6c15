//! A wire between a registry and a store, which counts requests and can be cut.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How much later each piece comes over a slow wire.
const DELAY: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Whole,
    /// Everything takes a while.
    Slow,
    /// Connections break.
    Cut,
    /// Nothing moves.
    Stuck,
}

/// What was asked, line by line.
type Asked = Arc<Mutex<Vec<String>>>;
/// A part of the path whose answer is to be lost.
type Lost = Arc<Mutex<Option<String>>>;

/// Leads from a port of its own to another; stops when dropped.
pub(crate) struct Line {
    pub(crate) url: String,
    wire: watch::Sender<Wire>,
    asked: Arc<Mutex<Vec<String>>>,
    lost: Arc<Mutex<Option<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// To the store at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let target = url.split_once("//").unwrap().1.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}", listener.local_addr().unwrap());
        let (wire, state) = watch::channel(Wire::Whole);
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let (seen, loses) = (Arc::clone(&asked), Arc::clone(&lost));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, state) = (target.clone(), state.clone());
                let notes = (Arc::clone(&seen), Arc::clone(&loses));
                tokio::spawn(carry(client, target, state, notes));
            }
        });
        Self {
            url: own,
            wire,
            asked,
            lost,
            task,
        }
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Loses the answer to the next PUT whose path has `part` in it: the store does what it is asked,
    /// and the connection breaks.
    pub(crate) fn lose_answer_to(&self, part: &str) {
        *self.lost.lock().unwrap() = Some(part.to_owned());
    }

    /// Whether the answer that was to be lost is lost.
    pub(crate) fn has_lost_it(&self) -> bool {
        self.lost.lock().unwrap().is_none()
    }

    /// Method and path of all requests since this was last asked.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn carry(
    mut client: TcpStream,
    target: String,
    mut state: watch::Receiver<Wire>,
    (asked, lost): (Asked, Lost),
) {
    if *state.borrow() == Wire::Cut {
        return;
    }
    let Ok(mut store) = TcpStream::connect(target).await else {
        return;
    };
    let mut is_lost = false;
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let now = *state.borrow_and_update();
        match now {
            Wire::Cut => return,
            Wire::Stuck => {
                if state.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Wire::Slow => tokio::time::sleep(DELAY).await,
            Wire::Whole => {}
        }
        let is_moved = tokio::select! {
            changed = state.changed() => changed.is_ok(),
            read = client.read(&mut up) => match read {
                Ok(count) if count > 0 => {
                    if let Some(line) = note(&up[..count], &asked) {
                        let mut lost = lost.lock().unwrap();
                        let is_meant = |part: &String| line.starts_with("PUT") && line.contains(part);
                        is_lost = lost.take_if(|part| is_meant(part)).is_some();
                    }
                    store.write_all(&up[..count]).await.is_ok()
                }
                _ => false,
            },
            read = store.read(&mut down) => match read {
                Ok(_) if is_lost => false,
                Ok(count) if count > 0 => client.write_all(&down[..count]).await.is_ok(),
                _ => false,
            },
        };
        if !is_moved {
            return;
        }
    }
}

/// A request begins in a read of its own: clients wait for the answer to the one before.
fn note(bytes: &[u8], asked: &Mutex<Vec<String>>) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]);
    let (line, _) = text.split_once("\r\n")?;
    let line = line.strip_suffix(" HTTP/1.1")?.to_owned();
    asked.lock().unwrap().push(line.clone());
    Some(line)
}
