//! [`Documents`]: what is known of a name now, hosted and upstream together.

use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;

use super::{
    flight::{Flights, Lost},
    packument::{Dist, Hosted, Ours, Packument, merge},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock},
    models::{Integrity, Origin, PackageName, TarballName, Timestamp, UplinkName},
    policy::Policy,
    storage::{CachedDocument, Freshness, Stamp, StorageError, Store},
    uplink::{PackumentAnswer, Uplink, UplinkError, Uplinks, Validators},
};

/// Memory for parsed documents in bytes.
const MAX_MEMORY: u64 = 128 * 1024 * 1024;
const MAX_ABSENT: u64 = 100_000;
/// How long a reader waits for upstream when there is an old copy to serve.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long after a failure an old copy is served without asking again.
const RESPITE: Duration = Duration::from_secs(5);

/// A stored manifest, parsed.
#[derive(Clone, Debug)]
pub(super) struct HostedDocument {
    pub(super) manifest: Arc<Hosted>,
    pub(super) revision: crate::models::Revision,
    stamp: Stamp,
    looked_at: Timestamp,
    length: usize,
}

/// A document of an uplink, parsed.
#[derive(Clone, Debug)]
struct UpstreamDocument {
    uplink: UplinkName,
    packument: Arc<Packument>,
    digest: Arc<str>,
    freshness: Freshness,
    length: usize,
}

/// Where a tarball comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TarballSource {
    /// A blob of ours.
    Hosted,
    /// The uplink, at this address.
    Upstream { uplink: UplinkName, address: String },
}

/// A tarball that a document lists.
#[derive(Clone, Debug)]
pub(super) struct ListedTarball {
    pub(super) integrity: Option<Integrity>,
    pub(super) source: TarballSource,
}

/// Everything that is known of a name, at one moment.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) packument: Arc<Packument>,
    /// Names this state of the document.
    pub(super) generation: Arc<str>,
    pub(super) is_hosted: bool,
    /// Which versions were published here.
    pub(super) ours: Ours,
    /// Whether one of those is not signed.
    pub(super) has_unsigned_of_ours: bool,
    /// The uplink, if it has not signed all of its versions.
    pub(super) unsigned_from: Option<UplinkName>,
    tarballs: HashMap<TarballName, ListedTarball>,
    length: usize,
}

impl Document {
    pub(super) fn tarball(&self, file: &TarballName) -> Option<&ListedTarball> {
        self.tarballs.get(file)
    }
}

/// A document, and whether upstream could not confirm it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) document: Arc<Document>,
    pub(super) is_stale: bool,
}

#[derive(Clone, Debug)]
enum Lookup {
    Found(UpstreamDocument),
    Missing,
    Failed(UplinkError),
    Damaged(Arc<StorageError>),
}

/// What [`Documents`] is made of.
pub(super) struct DocumentsOptions {
    pub(super) store: Store,
    pub(super) uplinks: Arc<Uplinks>,
    pub(super) policy: Arc<Policy>,
    pub(super) clock: SharedClock,
    pub(super) lifecycle: Lifecycle,
    /// How long a manifest is believed without a look at storage.
    pub(super) hosted_ttl: Duration,
    /// How long an uplink's "no" is believed.
    pub(super) negative_ttl: Duration,
}

/// Reads documents from storage and upstream, each no more often than needed.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) store: Store,
    pub(super) uplinks: Arc<Uplinks>,
    pub(super) policy: Arc<Policy>,
    clock: SharedClock,
    hosted_ttl: Duration,
    hosted: Cache<PackageName, HostedDocument>,
    upstream: Cache<(PackageName, UplinkName), UpstreamDocument>,
    absent: Cache<(PackageName, UplinkName), ()>,
    merged: Cache<PackageName, Arc<Document>>,
    failures: Mutex<HashMap<UplinkName, (Timestamp, UplinkError)>>,
    flights: Flights<(PackageName, UplinkName), Lookup>,
}

