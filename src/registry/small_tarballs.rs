//! [`SmallTarballs`]: tarballs of everyday size, in memory once somebody has read them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use indexmap::Equivalent;
use moka::sync::Cache;

use crate::models::{Digest, Integrity, PackageName, Timestamp};

/// Tarballs up to this many bytes are kept in memory; nineteen of twenty are smaller.
pub(super) const SMALL: u64 = 1024 * 1024;
/// Memory for them in bytes.
const MAX_MEMORY: u64 = 64 * 1024 * 1024;

/// How often the disk is looked at for one that is read all the time, in milliseconds.
const LOOK_EVERY: u64 = 60_000;

/// Whose bytes they are, and what is promised of them. Knowing a digest, which lockfiles tell everybody, opens no package but the
/// one whose document names it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    name: PackageName,
    is_hosted: bool,
    integrity: Integrity,
}

/// The bytes of small tarballs, by what their documents promise of them.
#[derive(Clone, Debug)]
pub(super) struct SmallTarballs {
    kept: Cache<Key, Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    bytes: Bytes,
    /// When somebody last saw that it is on disk too, in milliseconds of the clock.
    seen_at: Arc<AtomicI64>,
}

/// Which tarball: a [`Key`] that belongs to somebody else, with the same hash.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Promised<'a> {
    pub(super) name: &'a PackageName,
    pub(super) is_hosted: bool,
    pub(super) integrity: &'a Integrity,
}

impl Promised<'_> {
    fn key(self) -> Key {
        Key {
            name: self.name.clone(),
            is_hosted: self.is_hosted,
            integrity: self.integrity.clone(),
        }
    }
}

impl Equivalent<Key> for Promised<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.name == key.name
            && self.is_hosted == key.is_hosted
            && *self.integrity == key.integrity
    }
}

impl Default for SmallTarballs {
    fn default() -> Self {
        let weight = |_: &Key, kept: &Kept| {
            u32::try_from(kept.bytes.len().saturating_add(512)).unwrap_or(u32::MAX)
        };
        Self {
            kept: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(weight)
                .build(),
        }
    }
}

impl SmallTarballs {
    pub(super) fn get(&self, tarball: Promised<'_>) -> Option<Bytes> {
        self.kept.get(&tarball).map(|kept| kept.bytes)
    }

    /// The same, and whether it is time to look whether it still is on disk: all of the cache may be
    /// deleted at any time, and what is asked for is to be kept.
    pub(super) fn get_cached(
        &self,
        tarball: Promised<'_>,
        now: Timestamp,
    ) -> Option<(Bytes, bool)> {
        let Kept { bytes, seen_at } = self.kept.get(&tarball)?;
        let now = now.unix_millis();
        let before = seen_at.load(Ordering::Relaxed);
        let is_due = now.abs_diff(before) >= LOOK_EVERY
            && seen_at
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        Some((bytes, is_due))
    }

    /// Keeps `bytes` if they are what was promised; else returns what they are instead.
    pub(super) fn put(
        &self,
        tarball: Promised<'_>,
        bytes: &Bytes,
        now: Timestamp,
    ) -> Result<(), Digest> {
        let mut verifier = tarball.integrity.verifier();
        verifier.update(bytes);
        verifier.finish()?;
        self.put_verified(tarball, bytes.clone(), now);
        Ok(())
    }

    /// Keeps bytes that were found to be what was promised.
    pub(super) fn put_verified(&self, tarball: Promised<'_>, bytes: Bytes, now: Timestamp) {
        let seen_at = Arc::new(AtomicI64::new(now.unix_millis()));
        self.kept.insert(tarball.key(), Kept { bytes, seen_at });
    }
}
