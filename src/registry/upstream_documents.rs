//! [`UpstreamDocuments`]: what uplinks say of a name, each asked no more often than needed.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use moka::sync::Cache;
use parking_lot::Mutex;

use super::{document::Document, flight::Flights, keeping::Keeping, packument::Packument};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock, compute_on},
    models::{PackageName, Timestamp, UplinkName},
    storage::{CachedDocument, Freshness, StorageError, Store},
    telemetry::{Cached, Metrics},
    uplink::{PackumentAnswer, Uplink, UplinkError, Validators, decode_packument, decoded_length},
};

/// Memory for parsed documents in bytes.
const MAX_MEMORY: u64 = 192 * 1024 * 1024;
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
    /// Of the document, decoded, in bytes.
    pub(super) length: usize,
    /// What is known of the name where nothing is hosted, once somebody wanted to know.
    alone: OnceLock<Arc<Document>>,
    /// What came.
    cached: CachedDocument,
}

/// A document, and whether upstream could not confirm it.
pub(super) type Answer = (Arc<UpstreamDocument>, bool);

type Key = (PackageName, UplinkName);

#[derive(Clone, Debug)]
enum Lookup {
    Found(Arc<UpstreamDocument>),
    Missing,
    Failed(UplinkError),
}

/// Documents of uplinks, kept in memory and on disk; an old one serves while the uplink fails.
#[derive(Debug)]
pub(super) struct UpstreamDocuments {
    shelf: Arc<Shelf>,
    /// Documents on their way from the disk.
    readings: Flights<Key, Option<Arc<UpstreamDocument>>>,
    /// Questions.
    flights: Flights<Key, Lookup>,
    metrics: Metrics,
}

/// What [`UpstreamDocuments`] is made of.
pub(super) struct UpstreamOptions {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) lifecycle: Lifecycle,
    /// How long an uplink's "no" is believed.
    pub(super) negative_ttl: Duration,
    pub(super) metrics: Metrics,
}

/// What is known. A flight puts here what it finds, so that it counts even where nobody waits for
/// it any more.
#[derive(Debug)]
struct Shelf {
    store: Store,
    keeping: Keeping<Key>,
    clock: SharedClock,
    documents: Cache<Key, Arc<UpstreamDocument>>,
    absent: Cache<Key, ()>,
    /// When an uplink last failed as a whole.
    failed_uplinks: Mutex<HashMap<UplinkName, Timestamp>>,
    /// When asking for a document last failed.
    failed: Cache<Key, Timestamp>,
}

impl UpstreamDocuments {
    pub(super) fn new(options: UpstreamOptions) -> Self {
        let UpstreamOptions {
            store,
            clock,
            lifecycle,
            negative_ttl,
            metrics,
        } = options;
        let weight = |_: &Key, document: &Arc<UpstreamDocument>| {
            // Its list of tarballs is about a quarter as large again; and there is what came.
            let length = document.length.saturating_add(document.length / 4);
            let length = length.saturating_add(document.cached.body.len());
            u32::try_from(length.saturating_add(512)).unwrap_or(u32::MAX)
        };
        let shelf = Shelf {
            store,
            keeping: Keeping::new(lifecycle.clone()),
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
            readings: Flights::new(lifecycle.clone()),
            flights: Flights::new(lifecycle),
            metrics,
        }
    }

    /// What `uplink` says of `name`; `None` if it has no such package.
    pub(super) async fn ask(
        &self,
        name: &PackageName,
        uplink: &Arc<Uplink>,
    ) -> Result<Option<Answer>, RegistryError> {
        let key = (name.clone(), uplink.name().clone());
        // Most often that is all. What is fresh was asked for after any answer that it is gone.
        if let Some(known) = self.shelf.documents.get(&key)
            && self.shelf.is_fresh(&known, uplink)
        {
            self.metrics.looked(Cached::Document, true);
            return Ok(Some((known, false)));
        }
        if self.shelf.absent.contains_key(&key) {
            self.metrics.looked(Cached::Document, true);
            return Ok(None);
        }
        Box::pin(self.ask_anew(key, uplink)).await
    }