impl Documents {
    pub(super) fn new(options: DocumentsOptions) -> Self {
        let DocumentsOptions {
            store,
            uplinks,
            policy,
            clock,
            lifecycle,
            hosted_ttl,
            negative_ttl,
        } = options;
        Self {
            store,
            uplinks,
            policy,
            clock,
            hosted_ttl,
            hosted: Cache::builder()
                .max_capacity(MAX_MEMORY / 4)
                .weigher(|_, document: &HostedDocument| weight(document.length))
                .build(),
            upstream: Cache::builder()
                .max_capacity(MAX_MEMORY / 2)
                .weigher(|_, document: &UpstreamDocument| weight(document.length))
                .build(),
            absent: Cache::builder()
                .max_capacity(MAX_ABSENT)
                .time_to_live(negative_ttl)
                .build(),
            // Merged documents share their bytes with their sources.
            merged: Cache::builder()
                .max_capacity(MAX_MEMORY / 4)
                .weigher(|_, document: &Arc<Document>| weight(document.length / 4))
                .build(),
            failures: Mutex::default(),
            flights: Flights::new(lifecycle),
        }
    }

    /// The manifest of `name` as it is stored now.
    pub(super) async fn hosted(
        &self,
        name: &PackageName,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let (metadata, now) = (self.store.metadata(), self.clock.now());
        let known = self.hosted.get(name);
        let is_believed = |known: &HostedDocument| {
            Duration::from_millis(now.millis_since(known.looked_at)) < self.hosted_ttl
        };
        if let Some(known) = known.as_ref().filter(|known| is_believed(known)) {
            return Ok(Some(known.clone()));
        }
        let Some(stamp) = metadata.stamp(name).await? else {
            return Ok(None);
        };
        if let Some(mut known) = known.filter(|known| known.stamp == stamp) {
            if !self.hosted_ttl.is_zero() {
                known.looked_at = now;
                self.hosted.insert(name.clone(), known.clone());
            }
            return Ok(Some(known));
        }
        let Some(document) = metadata.get(name).await? else {
            return Ok(None);
        };
        let manifest = Hosted::parse(&document.json).map_err(|error| StorageError::Damaged {
            what: format!("the manifest of `{name}`"),
            source: error.into(),
        })?;
        let hosted = HostedDocument {
            manifest: Arc::new(manifest),
            revision: document.revision,
            stamp: document.stamp,
            looked_at: now,
            length: document.json.len(),
        };
        self.hosted.insert(name.clone(), hosted.clone());
        Ok(Some(hosted))
    }

    /// Everything that is known of `name`; `None` if nobody has it.
    pub(super) async fn find(&self, name: &PackageName) -> Result<Option<Found>, RegistryError> {
        let hosted = self.hosted(name).await?;
        let upstream = if self.merges(name, hosted.as_ref()) {
            self.upstream(name).await?
        } else {
            None
        };
        self.found(name, hosted, upstream).await
    }

    /// What is known of `name` without asking upstream, however old that is. Stale means that
    /// upstream should be asked.
    pub(super) async fn at_hand(&self, name: &PackageName) -> Result<Option<Found>, RegistryError> {
        let hosted = self.hosted(name).await?;
        let upstream = if self.merges(name, hosted.as_ref()) {
            self.known_upstream(name).await?
        } else {
            None
        };
        self.found(name, hosted, upstream).await
    }

    /// Only what is hosted of `name`.
    pub(super) async fn hosted_only(
        &self,
        name: &PackageName,
    ) -> Result<Option<Found>, RegistryError> {
        let hosted = self.hosted(name).await?;
        self.found(name, hosted, None).await
    }

    /// Whether upstream is asked for `name` at all: whether it may know of it.
    pub(super) async fn has_upstream(&self, name: &PackageName) -> Result<bool, RegistryError> {
        let hosted = self.hosted(name).await?;
        Ok(!self.policy.proxies_of(name).is_empty() && self.merges(name, hosted.as_ref()))
    }

