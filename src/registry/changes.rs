//! [`Changes`]: who reads while somebody writes does not put the old state back into a cache.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use parking_lot::Mutex;

use crate::models::PackageName;

const SHARDS: usize = 256;

/// Counts the writes of names. Names share counters: a write of one may keep another from being
/// cached, which costs a look at storage.
#[derive(Debug)]
pub(super) struct Changes {
    shards: Vec<Mutex<u64>>,
}

/// How far the count was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl Default for Changes {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Changes {
    /// The count now, to be taken before storage is read.
    pub(super) fn seen(&self, name: &PackageName) -> Seen {
        Seen(self.shard(name).map_or(0, |shard| *shard.lock()))
    }

    /// Counts a write and runs `forget`, as one step.
    pub(super) fn note(&self, name: &PackageName, forget: impl FnOnce()) {
        let shard = self.shard(name).map(Mutex::lock);
        if let Some(mut count) = shard {
            *count = count.wrapping_add(1);
            forget();
        }
    }

    /// Runs `keep` if nothing was written since `seen`, as one step.
    pub(super) fn unless_since(&self, name: &PackageName, seen: Seen, keep: impl FnOnce()) {
        let shard = self.shard(name).map(Mutex::lock);
        if shard.is_some_and(|count| *count == seen.0) {
            keep();
        }
    }

    fn shard(&self, name: &PackageName) -> Option<&Mutex<u64>> {
        let mut hasher = DefaultHasher::new();
        name.as_str().hash(&mut hasher);
        self.shards
            .get(usize::from(hasher.finish().to_le_bytes()[0]))
    }
}
