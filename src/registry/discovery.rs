//! Finding out what is stored: all of it once, and what others have changed from time to time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Registry;
use crate::{
    error::RegistryError,
    lifecycle::jittered,
    models::PackageName,
    storage::{Stamp, StorageError},
};

/// How many manifests are read into the index at a time.
const FILLERS: usize = 8;
/// How long all of a bucket is left alone after a start, at least, unless somebody searches.
const IDLE: Duration = Duration::from_secs(10);
/// Between attempts to see everything.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What a listing said of each package; nothing of those that could not be read then.
type Sightings = HashMap<PackageName, Option<Stamp>>;

impl Registry {
    /// Reads every manifest of a bucket into the index, and recovers packages whose manifest is lost,
    /// while the registry serves. Not at once: a start, of many registries perhaps, is no reason to
    /// list everything. The first search is.
    pub async fn survey_in_background(self: &Arc<Self>) {
        let mut is_wanted = self.is_wanted.subscribe();
        let wanted = async {
            // The sender lives as long as we do.
            let _ = is_wanted.wait_for(|is_wanted| *is_wanted).await;
        };
        tokio::select! {
            () = self.lifecycle.shutdown_begun() => return,
            () = tokio::time::sleep(IDLE + jittered(IDLE)) => {}
            () = wanted => {}
        }
        let survey = async {
            let (seen, is_whole) = self.fill_index().await;
            tokio::join!(
                self.recover_in_background(),
                self.index_recovered(),
                self.keep_discovering(seen, is_whole)
            );
        };
        tokio::select! {
            () = self.lifecycle.shutdown_begun() => {}
            () = survey => {}
        }
    }

    /// Reads every manifest into the index, then what others change, until the registry ends. Recovers
    /// packages whose manifest is lost unless they `are_recovered`.
    pub async fn discover_in_background(self: &Arc<Self>, are_recovered: bool) {
        let discover = async {
            let (seen, is_whole) = self.fill_index().await;
            let recover = async {
                if !are_recovered {
                    tokio::join!(self.recover_in_background(), self.index_recovered());
                }
            };
            tokio::join!(recover, self.keep_discovering(seen, is_whole));
        };
        tokio::select! {
            () = self.lifecycle.shutdown_begun() => {}
            () = discover => {}
        }
    }

    /// Reads every manifest into the index, as far as the store lets it; searches wait for it. The
    /// second says whether that was all of them.
    async fn fill_index(&self) -> (Sightings, bool) {
        let mut seen = Sightings::new();
        let is_whole = self.discover(&mut seen).await;
        // From now on searches answer from what there is: a store that is down must not hold them up.
        self.is_indexed.send_replace(true);
        (seen, is_whole)
    }

    /// Lists storage each time the interval has passed, and never more than half of the time; where
    /// it could not see everything, sooner and whatever the interval says.
    async fn keep_discovering(&self, mut seen: Sightings, mut is_whole: bool) {
        // Where changes are told, nothing need be looked for.
        let interval = Some(self.discovery_refresh)
            .filter(|interval| !interval.is_zero() && self.store.metadata().coherence().is_none());
        let mut pause = FIRST_PAUSE;
        let mut took = Duration::ZERO;
        loop {
            let wait = match interval {
                None if is_whole => return,
                Some(interval) if is_whole => interval,
                None => pause,
                Some(interval) => pause.min(interval),
            };
            tokio::time::sleep(wait.max(took)).await;
            let begun = Instant::now();
            is_whole = self.discover(&mut seen).await;
            took = begun.elapsed();
            pause = if is_whole {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
        }
    }

    /// Lets searches find what is stored now, and reads of documents too, where something has
    /// changed since it was `seen`. Whether the store has let it see everything.
    async fn discover(&self, seen: &mut Sightings) -> bool {
        let now = Mutex::new(Sightings::new());
        let (has_ended, is_whole) = (AtomicBool::new(true), AtomicBool::new(true));
        let could_read = |read: Reread| {
            if read == Reread::Failed {
                is_whole.store(false, Ordering::Relaxed);
            }
            read == Reread::Done
        };
        let (before, sightings) = (&*seen, &now);
        let listed = self.store.metadata().survey();
        let looks = listed.for_each_concurrent(FILLERS, async |sighting| match sighting {
            Ok((name, stamp)) => {
                let is_known = before.get(&name) == Some(&Some(stamp));
                let stamp = if is_known || could_read(self.reread(&name).await) {
                    Some(stamp)
                } else {
                    None
                };
                sightings.lock().insert(name, stamp);
            }
            Err(error) => {
                has_ended.store(false, Ordering::Relaxed);
                complain(error);
            }
        });
        looks.await;
        let mut now = now.into_inner();
        if has_ended.load(Ordering::Relaxed) {
            let gone: Vec<&PackageName> = seen
                .keys()
                .filter(|name| !now.contains_key(*name))
                .collect();
            for name in gone {
                if !could_read(self.reread(name).await) {
                    now.insert(name.clone(), None);
                }
            }
            *seen = now;
        } else {
            seen.extend(now);
        }
        has_ended.into_inner() && is_whole.into_inner()
    }

    /// Reads `name` anew, if there is still something to be read.
    async fn reread(&self, name: &PackageName) -> Reread {
        self.documents.hosted.look_again(name);
        match self.fill_entry(name).await {
            Ok(()) => Reread::Done,
            Err(error) => {
                let is_damage = is_damage(&error);
                complain(error);
                if is_damage {
                    Reread::Damaged
                } else {
                    Reread::Failed
                }
            }
        }
    }
}

/// What became of an attempt to read a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reread {
    Done,
    /// It is for people to put right; trying again is of no use.
    Damaged,
    /// The store has failed.
    Failed,
}

/// Whether what is stored cannot be read, though the store answers.
pub(super) fn is_damage(error: &RegistryError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let stored = error.downcast_ref::<StorageError>();
        // One that several have waited for.
        let stored = stored.or_else(|| {
            error
                .downcast_ref::<Arc<StorageError>>()
                .map(|error| &**error)
        });
        if matches!(
            stored,
            Some(StorageError::Damaged { .. } | StorageError::Lost { .. })
        ) {
            return true;
        }
        next = error.source();
    }
    false
}

fn complain(error: impl Into<RegistryError>) {
    tracing::error!(
        error = &error.into() as &dyn std::error::Error,
        "a package cannot be found by searches"
    );
}
