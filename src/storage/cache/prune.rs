//! Keeping the cache in its bounds: what was used longest ago goes first.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tokio::sync::Notify;

use super::{
    UpstreamCache,
    last_use::millis,
    tier::{Entry, Folder, Kind, Tier},
};
use crate::{
    lifecycle::{Clock as _, Lifecycle, SystemClock},
    models::Timestamp,
    storage::StorageError,
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
    /// Removes `entries` of `folder`, which were counted as kept.
    pub(super) async fn remove(
        &mut self,
        tier: &dyn Tier,
        folder: &str,
        entries: &[Entry],
    ) -> Result<(), StorageError> {
        let were_there = tier.remove(folder, entries).await?;
        for (entry, was_there) in entries.iter().zip(were_there) {
            if entry.kind == Kind::Leftover {
                continue;
            }
            if was_there {
                self.removed.add(entry.length);
            }
            self.kept.take(entry.length);
        }
        Ok(())
    }
}

/// How this process keeps the cache in its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// The bounds.
    pub bounds: CacheBounds,
    /// What it has removed since it began.
    pub removed: Amount,
    /// When it last removed something.
    pub last: Option<Timestamp>,
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
    /// `max_size`. Anything else may use the cache meanwhile, in this process and in others. What
    /// came of it on this machine, then in what is shared.
    pub async fn prune(&self, bounds: CacheBounds) -> Result<Vec<Pruned>, StorageError> {
        let target = bounds.max_size.unwrap_or(u64::MAX);
        let mut pruned = Vec::new();
        for tier in self.tiers() {
            pruned.push(Pass::new(tier, bounds, target, || false).run().await?);
        }
        Ok(pruned)
    }

    /// Keeps the cache in `bounds` until shutdown begins. It looks at all of it now, when what was
    /// put into it since may have made it too large, and every quarter of an hour. At what is shared,
    /// only one node looks in that time.
    pub fn keep_in_bounds(
        self,
        bounds: CacheBounds,
        lifecycle: Lifecycle,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.care.lock().bounds = bounds;
        async move {
            let local = async {
                if !bounds.are_none() {
                    self.keep_local_in_bounds(bounds, &lifecycle).await;
                }
            };
            let Some(shared) = &self.shared else {
                return local.await;
            };
            let keep_shared = async {
                while !bounds.are_none() && !lifecycle.is_shutting_down() {
                    self.keep_tier_in_bounds(shared.tier(), bounds, &lifecycle)
                        .await;
                    tokio::select! {
                        () = lifecycle.shutdown_begun() => return,
                        () = tokio::time::sleep(INTERVAL) => {}
                    }
                }
            };
            tokio::join!(local, keep_shared, shared.note_uses(&lifecycle));
        }
    }

    /// How this process keeps it in its bounds.
    pub fn care(&self) -> Care {
        *self.care.lock()
    }

    async fn keep_local_in_bounds(&self, bounds: CacheBounds, lifecycle: &Lifecycle) {
        let growth = &self.local.growth;
        while !lifecycle.is_shutting_down() {
            growth.reset();
            let kept = self.keep_tier_in_bounds(&self.local, bounds, lifecycle);
            let kept = kept.await;
            if let (Some(kept), Some(max)) = (kept, bounds.max_size) {
                growth.expect(max.saturating_sub(kept.bytes));
            }
            let until_due = async {
                tokio::time::sleep(REST).await;
                tokio::select! {
                    () = growth.is_due.notified() => {}
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            };
            tokio::select! {
                () = lifecycle.shutdown_begun() => return,
                () = until_due => {}
            }
        }
    }

    /// Looks at all of `tier` if it is this node's turn; what is left then.
    async fn keep_tier_in_bounds(
        &self,
        tier: &dyn Tier,
        bounds: CacheBounds,
        lifecycle: &Lifecycle,
    ) -> Option<Amount> {
        // A tenth less, so that not every download makes somebody look at all of it.
        let target = bounds.max_size.map_or(u64::MAX, |max| max - max / 10);
        let pass = async {
            if !tier.takes_turn(INTERVAL).await? {
                return Ok(None);
            }
            let should_stop = || lifecycle.is_shutting_down();
            let pass = Pass::new(tier, bounds, target, should_stop);
            pass.run().await.map(Some)
        };
        match pass.await {
            Ok(pruned) => {
                let Pruned { removed, kept } = pruned?;
                if removed.files > 0 {
                    self.note_removed(removed);
                    tracing::info!(
                        is_shared = tier.folder().is_none(),
                        removed.files,
                        removed.bytes,
                        kept.files,
                        kept.bytes,
                        "upstream cache pruned"
                    );
                }
                Some(kept)
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot keep the upstream cache in its bounds"
                );
                None
            }
        }
    }

    fn note_removed(&self, removed: Amount) {
        let mut care = self.care.lock();
        care.removed.files = care.removed.files.saturating_add(removed.files);
        care.removed.bytes = care.removed.bytes.saturating_add(removed.bytes);
        care.last = Some(SystemClock.now());
    }
}