    /// The same, where memory does not have the answer.
    async fn ask_anew(
        &self,
        key: Key,
        uplink: &Arc<Uplink>,
    ) -> Result<Option<Answer>, RegistryError> {
        let known = self.known(&key).await;
        let is_fresh = known
            .as_ref()
            .is_some_and(|known| self.shelf.is_fresh(known, uplink));
        self.metrics.looked(Cached::Document, is_fresh);
        if let Some(known) = &known {
            if is_fresh {
                return Ok(Some((known.clone(), false)));
            }
            if self.shelf.is_resting(&key) {
                return Ok(Some((known.clone(), true)));
            }
        }
        let is_circle = |lookup: &Lookup| matches!(lookup, Lookup::Failed(e) if e.is_circle());
        let asking = self.flights.ask(key.clone(), is_circle, || {
            let (shelf, uplink) = (Arc::clone(&self.shelf), Arc::clone(uplink));
            let (key, known) = (key.clone(), known.clone());
            async move { shelf.look_up(&key, &uplink, known).await }
        });
        let Some(known) = &known else {
            return match asking.await.map_err(RegistryError::internal)? {
                Lookup::Found(document) => Ok(Some((document, false))),
                Lookup::Missing => Ok(None),
                Lookup::Failed(error) => Err(error.into()),
            };
        };
        let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else {
            // The next ones need not wait as long. What still comes counts all the same.
            self.shelf.rest(&key);
            return Ok(Some((known.clone(), true)));
        };
        match answer.map_err(RegistryError::internal)? {
            Lookup::Found(document) => Ok(Some((document, false))),
            Lookup::Missing => Ok(None),
            Lookup::Failed(_) => Ok(Some((known.clone(), true))),
        }
    }

    /// The document in memory, else the one on disk.
    async fn known(&self, key: &Key) -> Option<Arc<UpstreamDocument>> {
        if let Some(known) = self.shelf.documents.get(key) {
            return Some(known);
        }
        let reading = self.readings.join(key.clone(), || {
            let (shelf, key) = (Arc::clone(&self.shelf), key.clone());
            async move { shelf.read(&key).await }
        });
        reading.await.ok().flatten()
    }

    /// What is known of `name` without asking `uplink`, however old that is. Stale means that it
    /// should be asked.
    pub(super) async fn at_hand(&self, name: &PackageName, uplink: &Uplink) -> Option<Answer> {
        let key = (name.clone(), uplink.name().clone());
        if let Some(known) = self.shelf.documents.get(&key)
            && self.shelf.is_fresh(&known, uplink)
        {
            return Some((known, false));
        }
        if self.shelf.absent.contains_key(&key) {
            return None;
        }
        let known = Box::pin(self.known(&key)).await?;
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

    /// When `uplink` last said what it has of `name`, as far as that is in memory.
    pub(super) fn refreshed(&self, name: &PackageName, uplink: &UplinkName) -> Option<Timestamp> {
        let key = (name.clone(), uplink.clone());
        let known = self.shelf.documents.get(&key)?;
        Some(known.cached.freshness.fetched_at)
    }

    /// Forgets what `uplink` said of `name`, also on disk. Whether there was anything.
    pub(super) async fn forget(
        &self,
        name: &PackageName,
        uplink: &Uplink,
    ) -> Result<bool, StorageError> {
        self.forget_absence(name, uplink);
        let key = (name.clone(), uplink.name().clone());
        let is_in_memory = self.shelf.documents.remove(&key).is_some();
        let cache = self.shelf.store.cache();
        let is_on_disk = cache.has_packument(name, uplink.name()).await?;
        cache.remove_packument(name, uplink.name()).await?;
        Ok(is_in_memory || is_on_disk)
    }

    /// Forgets that `uplink` has nothing of this name.
    pub(super) fn forget_absence(&self, name: &PackageName, uplink: &Uplink) {
        let key = (name.clone(), uplink.name().clone());
        self.shelf.absent.invalidate(&key);
    }
}

impl Shelf {
    /// The document on disk. A cache that cannot be read is as good as none: upstream has it all.
    async fn read(&self, key: &Key) -> Option<Arc<UpstreamDocument>> {
        // Somebody may have read it between the look at the memory and this one.
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
        let length = decoded_length(&cached.body, cached.coding);
        let document = Arc::new(parse(key.clone(), length, move || cached).await.ok()?);
        // A flight that has landed meanwhile knows better.
        let entry = self.documents.entry_by_ref(key).or_insert(document);
        Some(entry.into_value())
    }

