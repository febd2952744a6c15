//! [`Documents`]: what is known of a name now, hosted and upstream together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;

use super::{
    changes::{Changes, Seen},
    document::Document,
    flight::{Flights, Lost},
    packument::{Hosted, Packument},
    recovery::recover,
    upstream_documents::{Answer, UpstreamDocument, UpstreamDocuments},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock, compute_on},
    models::{Origin, PackageName, Timestamp},
    policy::Policy,
    storage::{Epoch, Stamp, StorageError, Store},
    uplink::{Uplink, Uplinks},
};

/// Memory for parsed manifests in bytes, and again for merged documents.
const MAX_MEMORY: u64 = 32 * 1024 * 1024;
/// A stored manifest, parsed.
#[derive(Clone, Debug)]
pub(super) struct HostedDocument {
    pub(super) manifest: Arc<Hosted>,
    pub(super) revision: crate::models::Revision,
    stamp: Stamp,
    looked_at: Timestamp,
    pub(super) length: usize,
}

/// What was found in storage, and whether notices of all changes arrived then: if they still do,
/// it is what is stored now.
#[derive(Clone, Debug)]
struct Kept {
    document: Option<HostedDocument>,
    epoch: Option<Epoch>,
}

/// A document, and whether upstream could not confirm it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) document: Arc<Document>,
    pub(super) is_stale: bool,
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
    /// Whether a package without a manifest may have tarballs.
    may_be_lost: AtomicBool,
    hosted: Cache<PackageName, Kept>,
    /// Manifests on their way from storage, by the state that somebody saw there.
    readings: Flights<(PackageName, Stamp), Result<Option<HostedDocument>, Arc<StorageError>>>,
    changes: Changes,
    upstream: UpstreamDocuments,
    merged: Cache<PackageName, Arc<Document>>,
    merging: Flights<(PackageName, Arc<str>), Option<Arc<Document>>>,
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
        let may_be_lost = store.is_shared();
        let upstream = UpstreamDocuments::new(
            store.clone(),
            Arc::clone(&clock),
            lifecycle.clone(),
            negative_ttl,
        );
        Self {
            store,
            uplinks,
            policy,
            clock,
            hosted_ttl,
            may_be_lost: AtomicBool::new(may_be_lost),
            hosted: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(|_, kept: &Kept| {
                    weight(kept.document.as_ref().map_or(0, |document| document.length))
                })
                .build(),
            readings: Flights::new(lifecycle.clone()),
            changes: Changes::default(),
            upstream,
            // Merged documents share their bytes with their sources.
            merged: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(|_, document: &Arc<Document>| weight(document.length / 4))
                .build(),
            merging: Flights::new(lifecycle),
        }
    }

    /// The manifest of `name` as it is stored now.
    pub(super) async fn hosted(
        &self,
        name: &PackageName,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let coherence = self.store.metadata().coherence();
        let epoch = coherence.and_then(|coherence| coherence.epoch());
        if epoch.is_some()
            && let Some(kept) = self.hosted.get(name).filter(|kept| kept.epoch == epoch)
        {
            return Ok(kept.document);
        }
        if !self.hosted_ttl.is_zero() {
            let now = self.clock.now();
            let known = self.known(name).filter(|known| {
                Duration::from_millis(now.millis_since(known.looked_at)) < self.hosted_ttl
            });
            if known.is_some() {
                return Ok(known);
            }
        }
        let seen = self.changes.seen(name);
        let mut stamp = self.store.metadata().stamp(name).await?;
        if stamp.is_none() && self.recovered(name).await? {
            stamp = self.store.metadata().stamp(name).await?;
        }
        let Some(stamp) = stamp else {
            if epoch.is_some() {
                self.keep(name, None, epoch, seen);
            }
            return Ok(None);
        };
        let known = self.known(name).filter(|known| known.stamp == stamp);
        let current = match known {
            Some(known) if self.hosted_ttl.is_zero() && epoch.is_none() => return Ok(Some(known)),
            Some(known) => Some(HostedDocument {
                looked_at: self.clock.now(),
                ..known
            }),
            // What is read after the look is the state that was seen, or a later one.
            None => Box::pin(self.read(name, stamp)).await?,
        };
        if current.is_some() {
            self.keep(name, current.as_ref(), epoch, seen);
        }
        Ok(current)
    }

    /// Recovers `name`, of which there is no manifest, if that was lost and not all packages have been
    /// looked at yet; whether it did.
    pub(super) async fn recovered(&self, name: &PackageName) -> Result<bool, RegistryError> {
        if !self.may_be_lost.load(Ordering::Relaxed) {
            return Ok(false);
        }
        Box::pin(recover(&self.store, name)).await
    }

    /// All packages whose manifest was lost have been recovered.
    pub(super) fn all_are_recovered(&self) {
        self.may_be_lost.store(false, Ordering::Relaxed);
    }

    fn known(&self, name: &PackageName) -> Option<HostedDocument> {
        self.hosted.get(name)?.document
    }

    /// Reads the manifest of `name`, of which somebody saw this `stamp`.
    async fn read(
        &self,
        name: &PackageName,
        stamp: Stamp,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let now = self.clock.now();
        let reading = self.readings.join((name.clone(), stamp), || {
            let (store, name) = (self.store.clone(), name.clone());
            async move { stored(&store, &name, now).await.map_err(Arc::new) }
        });
        let read = reading.await.map_err(RegistryError::internal)?;
        Ok(read.map_err(|error| StorageError::shared(&error))?)
    }

    /// Keeps what was read after `seen`, if it was not written meanwhile.
    fn keep(
        &self,
        name: &PackageName,
        current: Option<&HostedDocument>,
        epoch: Option<Epoch>,
        seen: Seen,
    ) {
        self.changes.unless_since(name, seen, || {
            let document = current.cloned();
            self.hosted.insert(name.clone(), Kept { document, epoch });
        });
    }

    /// Everything that is known of `name`; `None` if nobody has it.
    pub(super) async fn find(&self, name: &PackageName) -> Result<Option<Found>, RegistryError> {
        let hosted = self.hosted(name).await?;
        self.find_beside(name, hosted).await
    }

    /// The same, where it was just seen what is `hosted`.
    pub(super) async fn find_beside(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
    ) -> Result<Option<Found>, RegistryError> {
        let upstream = if self.merges(name, hosted.as_ref()) {
            self.upstream(name).await?
        } else {
            None
        };
        self.found(name, hosted, upstream).await
    }

    /// What is known of `name`, of which this is `hosted`, without asking upstream, however old that
    /// is. Stale means that upstream should be asked.
    pub(super) async fn at_hand(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
    ) -> Result<Option<Found>, RegistryError> {
        let upstream = if self.merges(name, hosted.as_ref()) {
            self.known_upstream(name).await
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
        if self.policy.proxies_of(name).is_empty() {
            return Ok(false);
        }
        let hosted = self.hosted(name).await?;
        Ok(self.merges(name, hosted.as_ref()))
    }

    /// The uplink that what upstream has of `name` comes from, without asking: the first that is
    /// known to have it, else the one that would be asked first.
    pub(super) async fn source_at_hand(&self, name: &PackageName) -> Option<&Arc<Uplink>> {
        let uplinks: Vec<_> = self.uplinks_of(name).collect();
        if let [only] = uplinks.as_slice() {
            return Some(only);
        }
        let mut first = None;
        for uplink in uplinks {
            match self.upstream.knows(name, uplink).await {
                Some(true) => return Some(uplink),
                Some(false) => {}
                None => first = first.or(Some(uplink)),
            }
        }
        first
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
        upstream: Option<Answer>,
    ) -> Result<Option<Found>, RegistryError> {
        let (upstream, is_stale) = upstream.map_or((None, false), |(document, is_stale)| {
            (Some(document), is_stale)
        });
        let hosted = hosted.filter(|hosted| !hosted.manifest.is_gone());
        let document = self.merged(name, hosted, upstream).await?;
        Ok(document.map(|document| Found { document, is_stale }))
    }

    async fn known_upstream(&self, name: &PackageName) -> Option<Answer> {
        for uplink in self.uplinks_of(name) {
            if let Some(known) = self.upstream.at_hand(name, uplink).await {
                return Some(known);
            }
        }
        None
    }

    /// The uplinks that the rules name for `name`.
    fn uplinks_of(&self, name: &PackageName) -> impl Iterator<Item = &Arc<Uplink>> {
        let names = self.policy.proxies_of(name).iter();
        names.filter_map(|uplink| self.uplinks.get(uplink))
    }

    /// What upstream has of `name`, whatever is hosted; `None` if the rules name no uplink or none
    /// has it.
    pub(super) async fn upstream_only(
        &self,
        name: &PackageName,
    ) -> Result<Option<Arc<Packument>>, RegistryError> {
        let found = self.upstream(name).await?;
        Ok(found.map(|(document, _)| Arc::clone(&document.packument)))
    }

    /// The manifest of `name` was written.
    pub(super) fn changed(&self, name: &PackageName) {
        self.changes.note(name, || self.hosted.invalidate(name));
        self.forget_absence(name);
    }

    /// Makes the next read of `name` look at storage, where another node may have published what
    /// is missed. Whether it would not have looked without that.
    pub(super) fn look_again(&self, name: &PackageName) -> bool {
        if self.hosted_ttl.is_zero() {
            return false;
        }
        let seen = self.changes.seen(name);
        let Some(known) = self.known(name) else {
            return false;
        };
        let long_ago = HostedDocument {
            looked_at: Timestamp::from_unix_millis(0),
            ..known
        };
        self.keep(name, Some(&long_ago), None, seen);
        true
    }

    /// Forgets what is remembered of `name`, documents of upstream included. Whether anything was.
    pub(super) async fn forget(&self, name: &PackageName) -> Result<bool, StorageError> {
        // That there is nothing may be remembered too.
        let mut is_known = self.known(name).is_some();
        self.changed(name);
        self.merged.invalidate(name);
        for uplink in self.uplinks_of(name) {
            is_known |= self.upstream.forget(name, uplink).await?;
        }
        Ok(is_known)
    }

    /// Forgets that upstream has nothing of this name.
    pub(super) fn forget_absence(&self, name: &PackageName) {
        for uplink in self.uplinks_of(name) {
            self.upstream.forget_absence(name, uplink);
        }
    }

    async fn merged(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
        upstream: Option<Arc<UpstreamDocument>>,
    ) -> Result<Option<Arc<Document>>, RegistryError> {
        let generation: Arc<str> = match (&hosted, &upstream) {
            (None, None) => return Ok(None),
            (Some(hosted), None) => hosted.revision.shared(),
            (None, Some(upstream)) => return Ok(Some(upstream.alone(name))),
            (Some(hosted), Some(upstream)) => {
                format!("{}+{}", hosted.revision, upstream.digest).into()
            }
        };
        let known = self.merged.get(name);
        if let Some(known) = known.filter(|known| known.generation == generation) {
            return Ok(Some(known));
        }
        Box::pin(self.merge(name, hosted, upstream, generation)).await
    }

    async fn merge(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
        upstream: Option<Arc<UpstreamDocument>>,
        generation: Arc<str>,
    ) -> Result<Option<Arc<Document>>, RegistryError> {
        let flight = (name.clone(), Arc::clone(&generation));
        let merging = self.merging.join(flight, || {
            let (merged, name) = (self.merged.clone(), name.clone());
            async move {
                // Somebody may have merged it between the look and this flight.
                let known = merged.get(&name);
                if let Some(known) = known.filter(|known| known.generation == generation) {
                    return Some(known);
                }
                let package = name.clone();
                let lengths = [
                    hosted.as_ref().map_or(0, |hosted| hosted.length),
                    upstream.as_ref().map_or(0, |upstream| upstream.length),
                ];
                let work = move || Arc::new(Document::of(package, hosted, upstream, generation));
                let document = compute_on(lengths.iter().sum(), work).await.ok()?;
                merged.insert(name, Arc::clone(&document));
                Some(document)
            }
        });
        let document = merging.await.ok().flatten();
        document
            .map(Some)
            .ok_or_else(|| RegistryError::internal(Lost))
    }

    /// Asks the uplinks of the rule in order: what one does not have, the next may; a failure ends
    /// the search, because the next one could answer with somebody else's package.
    async fn upstream(&self, name: &PackageName) -> Result<Option<Answer>, RegistryError> {
        for uplink in self.uplinks_of(name) {
            if let Some(found) = self.upstream.ask(name, uplink).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The manifest of `name`, read and parsed.
async fn stored(
    store: &Store,
    name: &PackageName,
    now: Timestamp,
) -> Result<Option<HostedDocument>, StorageError> {
    let Some(document) = store.metadata().get(name).await? else {
        return Ok(None);
    };
    let manifest = Hosted::parse(&document.json).map_err(|error| StorageError::Damaged {
        what: format!("the manifest of `{name}`"),
        source: error.into(),
    })?;
    Ok(Some(HostedDocument {
        manifest: Arc::new(manifest),
        revision: document.revision,
        stamp: document.stamp,
        looked_at: now,
        length: document.json.len(),
    }))
}

/// What a document of `length` bytes weighs in a cache.
fn weight(length: usize) -> u32 {
    u32::try_from(length.saturating_add(512)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::SecondFactors,
        config::{PackagesConfig, UplinksConfig},
        lifecycle::SystemClock,
        policy::Rules,
        storage::{Expected, StoreOptions},
    };

    async fn documents(folder: &tempfile::TempDir) -> Documents {
        let store = Store::open_with_options(StoreOptions {
            data_dir: folder.path().to_owned(),
            cache_dir: None,
        });
        let clock: SharedClock = Arc::new(SystemClock);
        let rules = Rules::compile(&PackagesConfig::default()).unwrap();
        let second_factors = SecondFactors::of_nobody(folder.path()).await;
        let uplinks = Uplinks::new(&UplinksConfig::default(), &clock).unwrap();
        Documents::new(DocumentsOptions {
            store: store.await.unwrap(),
            uplinks: Arc::new(uplinks),
            policy: Arc::new(Policy::new(rules, None, second_factors)),
            clock,
            lifecycle: Lifecycle::new(),
            hosted_ttl: Duration::from_secs(3600),
            negative_ttl: Duration::ZERO,
        })
    }

    #[tokio::test]
    async fn a_reader_does_not_bring_back_what_a_writer_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let documents = documents(&folder).await;
        let name: PackageName = "app".parse().unwrap();
        let json = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
        let metadata = Arc::clone(documents.store.metadata());
        let old = json(r#"{"name":"app","versions":{}}"#);
        let revision = metadata.put(&name, old, Expected::Absent).await.unwrap();
        // A reader has read, and is about to keep it, when the manifest is written.
        let seen = documents.changes.seen(&name);
        let now = documents.clock.now();
        let read = stored(&documents.store, &name, now).await.unwrap().unwrap();
        let new = json(r#"{"name":"app","versions":{},"readme":"new"}"#);
        let new = metadata.put(&name, new, Expected::Exactly(revision));
        let new = new.await.unwrap();
        documents.changed(&name);
        documents.keep(&name, Some(&read), None, seen);
        let shown = documents.hosted(&name).await.unwrap().unwrap();
        assert_eq!(shown.revision, new);
        // From now on it is believed without a look.
        let seen = documents.known(&name).unwrap();
        assert_eq!(seen.revision, new);
    }

    #[tokio::test]
    async fn many_who_ask_for_a_document_cost_one_merge() {
        let folder = tempfile::tempdir().unwrap();
        let documents = documents(&folder).await;
        let name: PackageName = "app".parse().unwrap();
        let json = bytes::Bytes::from_static(br#"{"name":"app","versions":{}}"#);
        let metadata = Arc::clone(documents.store.metadata());
        metadata.put(&name, json, Expected::Absent).await.unwrap();
        let hosted = documents.hosted(&name).await.unwrap();
        // All of them ask before anything is merged.
        let asked = [(); 20].map(|()| documents.merged(&name, hosted.clone(), None));
        let merged = futures_util::future::join_all(asked).await;
        let merged: Vec<_> = merged
            .into_iter()
            .map(|one| one.unwrap().unwrap())
            .collect();
        assert!(merged.iter().all(|one| Arc::ptr_eq(one, &merged[0])));
    }
}
