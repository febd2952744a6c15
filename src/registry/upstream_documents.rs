//! [`UpstreamDocuments`]: what uplinks say of a name, each asked no more often than needed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;

use super::{
    flight::{Flights, Lost},
    packument::Packument,
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock, elsewhere},
    models::{PackageName, Timestamp, UplinkName},
    storage::{CachedDocument, Freshness, StorageError, Store},
    uplink::{PackumentAnswer, Uplink, UplinkError, Validators},
};

/// Memory for parsed documents in bytes.
const MAX_MEMORY: u64 = 64 * 1024 * 1024;
const MAX_NAMES: u64 = 100_000;
/// How long a reader waits for upstream when there is an old copy to serve.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long after a failure an old copy is served without asking again.
const RESPITE: Duration = Duration::from_secs(5);

/// A document of an uplink, parsed.
#[derive(Clone, Debug)]
pub(super) struct UpstreamDocument {
    pub(super) uplink: UplinkName,
    pub(super) packument: Arc<Packument>,
    pub(super) digest: Arc<str>,
    pub(super) length: usize,
    freshness: Freshness,
}

/// A document, and whether upstream could not confirm it.
pub(super) type Answer = (UpstreamDocument, bool);

type Key = (PackageName, UplinkName);

#[derive(Clone, Debug)]
enum Lookup {
    Found(UpstreamDocument),
    Missing,
    Failed(UplinkError),
}

/// Documents of uplinks, kept in memory and on disk; an old one serves while the uplink fails.
#[derive(Debug)]
pub(super) struct UpstreamDocuments {
    shelf: Arc<Shelf>,
    flights: Flights<Key, Lookup>,
}

/// What is known. A flight puts here what it finds, so that it counts even where nobody waits for
/// it any more.
#[derive(Debug)]
struct Shelf {
    store: Store,
    clock: SharedClock,
    documents: Cache<Key, UpstreamDocument>,
    absent: Cache<Key, ()>,
    /// When an uplink last failed as a whole.
    failed_uplinks: Mutex<HashMap<UplinkName, Timestamp>>,
    /// When asking for a document last failed.
    failed: Cache<Key, Timestamp>,
}

impl UpstreamDocuments {
    pub(super) fn new(
        store: Store,
        clock: SharedClock,
        lifecycle: Lifecycle,
        negative_ttl: Duration,
    ) -> Self {
        let weight = |_: &Key, document: &UpstreamDocument| {
            u32::try_from(document.length.saturating_add(512)).unwrap_or(u32::MAX)
        };
        let shelf = Shelf {
            store,
            clock,
            documents: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(weight)
                .build(),
            absent: Cache::builder()
                .max_capacity(MAX_NAMES)
                .time_to_live(negative_ttl)
                .build(),
            failed_uplinks: Mutex::default(),
            failed: Cache::builder()
                .max_capacity(MAX_NAMES)
                .time_to_live(RESPITE)
                .build(),
        };
        Self {
            shelf: Arc::new(shelf),
            flights: Flights::new(lifecycle),
        }
    }

    /// What `uplink` says of `name`; `None` if it has no such package.
    pub(super) async fn ask(
        &self,
        name: &PackageName,
        uplink: &Arc<Uplink>,
    ) -> Result<Option<Answer>, RegistryError> {
        let key = (name.clone(), uplink.name().clone());
        if self.shelf.absent.contains_key(&key) {
            return Ok(None);
        }
        let known = self.shelf.known(&key).await;
        if let Some(known) = &known {
            if self.shelf.is_fresh(known, uplink) {
                return Ok(Some((known.clone(), false)));
            }
            if self.shelf.is_resting(&key) {
                return Ok(Some((known.clone(), true)));
            }
        }
        let asking = elsewhere(self.flights.join(key.clone(), || {
            let (shelf, uplink, known) =
                (Arc::clone(&self.shelf), Arc::clone(uplink), known.clone());
            async move { shelf.look_up(&key, &uplink, known).await }
        }));
        let answer = match &known {
            Some(_) => tokio::time::timeout(PATIENCE, asking).await.ok(),
            None => Some(asking.await),
        };
        match (answer, known) {
            (Some(Ok(Lookup::Found(document))), _) => Ok(Some((document, false))),
            (Some(Ok(Lookup::Missing)), _) => Ok(None),
            (None | Some(Ok(Lookup::Failed(_))), Some(known)) => Ok(Some((known, true))),
            (Some(Ok(Lookup::Failed(error))), None) => Err(error.into()),
            (Some(Err(lost)), _) => Err(RegistryError::internal(lost)),
            (None, None) => Err(RegistryError::internal(Lost)),
        }
    }

