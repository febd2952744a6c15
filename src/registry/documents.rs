//! [`Documents`]: what is known of a name now, hosted and upstream together.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use super::{
    document::Document,
    flight::{Flights, Lost},
    hosted_documents::{HostedDocument, HostedDocuments, HostedOptions, Sight, weight},
    packument::Packument,
    upstream_documents::{Answer, UpstreamDocument, UpstreamDocuments, UpstreamOptions},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock, compute_on},
    models::{Origin, PackageName, Timestamp, UplinkName},
    policy::Policy,
    storage::{StorageError, Store},
    telemetry::Metrics,
    uplink::{Uplink, Uplinks},
};

/// Memory for merged documents in bytes.
const MAX_MEMORY: u64 = 32 * 1024 * 1024;
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
    /// Whether others publish to the same storage.
    pub(super) has_other_nodes: bool,
    /// How long an uplink's "no" is believed.
    pub(super) negative_ttl: Duration,
    pub(super) metrics: Metrics,
}

/// Reads documents from storage and upstream, each no more often than needed.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) uplinks: Arc<Uplinks>,
    pub(super) policy: Arc<Policy>,
    /// The manifests in storage.
    pub(super) hosted: HostedDocuments,
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
            has_other_nodes,
            negative_ttl,
            metrics,
        } = options;
        let hosted = HostedDocuments::new(HostedOptions {
            store: store.clone(),
            clock: Arc::clone(&clock),
            lifecycle: lifecycle.clone(),
            ttl: hosted_ttl,
            has_other_nodes,
        });
        let upstream = UpstreamDocuments::new(UpstreamOptions {
            store,
            clock,
            lifecycle: lifecycle.clone(),
            negative_ttl,
            metrics,
        });
        Self {
            uplinks,
            policy,
            hosted,
            upstream,
            // Merged documents share their bytes with their sources.
            merged: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(|_, document: &Arc<Document>| weight(document.length / 4))
                .build(),
            merging: Flights::new(lifecycle),
        }
    }

    /// The manifest of `name`, of which what was seen a while ago will do.
    pub(super) async fn hosted(
        &self,
        name: &PackageName,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        self.hosted.get(name, Sight::Believed).await
    }

    /// When `uplink` last said what it has of `name`, as far as that is in memory.
    pub(super) fn refreshed(&self, name: &PackageName, uplink: &UplinkName) -> Option<Timestamp> {
        self.upstream.refreshed(name, uplink)
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

    /// What is known of `name`, where it was just seen what is `hosted`, without upstream.
    pub(super) async fn hosted_alone(
        &self,
        name: &PackageName,
        hosted: Option<HostedDocument>,
    ) -> Result<Option<Found>, RegistryError> {
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

    /// Whether what upstream has of `name` is shown beside what is `hosted`, which is stored of it.
    pub(super) fn merges(&self, name: &PackageName, hosted: Option<&HostedDocument>) -> bool {
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
        self.hosted.changed(name);
        self.forget_absence(name);
    }

    /// Forgets what is remembered of `name`, documents of upstream included. Whether anything was.
    pub(super) async fn forget(&self, name: &PackageName) -> Result<bool, StorageError> {
        let mut is_known = self.hosted.knows(name);
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

    async fn store(folder: &tempfile::TempDir) -> Store {
        let options = StoreOptions {
            data_dir: folder.path().to_owned(),
            cache_dir: None,
        };
        Store::open_with_options(options).await.unwrap()
    }

    async fn documents(folder: &tempfile::TempDir, store: Store) -> Documents {
        let clock: SharedClock = Arc::new(SystemClock);
        let rules = Rules::compile(&PackagesConfig::default()).unwrap();
        let second_factors = SecondFactors::of_nobody(folder.path()).await;
        let uplinks = Uplinks::new(&UplinksConfig::default(), &clock, &Metrics::default()).unwrap();
        Documents::new(DocumentsOptions {
            store,
            uplinks: Arc::new(uplinks),
            policy: Arc::new(Policy::new(
                rules,
                None,
                crate::auth::Outside::default(),
                second_factors,
            )),
            clock,
            lifecycle: Lifecycle::new(),
            hosted_ttl: Duration::from_secs(3600),
            has_other_nodes: false,
            negative_ttl: Duration::ZERO,
            metrics: Metrics::default(),
        })
    }

    #[tokio::test]
    async fn many_who_ask_for_a_document_cost_one_merge() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let metadata = Arc::clone(store.metadata());
        let documents = documents(&folder, store).await;
        let name: PackageName = "app".parse().unwrap();
        let json = bytes::Bytes::from_static(br#"{"name":"app","versions":{}}"#);
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
