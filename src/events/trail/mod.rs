//! [`Trail`]: the trail of audit, a file of JSON lines that is only ever added to.
//!
//! A line is in the file (handed to the system by one write) before its request is answered, and on
//! disk within a second. Where the file cannot be written the registry goes on: lines that are lost
//! are counted, logged, and told of by a line of their own once there is room again.

mod file;
mod line;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use file::TrailFile;
pub use line::{Ending, Line};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::EventsError;
use crate::{
    config::AuditLogConfig,
    lifecycle::{Lifecycle, SharedClock},
    telemetry::{Metrics, Outcome},
};

/// How many lines may wait for the disk.
const CAPACITY: usize = 8192;
/// How many are written at once.
const BATCH: usize = 256;
/// How long an answer waits for its line.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long what is written may stay in the system's memory.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

struct Entry {
    line: Vec<u8>,
    /// Told when it is written.
    written: Option<oneshot::Sender<()>>,
}

/// Takes lines in. Clones write to the same file.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    sender: mpsc::Sender<Entry>,
    unwritten: Arc<Unwritten>,
    metrics: Metrics,
}

/// What the next line that is written comes behind.
#[derive(Debug, Default)]
struct Unwritten {
    /// Requests that a limit has refused.
    limited: AtomicU64,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Trail {
    /// Opens the file; `None` where there shall be none.
    pub(super) async fn open(
        config: &AuditLogConfig,
        clock: &SharedClock,
        metrics: &Metrics,
        lifecycle: &Lifecycle,
    ) -> Result<Option<Self>, EventsError> {
        let Some(path) = config.file.clone() else {
            return Ok(None);
        };
        let (max_size, max_files) = (config.max_size, config.max_files);
        let opened = on_disk(move || TrailFile::open(&path, max_size, max_files)).await;
        let file = opened.map_err(|source| EventsError::Trail {
            path: config
                .file
                .as_deref()
                .unwrap_or(Path::new(""))
                .display()
                .to_string(),
            source,
        })?;
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let unwritten = Arc::<Unwritten>::default();
        let writer = Writer {
            file: Some(file),
            unwritten: Arc::clone(&unwritten),
            clock: clock.clone(),
            metrics: metrics.clone(),
            lost: 0,
            unsynced_since: None,
        };
        let ending = lifecycle.clone();
        lifecycle.spawn_last(async move { writer.run(receiver, &ending).await });
        Ok(Some(Self {
            sender,
            unwritten,
            metrics: metrics.clone(),
        }))
    }

    /// Adds a line, and waits until it is written, or for a moment.
    pub(super) async fn write(&self, line: Vec<u8>) {
        let (written, is_written) = oneshot::channel();
        let entry = Entry {
            line,
            written: Some(written),
        };
        if self.send(entry) {
            // One that is late is written all the same.
            let _ = timeout(PATIENCE, is_written).await;
        }
    }

    /// Adds a line without waiting for it.
    pub(super) fn hand_over(&self, line: Vec<u8>) {
        self.send(Entry {
            line,
            written: None,
        });
    }

    /// A request that a limit has refused has no line of its own.
    pub(super) fn count_limited(&self) {
        self.unwritten.limited.fetch_add(1, Ordering::Relaxed);
    }

    fn send(&self, entry: Entry) -> bool {
        let taken = self.sender.try_send(entry).is_ok();
        if !taken {
            self.metrics.audit_line(Outcome::Dropped);
            tracing::error!("a line of the audit trail is lost: the disk does not keep up");
        }
        taken
    }
}

impl Unwritten {
    fn is_any(&self) -> bool {
        self.limited.load(Ordering::Relaxed) > 0
    }
}

/// Writes lines, some at a time, on the blocking pool.
struct Writer {
    /// Away while it is written to.
    file: Option<TrailFile>,
    unwritten: Arc<Unwritten>,
    clock: SharedClock,
    metrics: Metrics,
    /// Lines that could not be written since the last one that could.
    lost: u64,
    unsynced_since: Option<Instant>,
}

impl Writer {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>, lifecycle: &Lifecycle) {
        let mut is_last_call = false;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let sync_at = self.unsynced_since.map(|since| since + SYNC_INTERVAL);
            let next = async {
                match sync_at {
                    Some(at) => timeout_at(at, entries.recv_many(&mut batch, BATCH))
                        .await
                        .ok(),
                    None => Some(entries.recv_many(&mut batch, BATCH).await),
                }
            };
            let received = tokio::select! {
                biased;
                received = next => received,
                _ = lifecycle.last_call(), if !is_last_call => {
                    is_last_call = true;
                    entries.close();
                    continue;
                }
            };
            match received {
                Some(0) => break,
                Some(_) => self.write(&mut batch).await,
                None => {}
            }
            if sync_at.is_some_and(|at| at <= Instant::now()) {
                self.sync().await;
            }
        }
        if self.unwritten.is_any() {
            self.write(&mut batch).await;
        }
        self.sync().await;
    }

    async fn write(&mut self, batch: &mut Vec<Entry>) {
        let now = self.clock.now();
        let mut lines = Vec::new();
        if self.lost > 0 {
            lines.extend(Line::of_gap(now, self.lost).to_bytes());
        }
        let limited = self.unwritten.limited.swap(0, Ordering::Relaxed);
        if limited > 0 {
            lines.extend(Line::of_limited(now, limited).to_bytes());
        }
        for entry in &*batch {
            lines.extend_from_slice(&entry.line);
        }
        let Some(mut file) = self.file.take() else {
            return;
        };
        let work = move || {
            let appended = file.append(&lines, now);
            Ok((file, appended))
        };
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let appended = match on_disk(work).await {
            Ok((file, appended)) => {
                self.file = Some(file);
                appended
            }
            Err(error) => Err(error),
        };
        match appended {
            Ok(()) => {
                if self.lost > 0 {
                    tracing::warn!(lost = self.lost, "the audit trail can be written again");
                }
                self.lost = 0;
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
            Err(error) => {
                self.unwritten.limited.fetch_add(limited, Ordering::Relaxed);
                self.lose(count, &error);
            }
        }
        for entry in batch.drain(..) {
            self.metrics.audit_line(if self.lost > 0 {
                Outcome::Dropped
            } else {
                Outcome::Delivered
            });
            if let Some(written) = entry.written {
                // Nobody waits any more, where it took long.
                let _ = written.send(());
            }
        }
    }

    fn lose(&mut self, count: u64, error: &std::io::Error) {
        let before = self.lost;
        self.lost = before.saturating_add(count);
        // The log may lie on the same disk: of many that are lost it hears less and less often.
        if before.checked_ilog2() != self.lost.checked_ilog2() {
            tracing::error!(%error, lost = self.lost, "the audit trail cannot be written; the registry goes on");
        }
    }

    async fn sync(&mut self) {
        if self.unsynced_since.take().is_none() {
            return;
        }
        let Some(file) = self.file.take() else { return };
        let work = move || {
            let synced = file.sync();
            Ok((file, synced))
        };
        if let Ok((file, synced)) = on_disk(work).await {
            self.file = Some(file);
            if let Err(error) = synced {
                tracing::error!(%error, "the audit trail is not safe from a loss of power");
            }
        }
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
