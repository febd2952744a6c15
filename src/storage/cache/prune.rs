//! Keeping the cache in its bounds: what was used longest ago goes first.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::Notify;

use super::{
    UpstreamCache,
    last_use::{last_use, millis},
    walk::{Entry, each_folder, found, remove_if_empty},
};
use crate::{
    lifecycle::{Clock as _, Lifecycle, SystemClock},
    models::Timestamp,
    storage::{StorageError, fs::blocking},
};

/// How often the whole cache is looked at, for what became too old, and for what other processes
/// put into it.
const INTERVAL: Duration = Duration::from_secs(900);
/// The shortest time between two looks.
const REST: Duration = Duration::from_secs(1);
/// How old a half-made file is that nobody works at any more, in milliseconds.
const ABANDONED: u64 = 24 * 3600 * 1000;

/// What the cache may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBounds {
    /// Its largest size in bytes.
    pub max_size: Option<u64>,
    /// How long what nobody uses is kept.
    pub max_age: Option<Duration>,
}

impl CacheBounds {
    /// Whether there is no bound at all.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, length: u64) {
        self.files += 1;
        self.bytes += length;
    }

    fn take(&mut self, length: u64) {
        self.files = self.files.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(length);
    }
}

/// What was removed, and what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// What was removed.
    pub removed: Amount,
    /// What is left.
    pub kept: Amount,
}

impl Pruned {
    /// Removes `entry`, which was counted as kept.
    pub(super) fn remove(&mut self, entry: &Entry) -> Result<(), StorageError> {
        if entry.remove()? {
            self.removed.add(entry.length);
        }
        self.kept.take(entry.length);
        Ok(())
    }
}

/// What this process has put into the cache since somebody last looked at all of it.
#[derive(Debug, Default)]
pub(super) struct Growth {
    bytes: AtomicU64,
    /// From how many bytes on somebody should look again; 0 where there is no bound.
    alarm: AtomicU64,
    is_due: Notify,
}

impl Growth {
    pub(super) fn add(&self, length: u64) {
        let bytes = self.bytes.fetch_add(length, Ordering::Relaxed) + length;
        let alarm = self.alarm.load(Ordering::Relaxed);
        if alarm != 0 && bytes >= alarm {
            self.is_due.notify_one();
        }
    }

    /// Begins to count anew, before somebody looks at all of the cache.
    fn reset(&self) {
        self.alarm.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Asks to be woken when more than `room` has come since [`Growth::reset`].
    fn expect(&self, room: u64) {
        self.alarm.store(room.saturating_add(1), Ordering::Relaxed);
        self.add(0);
    }
}

impl UpstreamCache {
    /// Removes what is beyond `bounds`, what was used longest ago first. The size becomes at most
    /// `max_size`. Anything else may use the cache meanwhile, in this process and in others.
    pub async fn prune(&self, bounds: CacheBounds) -> Result<Pruned, StorageError> {
        let cache = self.clone();
        let target = bounds.max_size.unwrap_or(u64::MAX);
        blocking(move || Pass::new(&cache, bounds, target, || false).run()).await
    }

    /// Keeps the cache in `bounds` until shutdown begins. It looks at all of it now, when what was
    /// put into it since may have made it too large, and every quarter of an hour.
    pub async fn keep_in_bounds(self, bounds: CacheBounds, lifecycle: Lifecycle) {
        if bounds.are_none() {
            return;
        }
        // A tenth less, so that not every download makes somebody look at all of it.
        let target = bounds.max_size.map_or(u64::MAX, |max| max - max / 10);
        while !lifecycle.is_shutting_down() {
            self.growth.reset();
            let (cache, life) = (self.clone(), lifecycle.clone());
            let pass = blocking(move || {
                Pass::new(&cache, bounds, target, || life.is_shutting_down()).run()
            });
            match pass.await {
                Ok(Pruned { removed, kept }) => {
                    if removed.files > 0 {
                        tracing::info!(
                            removed.files,
                            removed.bytes,
                            kept.files,
                            kept.bytes,
                            "upstream cache pruned"
                        );
                    }
                    if let Some(max) = bounds.max_size {
                        self.growth.expect(max.saturating_sub(kept.bytes));
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot keep the upstream cache in its bounds"
                    );
                }
            }
            let until_due = async {
                tokio::time::sleep(REST).await;
                tokio::select! {
                    () = self.growth.is_due.notified() => {}
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            };
            tokio::select! {
                () = lifecycle.shutdown_begun() => return,
                () = until_due => {}
            }
        }
    }
}

/// One look at all of the cache. Its memory is one number for each minute in which something was
/// last used, however many files there are.
struct Pass<'a, Stop> {
    cache: &'a UpstreamCache,
    bounds: CacheBounds,
    /// What the size becomes where it is beyond the bound.
    target: u64,
    now: Timestamp,
    should_stop: Stop,
    pruned: Pruned,
}

impl<'a, Stop: Fn() -> bool> Pass<'a, Stop> {
    fn new(cache: &'a UpstreamCache, bounds: CacheBounds, target: u64, should_stop: Stop) -> Self {
        Self {
            cache,
            bounds,
            target,
            now: SystemClock.now(),
            should_stop,
            pruned: Pruned::default(),
        }
    }

