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
/// A part of a path at which something is to happen, once.
type Lost = Arc<Mutex<Option<String>>>;

/// Leads from a port of its own to another; stops when dropped.
pub(crate) struct Line {
    pub(crate) url: String,
    wire: watch::Sender<Wire>,
    asked: Asked,
    lost: Lost,
    cut_at: Lost,
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
        let (asked, lost, cut_at) = (Asked::default(), Lost::default(), Lost::default());
        let (seen, loses, cuts) = (Arc::clone(&asked), Arc::clone(&lost), Arc::clone(&cut_at));
        let cutter = wire.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, state) = (target.clone(), state.clone());
                let notes = Notes {
                    asked: Arc::clone(&seen),
                    lost: Arc::clone(&loses),
                    cut_at: Arc::clone(&cuts),
                    wire: cutter.clone(),
                };
                tokio::spawn(carry(client, target, state, notes));
            }
        });
        Self {
            url: own,
            wire,
            asked,
            lost,
            cut_at,
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

    /// Cuts the wire when something is asked whose path has `part` in it.
    pub(crate) fn cut_at(&self, part: &str) {
        *self.cut_at.lock().unwrap() = Some(part.to_owned());
    }

    /// Method and path of all requests since this was last asked.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// What one connection notes, and is to do at some requests.
struct Notes {
    asked: Asked,
    lost: Lost,
    cut_at: Lost,
    wire: watch::Sender<Wire>,
}

impl Notes {
    fn cuts_at(&self, line: &str) -> bool {
        let mut cut_at = self.cut_at.lock().unwrap();
        let is_cut = cut_at.take_if(|part| line.contains(&**part)).is_some();
        if is_cut {
            self.wire.send_replace(Wire::Cut);
        }
        is_cut
    }
}

async fn carry(
    mut client: TcpStream,
    target: String,
    mut state: watch::Receiver<Wire>,
    notes: Notes,
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
                    if let Some(line) = note(&up[..count], &notes.asked) {
                        if notes.cuts_at(&line) {
                            return;
                        }
                        let mut lost = notes.lost.lock().unwrap();
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