    /// What is known of `name` without asking `uplink`, however old that is. Stale means that it
    /// should be asked.
    pub(super) async fn at_hand(&self, name: &PackageName, uplink: &Uplink) -> Option<Answer> {
        let key = (name.clone(), uplink.name().clone());
        if self.shelf.absent.contains_key(&key) {
            return None;
        }
        let known = self.shelf.known(&key).await?;
        let is_stale = !self.shelf.is_fresh(&known, uplink);
        Some((known, is_stale))
    }

    /// Whether `uplink` has `name`, as far as that is known without asking it or reading its
    /// document.
    pub(super) async fn knows(&self, name: &PackageName, uplink: &Uplink) -> Option<bool> {
        let key = (name.clone(), uplink.name().clone());
        if self.shelf.absent.contains_key(&key) {
            return Some(false);
        }
        if self.shelf.documents.contains_key(&key) {
            return Some(true);
        }
        let cached = self.shelf.store.cache().has_packument(&key.0, &key.1);
        let is_cached = cached.await.unwrap_or_else(|error| {
            warn_of_cache(name, &error);
            false
        });
        is_cached.then_some(true)
    }

    /// Forgets that `uplink` has nothing of this name.
    pub(super) fn forget_absence(&self, name: &PackageName, uplink: &Uplink) {
        let key = (name.clone(), uplink.name().clone());
        self.shelf.absent.invalidate(&key);
    }
}

impl Shelf {
    /// The document in memory, else the one on disk. A cache that cannot be read is as good as
    /// none: upstream has it all.
    async fn known(&self, key: &Key) -> Option<UpstreamDocument> {
        if let Some(known) = self.documents.get(key) {
            return Some(known);
        }
        let cached = match self.store.cache().packument(&key.0, &key.1).await {
            Ok(cached) => cached?,
            Err(error) => {
                warn_of_cache(&key.0, &error);
                return None;
            }
        };
        let document = parse(key.clone(), cached).await?;
        // A flight that has landed meanwhile knows better.
        let entry = self.documents.entry_by_ref(key).or_insert(document);
        Some(entry.into_value())
    }

    fn is_fresh(&self, known: &UpstreamDocument, uplink: &Uplink) -> bool {
        let age = self.clock.now().millis_since(known.freshness.fetched_at);
        Duration::from_millis(age) < uplink.maxage()
    }

    fn is_resting(&self, key: &Key) -> bool {
        let now = self.clock.now();
        let is_recent = |at: Timestamp| Duration::from_millis(now.millis_since(at)) < RESPITE;
        let of_uplink = self.failed_uplinks.lock().get(&key.1).copied();
        of_uplink.is_some_and(is_recent) || self.failed.get(key).is_some_and(is_recent)
    }