    fn run(mut self) -> Result<Pruned, StorageError> {
        self.remove_abandoned();
        let by_minute = self.remove_old()?;
        let size = self.pruned.kept.bytes;
        if self.bounds.max_size.is_some_and(|max| size > max) {
            self.shrink(size.saturating_sub(self.target), &by_minute)?;
        }
        Ok(self.pruned)
    }

    /// Removes what was last used too long ago; the bytes of the rest, by minute of their last use.
    fn remove_old(&mut self) -> Result<BTreeMap<i64, u64>, StorageError> {
        let max_age = self.bounds.max_age.map(millis);
        let mut by_minute = BTreeMap::new();
        let (cache, now) = (self.cache, self.now);
        each_folder(cache, |folder, entries| {
            let mut is_changed = entries.is_empty();
            for entry in entries {
                self.pruned.kept.add(entry.length);
                if max_age.is_some_and(|max| now.millis_since(entry.used) > max) {
                    self.pruned.remove(&entry)?;
                    is_changed = true;
                } else {
                    *by_minute.entry(minute(&entry)).or_default() += entry.length;
                }
            }
            Ok(self.leave(folder, is_changed))
        })?;
        Ok(by_minute)
    }

    /// Removes `excess` bytes, as far as possible from what was used longest ago.
    fn shrink(&mut self, excess: u64, by_minute: &BTreeMap<i64, u64>) -> Result<(), StorageError> {
        let mut before = 0;
        let mut last_minute = None;
        for (minute, bytes) in by_minute {
            last_minute = Some(*minute);
            if before + bytes >= excess {
                break;
            }
            before += bytes;
        }
        let Some(last_minute) = last_minute else {
            return Ok(());
        };
        // Of the last minute, only as much as is needed.
        let mut of_last = excess.saturating_sub(before);
        each_folder(self.cache, |folder, entries| {
            let mut is_changed = false;
            for entry in entries {
                let minute = minute(&entry);
                let is_last = minute == last_minute && of_last > 0;
                if minute < last_minute || is_last {
                    if is_last {
                        of_last = of_last.saturating_sub(entry.length);
                    }
                    self.pruned.remove(&entry)?;
                    is_changed = true;
                }
            }
            Ok(self.leave(folder, is_changed))
        })
    }

    fn leave(&self, folder: &Path, is_changed: bool) -> ControlFlow<()> {
        if is_changed {
            remove_if_empty(folder);
        }
        if (self.should_stop)() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Removes what a process that was killed has left half-made while others went on.
    fn remove_abandoned(&self) {
        let swept = found(fs::read_dir(&self.cache.temporary)).and_then(|entries| {
            for entry in entries.into_iter().flatten() {
                let entry = entry?;
                let Some(metadata) = found(entry.metadata())? else {
                    continue;
                };
                if self.now.millis_since(last_use(&metadata)) > ABANDONED {
                    found(fs::remove_file(entry.path()))?;
                }
            }
            Ok(())
        });
        if let Err(error) = swept {
            tracing::warn!(%error, "cannot sweep the upstream cache");
        }
    }
}

fn minute(entry: &Entry) -> i64 {
    entry.used.unix_millis().div_euclid(60_000)
}
