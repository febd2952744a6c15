//! [`Trail`]: the trail of audit, a file of JSON lines that is only ever added to.
//!
//! A line is in the file (handed to the system by one write) before its request is answered, and on
//! disk within a second. Where the file cannot be written the registry goes on: lines that are lost
//! are counted, logged, and told of by a line of their own once there is room again.

mod file;
mod line;
mod tail;

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
    sync::{Semaphore, mpsc, oneshot},
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
/// How many may read its end at a time.
const READERS: usize = 4;
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
    path: Arc<Path>,
    readers: Arc<Semaphore>,
}

/// What the next line that is written comes behind.
#[derive(Debug, Default)]
struct Unwritten {
    /// Requests that a limit has refused.
    limited: AtomicU64,
    /// Lines for which there was no place.
    lost: AtomicU64,
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
        let own_path: Arc<Path> = path.as_path().into();
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
            path: own_path,
            readers: Arc::new(Semaphore::new(READERS)),
        }))
    }

    /// The last lines, at most `most`, the newest first.
    pub(super) async fn last_lines(&self, most: usize) -> std::io::Result<Vec<String>> {
        // A disk that hangs takes no more threads than these.
        let Ok(reader) = Arc::clone(&self.readers).try_acquire_owned() else {
            return Err(std::io::ErrorKind::ResourceBusy.into());
        };
        let path = Arc::clone(&self.path);
        let read = on_disk(move || {
            let _reader = reader;
            tail::last_lines(&path, most)
        });
        let late = |_| Err(std::io::ErrorKind::TimedOut.into());
        timeout(PATIENCE, read).await.unwrap_or_else(late)
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
            let before = self.unwritten.lost.fetch_add(1, Ordering::Relaxed);
            if is_worth_a_word(before, before + 1) {
                tracing::error!(
                    lost = before + 1,
                    "lines of the audit trail are lost: the disk does not keep up"
                );
            }
        }
        taken
    }
}

impl Unwritten {
    fn is_any(&self) -> bool {
        self.limited.load(Ordering::Relaxed) > 0 || self.lost.load(Ordering::Relaxed) > 0
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
        let unplaced = self.unwritten.lost.swap(0, Ordering::Relaxed);
        self.lost = self.lost.saturating_add(unplaced);
        if self.lost > 0 {
            lines.extend(Line::of_gap(now, self.lost).to_bytes());
        }
        let limited = self.unwritten.limited.swap(0, Ordering::Relaxed);
        if limited > 0 {
            lines.extend(Line::of_limited(now, limited).to_bytes());
        }
        let said = lines.len();
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
        let appended = match on_disk(work).await {
            Ok((file, appended)) => {
                self.file = Some(file);
                appended
            }
            Err(error) => Err(error.into()),
        };
        let written = match &appended {
            Ok(()) => batch.len(),
            Err(unfinished) => whole_lines(batch, unfinished.written.saturating_sub(said)),
        };
        let is_said = match &appended {
            Ok(()) => true,
            Err(unfinished) => unfinished.written >= said,
        };
        if is_said {
            if self.lost > 0 {
                tracing::warn!(lost = self.lost, "the audit trail can be written again");
            }
            self.lost = 0;
        } else {
            self.unwritten.limited.fetch_add(limited, Ordering::Relaxed);
        }
        if appended.is_ok() || written > 0 {
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        if let Err(unfinished) = appended {
            self.lose(batch.len() - written, &unfinished.error);
        }
        for (at, entry) in batch.drain(..).enumerate() {
            self.metrics.audit_line(if at < written {
                Outcome::Delivered
            } else {
                Outcome::Dropped
            });
            if let Some(waits) = entry.written {
                // Nobody waits any more, where it took long.
                let _ = waits.send(());
            }
        }
    }

    fn lose(&mut self, count: usize, error: &std::io::Error) {
        let before = self.lost;
        self.lost = before.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        // The log may lie on the same disk.
        if is_worth_a_word(before, self.lost) {
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

/// How many lines of a batch are whole in its first bytes.
fn whole_lines(batch: &[Entry], bytes: usize) -> usize {
    let mut left = bytes;
    let is_whole = |entry: &&Entry| {
        let rest = left.checked_sub(entry.line.len());
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    batch.iter().take_while(is_whole).count()
}

/// Whether the log shall hear that so many are lost now: of many it hears less and less often.
fn is_worth_a_word(before: u64, now: u64) -> bool {
    before.checked_ilog2() != now.checked_ilog2()
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::SystemClock;

    fn entry(line: &[u8]) -> Entry {
        Entry {
            line: line.to_vec(),
            written: None,
        }
    }

    #[test]
    fn a_line_that_is_cut_is_lost_and_those_before_it_are_not() {
        let batch = [entry(b"1\n"), entry(b"23\n"), entry(b"4\n")];
        let whole = [0, 1, 2, 4, 5, 6, 7, 9].map(|bytes| whole_lines(&batch, bytes));
        assert_eq!(whole, [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[tokio::test]
    async fn lines_for_which_there_is_no_place_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let config = AuditLogConfig {
            file: Some(path.clone()),
            ..AuditLogConfig::default()
        };
        let (metrics, lifecycle) = (Metrics::counting(), Lifecycle::new());
        let clock: SharedClock = Arc::new(SystemClock);
        let trail = Trail::open(&config, &clock, &metrics, &lifecycle).await;
        let trail = trail.unwrap().unwrap();
        // Nobody writes before this task waits, as if the disk hung.
        for _ in 0..CAPACITY + 3 {
            trail.hand_over(b"{}\n".to_vec());
        }
        assert!(lifecycle.drain(Duration::from_secs(60)).await);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().filter(|line| *line == "{}").count(), CAPACITY);
        let lost: Vec<&str> = text.lines().filter(|line| *line != "{}").collect();
        let [lost] = lost[..] else {
            panic!("{lost:?}");
        };
        assert!(lost.contains("\"lines_lost\":3"), "{lost}");
        assert!(lost.contains("\"audit.lines_lost\""), "{lost}");
    }
}