    /// One question to an uplink, and what is kept of the answer.
    async fn look_up(&self, key: &Key, uplink: &Uplink, known: Option<UpstreamDocument>) -> Lookup {
        // Somebody may have asked between the look at what is known and this flight.
        if self.absent.contains_key(key) {
            return Lookup::Missing;
        }
        let known = self.documents.get(key).or(known);
        if let Some(known) = known.as_ref().filter(|known| self.is_fresh(known, uplink)) {
            return Lookup::Found(known.clone());
        }
        let lookup = self.fetch(key, uplink, known).await;
        if let Lookup::Failed(error) = &lookup {
            tracing::warn!(package.name = %key.0, uplink.name = %key.1, error = error as &dyn std::error::Error, "upstream failed");
            let now = self.clock.now();
            self.failed.insert(key.clone(), now);
            if error.concerns_all() {
                self.failed_uplinks.lock().insert(key.1.clone(), now);
            }
        } else {
            self.failed.invalidate(key);
            self.failed_uplinks.lock().remove(&key.1);
        }
        match &lookup {
            Lookup::Found(document) => self.documents.insert(key.clone(), document.clone()),
            Lookup::Missing => {
                self.absent.insert(key.clone(), ());
                self.documents.invalidate(key);
            }
            Lookup::Failed(_) => {}
        }
        lookup
    }

    /// Asks; keeps the answer on disk. One that cannot be kept counts all the same.
    async fn fetch(&self, key: &Key, uplink: &Uplink, known: Option<UpstreamDocument>) -> Lookup {
        let validators = known.as_ref().map(|known| Validators {
            etag: known.freshness.etag.clone(),
            last_modified: known.freshness.last_modified.clone(),
        });
        let validators = validators.unwrap_or_default();
        let answer = match uplink.packument(&key.0, &validators).await {
            Ok(answer) => answer,
            Err(error) => return Lookup::Failed(error),
        };
        let fetched_at = self.clock.now();
        let cache = self.store.cache();
        match (answer, known) {
            (PackumentAnswer::NotModified, Some(mut known)) => {
                known.freshness.fetched_at = fetched_at;
                let (digest, freshness) = (known.digest.to_string(), known.freshness.clone());
                let kept = cache.refresh_packument(&key.0, &key.1, digest, freshness);
                if !kept.await.is_ok_and(|is_there| is_there) {
                    // Without validators it comes as a whole next time, and is kept again.
                    known.freshness.etag = None;
                    known.freshness.last_modified = None;
                }
                Lookup::Found(known)
            }
            (PackumentAnswer::NotModified, None) => {
                Lookup::Failed(UplinkError::BadBody("not modified, though nothing is here"))
            }
            (PackumentAnswer::Missing, _) => {
                if let Err(error) = cache.remove_packument(&key.0, &key.1).await {
                    warn_of_cache(&key.0, &error);
                }
                Lookup::Missing
            }
            (PackumentAnswer::Found { body, validators }, _) => {
                let freshness = Freshness {
                    fetched_at,
                    etag: validators.etag,
                    last_modified: validators.last_modified,
                };
                let cached = CachedDocument::new(body, freshness);
                let Some(document) = parse(key.clone(), cached.clone()).await else {
                    let problem = "it is not a packument of this name";
                    return Lookup::Failed(UplinkError::BadBody(problem));
                };
                if let Err(error) = cache.put_packument(&key.0, &key.1, cached).await {
                    warn_of_cache(&key.0, &error);
                }
                Lookup::Found(document)
            }
        }
    }
}

/// Logs a failure of the cache, which costs time and nothing else.
pub(super) fn warn_of_cache(name: &PackageName, error: &StorageError) {
    tracing::warn!(package.name = %name, error = error as &dyn std::error::Error, "the cache failed; upstream is asked instead");
}

/// Parses what an uplink sent; `None` if it is no packument of this name.
async fn parse((name, uplink): Key, cached: CachedDocument) -> Option<UpstreamDocument> {
    let work = move || {
        let packument = Packument::parse(&cached.body).ok()?;
        (packument.text("name").as_deref() == Some(name.as_str())).then(|| UpstreamDocument {
            uplink,
            packument: Arc::new(packument),
            digest: cached.digest.into(),
            freshness: cached.freshness,
            length: cached.body.len(),
        })
    };
    tokio::task::spawn_blocking(work).await.ok().flatten()
}