    /// What another node has learned since it was `known`, where nodes share a cache.
    async fn newer(
        &self,
        key: &Key,
        known: Option<&Arc<UpstreamDocument>>,
    ) -> Option<Arc<UpstreamDocument>> {
        let known = known?;
        let newer = self
            .store
            .cache()
            .newer_packument(&key.0, &key.1, known.cached.clone());
        let newer = match newer.await {
            Ok(newer) => newer?,
            Err(error) => {
                warn_of_cache(&key.0, &error);
                return None;
            }
        };
        if *newer.digest == *known.digest {
            let mut confirmed = UpstreamDocument::clone(known);
            confirmed.cached.freshness = newer.freshness;
            return Some(Arc::new(confirmed));
        }
        let length = decoded_length(&newer.body, newer.coding);
        let parsed = parse(key.clone(), length, move || newer).await;
        parsed.ok().map(Arc::new)
    }

    fn is_fresh(&self, known: &UpstreamDocument, uplink: &Uplink) -> bool {
        let (now, freshness) = (self.clock.now(), &known.cached.freshness);
        let age = now.millis_since(freshness.fetched_at);
        !freshness.is_ahead_of(now) && Duration::from_millis(age) < uplink.maxage()
    }

    /// Lets `uplink` alone about this document for a while.
    fn rest(&self, key: &Key) {
        self.failed.insert(key.clone(), self.clock.now());
    }

    fn is_resting(&self, key: &Key) -> bool {
        let now = self.clock.now();
        let is_recent = |at: Timestamp| Duration::from_millis(now.millis_since(at)) < RESPITE;
        let of_uplink = self.failed_uplinks.lock().get(&key.1).copied();
        of_uplink.is_some_and(is_recent) || self.failed.get(key).is_some_and(is_recent)
    }

    /// One question to an uplink, and what is kept of the answer.
    async fn look_up(
        &self,
        key: &Key,
        uplink: &Uplink,
        known: Option<Arc<UpstreamDocument>>,
    ) -> Lookup {
        // Somebody may have asked between the look at what is known and this flight.
        if self.absent.contains_key(key) {
            return Lookup::Missing;
        }
        let mut known = self.documents.get(key).or(known);
        if let Some(known) = known.as_ref().filter(|known| self.is_fresh(known, uplink)) {
            return Lookup::Found(known.clone());
        }
        if let Some(newer) = self.newer(key, known.as_ref()).await {
            self.documents.insert(key.clone(), Arc::clone(&newer));
            if self.is_fresh(&newer, uplink) {
                return Lookup::Found(newer);
            }
            known = Some(newer);
        }
        let was_known = known.is_some();
        let (lookup, is_new) = self.fetch(key, uplink, known).await;
        if let Lookup::Failed(error) = &lookup {
            tracing::warn!(package.name = %key.0, uplink.name = %key.1, error = error as &dyn std::error::Error, "upstream failed");
            // That somebody came round in a circle is no reason to let others wait.
            if !error.is_circle() {
                self.rest(key);
            }
            if error.concerns_all() {
                let now = self.clock.now();
                self.failed_uplinks.lock().insert(key.1.clone(), now);
            }
        } else {
            self.failed.invalidate(key);
            self.failed_uplinks.lock().remove(&key.1);
        }
        match &lookup {
            Lookup::Found(document) => {
                self.documents.insert(key.clone(), document.clone());
                self.keep(key, document.cached.clone(), is_new);
            }
            Lookup::Missing => {
                self.absent.insert(key.clone(), ());
                self.documents.invalidate(key);
                if was_known {
                    self.forget(key);
                }
            }
            Lookup::Failed(_) => {}
        }
        lookup
    }

    /// Keeps a document on disk, behind those who wait for it. One that cannot be kept counts all
    /// the same.
    fn keep(&self, key: &Key, document: CachedDocument, is_new: bool) {
        let (cache, (name, uplink)) = (self.store.cache().clone(), key.clone());
        self.keeping.keep(key.clone(), async move {
            let kept = if is_new {
                cache.put_packument(&name, &uplink, document).await
            } else {
                cache.refresh_packument(&name, &uplink, document).await
            };
            if let Err(error) = kept {
                warn_of_cache(&name, &error);
            }
        });
    }

