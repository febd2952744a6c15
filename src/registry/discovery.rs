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
use crate::{error::RegistryError, lifecycle::jittered, models::PackageName, storage::Stamp};

/// How many manifests are read into the index at a time.
const FILLERS: usize = 8;
/// How long all of a bucket is left alone after a start, at least, unless somebody searches.
const IDLE: Duration = Duration::from_secs(10);

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
            let seen = self.fill_index().await;
            tokio::join!(self.recover_in_background(), self.keep_discovering(seen));
        };
        tokio::select! {
            () = self.lifecycle.shutdown_begun() => {}
            () = survey => {}
        }
    }

    /// Reads every manifest into the index, then what others change, until the registry ends.
    pub async fn discover_in_background(self: &Arc<Self>) {
        let discover = async {
            let seen = self.fill_index().await;
            self.keep_discovering(seen).await;
        };
        tokio::select! {
            () = self.lifecycle.shutdown_begun() => {}
            () = discover => {}
        }
    }

    /// Reads every manifest into the index; searches wait for it.
    async fn fill_index(&self) -> Sightings {
        let mut seen = Sightings::new();
        self.discover(&mut seen).await;
        self.is_indexed.send_replace(true);
        seen
    }

    /// Lists storage each time the interval has passed, and never more than half of the time.
    async fn keep_discovering(&self, mut seen: Sightings) {
        // Where changes are told, nothing need be looked for.
        if self.discovery_refresh.is_zero() || self.store.metadata().coherence().is_some() {
            return;
        }
        let mut took = Duration::ZERO;
        loop {
            tokio::time::sleep(self.discovery_refresh.max(took)).await;
            let begun = Instant::now();
            self.discover(&mut seen).await;
            took = begun.elapsed();
        }
    }

    /// Lets searches find what is stored now, and reads of documents too, where something has
    /// changed since it was `seen`.
    async fn discover(&self, seen: &mut Sightings) {
        let now = Mutex::new(Sightings::new());
        let has_ended = AtomicBool::new(true);
        let (before, sightings) = (&*seen, &now);
        let listed = self.store.metadata().survey();
        let looks = listed.for_each_concurrent(FILLERS, async |sighting| match sighting {
            Ok((name, stamp)) => {
                let is_known = before.get(&name) == Some(&Some(stamp));
                let stamp = if is_known || self.reread(&name).await {
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
                if !self.reread(name).await {
                    now.insert(name.clone(), None);
                }
            }
            *seen = now;
        } else {
            seen.extend(now);
        }
    }

    /// Whether `name` could be read anew, if there is still something to be read.
    async fn reread(&self, name: &PackageName) -> bool {
        self.documents.hosted.look_again(name);
        match self.fill_entry(name).await {
            Ok(()) => true,
            Err(error) => {
                complain(error);
                false
            }
        }
    }
}

fn complain(error: impl Into<RegistryError>) {
    tracing::error!(
        error = &error.into() as &dyn std::error::Error,
        "a package cannot be found by searches"
    );
}