    fn merges(&self, name: &PackageName, hosted: Option<&HostedDocument>) -> bool {
        hosted.is_none_or(|hosted| {
            let is_override = hosted.manifest.origin() == Origin::Override;
            self.policy.merge_of(name).unwrap_or(is_override)
        })
    }

    async fn found(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
        upstream: Option<(UpstreamDocument, bool)>,
    ) -> Result<Option<Found>, RegistryError> {
        let (upstream, is_stale) = upstream.map_or((None, false), |(document, is_stale)| {
            (Some(document), is_stale)
        });
        let hosted = hosted.filter(|hosted| !hosted.manifest.is_gone());
        let document = self.merged(name, hosted, upstream).await?;
        Ok(document.map(|document| Found { document, is_stale }))
    }

    async fn known_upstream(
        &self,
        name: &PackageName,
    ) -> Result<Option<(UpstreamDocument, bool)>, RegistryError> {
        for uplink in self.policy.proxies_of(name) {
            let Some(uplink) = self.uplinks.get(uplink) else {
                continue;
            };
            let key = (name.clone(), uplink.name().clone());
            let known = match self.upstream.get(&key) {
                Some(known) => Some(known),
                None => self.cached_upstream(name, uplink.name()).await?,
            };
            if let Some(known) = known {
                let age = self.clock.now().millis_since(known.freshness.fetched_at);
                let is_stale = Duration::from_millis(age) >= uplink.maxage();
                return Ok(Some((known, is_stale)));
            }
        }
        Ok(None)
    }

    /// What upstream has of `name`, whatever is hosted; `None` if the rules name no uplink or none
    /// has it.
    pub(super) async fn upstream_only(
        &self,
        name: &PackageName,
    ) -> Result<Option<Arc<Packument>>, RegistryError> {
        let found = self.upstream(name).await?;
        Ok(found.map(|(document, _)| document.packument))
    }

    /// The manifest of `name` was written.
    pub(super) fn changed(&self, name: &PackageName) {
        self.hosted.invalidate(name);
        self.forget_absence(name);
    }

    /// Forgets that upstream has nothing of this name.
    pub(super) fn forget_absence(&self, name: &PackageName) {
        for uplink in self.policy.proxies_of(name) {
            self.absent.invalidate(&(name.clone(), uplink.clone()));
        }
    }

    async fn merged(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
        upstream: Option<UpstreamDocument>,
    ) -> Result<Option<Arc<Document>>, RegistryError> {
        let generation: Arc<str> = match (&hosted, &upstream) {
            (None, None) => return Ok(None),
            (Some(hosted), None) => hosted.revision.as_str().into(),
            (None, Some(upstream)) => Arc::clone(&upstream.digest),
            (Some(hosted), Some(upstream)) => {
                format!("{}+{}", hosted.revision, upstream.digest).into()
            }
        };
        let known = self.merged.get(name);
        if let Some(known) = known.filter(|known| known.generation == generation) {
            return Ok(Some(known));
        }
        let package = name.clone();
        let work = move || Arc::new(combine(&package, hosted, upstream, generation));
        let document = tokio::task::spawn_blocking(work)
            .await
            .map_err(RegistryError::internal)?;
        self.merged.insert(name.clone(), Arc::clone(&document));
        Ok(Some(document))
    }