/// One look at all of a tier. Its memory is one number for each minute in which something was
/// last used, however many entries there are.
pub(super) struct Pass<'a, Stop> {
    tier: &'a dyn Tier,
    bounds: CacheBounds,
    /// What the size becomes where it is beyond the bound.
    target: u64,
    pub(super) now: Timestamp,
    should_stop: Stop,
    pruned: Pruned,
}

impl<'a, Stop: Fn() -> bool + Sync> Pass<'a, Stop> {
    pub(super) fn new(
        tier: &'a dyn Tier,
        bounds: CacheBounds,
        target: u64,
        should_stop: Stop,
    ) -> Self {
        Self {
            tier,
            bounds,
            target,
            now: SystemClock.now(),
            should_stop,
            pruned: Pruned::default(),
        }
    }

    pub(super) async fn run(mut self) -> Result<Pruned, StorageError> {
        // What a process that was killed has left half-made while others went on.
        let long_ago = self
            .now
            .plus_millis(-i64::try_from(ABANDONED).unwrap_or(i64::MAX));
        if let Err(error) = self.tier.sweep(long_ago).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot sweep the upstream cache"
            );
        }
        let by_minute = self.remove_old().await?;
        let size = self.pruned.kept.bytes;
        if self.bounds.max_size.is_some_and(|max| size > max) {
            let excess = size.saturating_sub(self.target);
            self.shrink(excess, &by_minute).await?;
        }
        Ok(self.pruned)
    }

    /// Removes what was last used too long ago; the bytes of the rest, by minute of their last use.
    async fn remove_old(&mut self) -> Result<BTreeMap<i64, u64>, StorageError> {
        let max_age = self.bounds.max_age.map(millis);
        let mut by_minute = BTreeMap::new();
        let mut folders = self.tier.folders();
        while let Some(Folder { name, entries }) = folders.try_next().await? {
            let is_empty = entries.is_empty();
            let mut old = Vec::new();
            for entry in entries {
                let age = self.now.millis_since(entry.used);
                if entry.kind == Kind::Leftover {
                    // Somebody may be at work on it.
                    if age > ABANDONED {
                        old.push(entry);
                    }
                    continue;
                }
                self.pruned.kept.add(entry.length);
                if max_age.is_some_and(|max| age > max) {
                    old.push(entry);
                } else {
                    *by_minute.entry(minute(&entry)).or_default() += entry.length;
                }
            }
            if is_empty || !old.is_empty() {
                self.pruned.remove(self.tier, &name, &old).await?;
            }
            if (self.should_stop)() {
                break;
            }
        }
        Ok(by_minute)
    }

    /// Removes `excess` bytes, as far as possible from what was used longest ago.
    async fn shrink(
        &mut self,
        excess: u64,
        by_minute: &BTreeMap<i64, u64>,
    ) -> Result<(), StorageError> {
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
        let mut folders = self.tier.folders();
        while let Some(Folder { name, mut entries }) = folders.try_next().await? {
            entries.retain(|entry| {
                let minute = minute(entry);
                let is_last = minute == last_minute && of_last > 0;
                let goes = entry.kind != Kind::Leftover && (minute < last_minute || is_last);
                if goes && is_last {
                    of_last = of_last.saturating_sub(entry.length);
                }
                goes
            });
            if !entries.is_empty() {
                self.pruned.remove(self.tier, &name, &entries).await?;
            }
            if (self.should_stop)() {
                break;
            }
        }
        Ok(())
    }
}

fn minute(entry: &Entry) -> i64 {
    entry.used.unix_millis().div_euclid(60_000)
}
