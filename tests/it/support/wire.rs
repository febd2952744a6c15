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

/// Leads from a port of its own to another; stops when dropped.
pub(crate) struct Line {
    pub(crate) url: String,
    wire: watch::Sender<Wire>,
    asked: Arc<Mutex<Vec<String>>>,
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
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, state, seen) = (target.clone(), state.clone(), Arc::clone(&seen));
                tokio::spawn(carry(client, target, state, seen));
            }
        });
        Self {
            url: own,
            wire,
            asked,
            task,
        }
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
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
    asked: Arc<Mutex<Vec<String>>>,
) {
    if *state.borrow() == Wire::Cut {
        return;
    }
    let Ok(mut store) = TcpStream::connect(target).await else {
        return;
    };
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
                    note(&up[..count], &asked);
                    store.write_all(&up[..count]).await.is_ok()
                }
                _ => false,
            },
            read = store.read(&mut down) => match read {
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
fn note(bytes: &[u8], asked: &Mutex<Vec<String>>) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]);
    let Some((line, _)) = text.split_once("\r\n") else {
        return;
    };
    if let Some(line) = line.strip_suffix(" HTTP/1.1") {
        asked.lock().unwrap().push(line.to_owned());
    }
}