    /// Removes a document from the disk.
    fn forget(&self, key: &Key) {
        let (cache, (name, uplink)) = (self.store.cache().clone(), key.clone());
        self.keeping.keep(key.clone(), async move {
            if let Err(error) = cache.remove_packument(&name, &uplink).await {
                warn_of_cache(&name, &error);
            }
        });
    }

    /// Asks. The answer, and whether it is another document than the one that is known.
    async fn fetch(
        &self,
        key: &Key,
        uplink: &Uplink,
        known: Option<Arc<UpstreamDocument>>,
    ) -> (Lookup, bool) {
        let failed = |error| (Lookup::Failed(error), false);
        let validators = known.as_ref().map(|known| Validators {
            etag: known.cached.freshness.etag.clone(),
            last_modified: known.cached.freshness.last_modified.clone(),
        });
        let validators = validators.unwrap_or_default();
        let answer = match uplink.packument(&key.0, &validators).await {
            Ok(answer) => answer,
            Err(error) => return failed(error),
        };
        let fetched_at = self.clock.now();
        match (answer, known) {
            (PackumentAnswer::NotModified, Some(known)) => {
                let mut known = UpstreamDocument::clone(&known);
                known.cached.freshness.fetched_at = fetched_at;
                (Lookup::Found(Arc::new(known)), false)
            }
            (PackumentAnswer::NotModified, None) => {
                failed(UplinkError::BadBody("not modified, though nothing is here"))
            }
            (PackumentAnswer::Missing, _) => (Lookup::Missing, false),
            (
                PackumentAnswer::Found {
                    body,
                    coding,
                    validators,
                },
                _,
            ) => {
                let freshness = Freshness {
                    fetched_at,
                    etag: validators.etag,
                    last_modified: validators.last_modified,
                };
                let length = decoded_length(&body, coding);
                let cached = move || CachedDocument::new(body, coding, freshness);
                match parse(key.clone(), length, cached).await {
                    Ok(document) => (Lookup::Found(Arc::new(document)), true),
                    Err(error) => failed(error),
                }
            }
        }
    }
}

impl UpstreamDocument {
    /// What is known of `name`, which is its own, where nothing is hosted.
    pub(super) fn alone(self: &Arc<Self>, name: &PackageName) -> Arc<Document> {
        let document = || {
            let (name, digest) = (name.clone(), Arc::clone(&self.digest));
            Arc::new(Document::of(name, None, Some(Arc::clone(self)), digest))
        };
        Arc::clone(self.alone.get_or_init(document))
    }
}

/// Logs a failure of the cache, which costs time and nothing else.
pub(super) fn warn_of_cache(name: &PackageName, error: &StorageError) {
    tracing::warn!(package.name = %name, error = error as &dyn std::error::Error, "the cache failed; upstream is asked instead");
}

/// Decodes and parses what an uplink sent, which says that it has `length` bytes.
async fn parse(
    key: Key,
    length: usize,
    cached: impl FnOnce() -> CachedDocument + Send + 'static,
) -> Result<UpstreamDocument, UplinkError> {
    let parsing = compute_on(length, move || parse_now(key, cached()));
    parsing
        .await
        .map_err(|_| UplinkError::BadBody("nobody could read it"))?
}

fn parse_now((name, uplink): Key, cached: CachedDocument) -> Result<UpstreamDocument, UplinkError> {
    let body = decode_packument(&cached.body, cached.coding)?;
    let packument = Packument::parse(&body).ok();
    let is_of_this_name =
        |packument: &Packument| packument.text("name").as_deref() == Some(name.as_str());
    let packument = packument.filter(is_of_this_name);
    let packument = packument.ok_or(UplinkError::BadBody("it is not a packument of this name"))?;
    Ok(UpstreamDocument {
        uplink,
        packument: Arc::new(packument),
        digest: cached.digest.as_str().into(),
        length: body.len(),
        alone: OnceLock::new(),
        cached,
    })
}