    /// Asks the uplinks of the rule in order: what one does not have, the next may; a failure ends
    /// the search, because the next one could answer with somebody else's package.
    async fn upstream(
        &self,
        name: &PackageName,
    ) -> Result<Option<(UpstreamDocument, bool)>, RegistryError> {
        for uplink in self.policy.proxies_of(name) {
            let Some(uplink) = self.uplinks.get(uplink) else {
                continue;
            };
            if let Some(found) = self.one_upstream(name, uplink).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn one_upstream(
        &self,
        name: &PackageName,
        uplink: &Arc<Uplink>,
    ) -> Result<Option<(UpstreamDocument, bool)>, RegistryError> {
        let key = (name.clone(), uplink.name().clone());
        if self.absent.contains_key(&key) {
            return Ok(None);
        }
        let known = match self.upstream.get(&key) {
            Some(known) => Some(known),
            None => self.cached_upstream(name, uplink.name()).await?,
        };
        let now = self.clock.now();
        if let Some(known) = &known {
            let age = Duration::from_millis(now.millis_since(known.freshness.fetched_at));
            if age < uplink.maxage() {
                return Ok(Some((known.clone(), false)));
            }
            if self.is_resting(uplink.name(), now) {
                return Ok(Some((known.clone(), true)));
            }
        }
        let asking = self.flights.join(key.clone(), || {
            ask(
                Arc::clone(uplink),
                name.clone(),
                known.clone(),
                self.store.clone(),
                Arc::clone(&self.clock),
            )
        });
        let answer = if known.is_some() {
            tokio::time::timeout(PATIENCE, asking).await.ok()
        } else {
            Some(asking.await)
        };
        match (answer, known) {
            (Some(Ok(Lookup::Found(document))), _) => {
                self.failures.lock().remove(uplink.name());
                self.upstream.insert(key, document.clone());
                Ok(Some((document, false)))
            }
            (Some(Ok(Lookup::Missing)), _) => {
                self.failures.lock().remove(uplink.name());
                self.upstream.invalidate(&key);
                self.absent.insert(key, ());
                Ok(None)
            }
            (Some(Ok(Lookup::Failed(error))), Some(known)) => {
                tracing::warn!(package.name = %name, uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "upstream failed, serving an old copy");
                self.failures
                    .lock()
                    .insert(uplink.name().clone(), (now, error));
                Ok(Some((known, true)))
            }
            (None, Some(known)) => Ok(Some((known, true))),
            (Some(Ok(Lookup::Failed(error))), None) => Err(error.into()),
            (Some(Ok(Lookup::Damaged(error))), _) => {
                Err(RegistryError::StorageUnavailable(Box::new(error)))
            }
            (Some(Err(lost @ Lost)), _) => Err(RegistryError::internal(lost)),
            (None, None) => Err(RegistryError::internal(Lost)),
        }
    }

    fn is_resting(&self, uplink: &UplinkName, now: Timestamp) -> bool {
        let failures = self.failures.lock();
        failures
            .get(uplink)
            .is_some_and(|(at, _)| Duration::from_millis(now.millis_since(*at)) < RESPITE)
    }

    async fn cached_upstream(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<Option<UpstreamDocument>, RegistryError> {
        let Some(cached) = self.store.cache().packument(name, uplink).await? else {
            return Ok(None);
        };
        let Some(document) = parse(name.clone(), uplink.clone(), cached).await else {
            return Ok(None);
        };
        self.upstream
            .insert((name.clone(), uplink.clone()), document.clone());
        Ok(Some(document))
    }
}

/// What a document of `length` bytes weighs in a cache.
fn weight(length: usize) -> u32 {
    u32::try_from(length.saturating_add(512)).unwrap_or(u32::MAX)
}

/// One question to an uplink, and what is kept of the answer.
async fn ask(
    uplink: Arc<Uplink>,
    name: PackageName,
    known: Option<UpstreamDocument>,
    store: Store,
    clock: SharedClock,
) -> Lookup {
    let validators = known
        .as_ref()
        .map_or_else(Validators::default, |known| Validators {
            etag: known.freshness.etag.clone(),
            last_modified: known.freshness.last_modified.clone(),
        });
    let answer = match uplink.packument(&name, &validators).await {
        Ok(answer) => answer,
        Err(error) => return Lookup::Failed(error),
    };
    let fetched_at = clock.now();
    let cache = store.cache();
    let kept = match (answer, known) {
        (PackumentAnswer::NotModified, Some(mut known)) => {
            known.freshness.fetched_at = fetched_at;
            let (digest, freshness) = (known.digest.to_string(), known.freshness.clone());
            let kept = cache
                .refresh_packument(&name, uplink.name(), digest, freshness)
                .await;
            kept.map(|()| Lookup::Found(known))
        }
        (PackumentAnswer::NotModified, None) => {
            return Lookup::Failed(UplinkError::BadBody("not modified, though nothing is here"));
        }
        (PackumentAnswer::Missing, _) => {
            let removed = cache.remove_packument(&name, uplink.name()).await;
            removed.map(|()| Lookup::Missing)
        }
        (PackumentAnswer::Found { body, validators }, _) => {
            let freshness = Freshness {
                fetched_at,
                etag: validators.etag,
                last_modified: validators.last_modified,
            };
            let cached = CachedDocument::new(body, freshness);
            let Some(document) = parse(name.clone(), uplink.name().clone(), cached.clone()).await
            else {
                return Lookup::Failed(UplinkError::BadBody("it is not a packument of this name"));
            };
            let kept = cache.put_packument(&name, uplink.name(), cached).await;
            kept.map(|()| Lookup::Found(document))
        }
    };
    kept.unwrap_or_else(|error| Lookup::Damaged(Arc::new(error)))
}

/// Parses what an uplink sent; `None` if it is no packument of `name`.
async fn parse(
    name: PackageName,
    uplink: UplinkName,
    cached: CachedDocument,
) -> Option<UpstreamDocument> {
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

fn combine(
    name: &PackageName,
    hosted: Option<HostedDocument>,
    upstream: Option<UpstreamDocument>,
    generation: Arc<str>,
) -> Document {
    let mut tarballs = HashMap::new();
    // Whether a version of `packument` is not signed.
    let mut list = |packument: &Packument, source: &dyn Fn(&Dist) -> TarballSource| {
        let mut has_unsigned = false;
        for (version, raw) in packument.versions() {
            let dist = Dist::of(raw);
            let Some((dist, file)) = dist.and_then(|dist| {
                let file = dist.file(name, version)?;
                Some((dist, file))
            }) else {
                continue;
            };
            let source = source(&dist);
            has_unsigned |= !dist.is_signed;
            tarballs.entry(file).or_insert(ListedTarball {
                integrity: dist.integrity,
                source,
            });
        }
        has_unsigned
    };
    let mut length = 0;
    let mut has_unsigned_of_ours = false;
    let mut unsigned_from = None;
    if let Some(hosted) = &hosted {
        length += hosted.length;
        has_unsigned_of_ours = list(hosted.manifest.packument(), &|_| TarballSource::Hosted);
    }
    if let Some(upstream) = &upstream {
        length += upstream.length;
        let has_unsigned = list(&upstream.packument, &|dist| TarballSource::Upstream {
            uplink: upstream.uplink.clone(),
            address: dist.tarball.clone(),
        });
        unsigned_from = has_unsigned.then(|| upstream.uplink.clone());
    }
    let is_hosted = hosted.is_some();
    let ours = match (&hosted, &upstream) {
        (Some(_), None) => Ours::All,
        (Some(hosted), Some(_)) => {
            let versions = hosted.manifest.packument().versions();
            Ours::These(versions.map(|(version, _)| version.to_owned()).collect())
        }
        (None, _) => Ours::None,
    };
    let packument = match (hosted, upstream) {
        (Some(hosted), Some(upstream)) => {
            Arc::new(merge(hosted.manifest.packument(), &upstream.packument))
        }
        (Some(hosted), None) => Arc::new(hosted.manifest.packument().clone()),
        (None, Some(upstream)) => upstream.packument,
        (None, None) => Arc::default(),
    };
    Document {
        packument,
        generation,
        is_hosted,
        ours,
        has_unsigned_of_ours,
        unsigned_from,
        tarballs,
        length,
    }
}
