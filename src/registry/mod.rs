//! Floor 6: what the registry does, in npm's terms. Knows no HTTP framework.

mod access;
mod attestations;
mod audit;
mod audit_question;
mod audit_tree;
mod authorise;
#[doc(hidden)]
pub mod bench;
mod cached;
mod changes;
mod coherence;
mod compress;
mod discovery;
mod dist_tags;
mod document;
mod documents;
mod edit;
mod fill;
mod flight;
pub mod fsck;
#[doc(hidden)]
pub mod fuzz;
mod hosted_documents;
pub mod import;
mod keeping;
mod listings;
mod locks;
mod metadata;
pub mod mirror;
pub mod packument;
pub mod publish;
mod read;
mod recovery;
mod rendered;
mod room;
mod search;
mod search_upstream;
pub mod shadow;
mod shown;
mod side_documents;
mod signatures;
mod small_tarballs;
mod stored;
mod tarball;
mod unpublish;
mod upstream_documents;

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

pub use access::{AccessChange, Collaborators};
use attestations::Attestations;
use audit::Audits;
pub use audit::TreeAudit;
use cached::Surveys;
pub use cached::{Behind, CachePart, CachedPage, CachedRow, Surveyed};
use documents::{Documents, DocumentsOptions};
use fill::Fills;
pub use listings::Holder;
use locks::NameLocks;
pub use packument::Ours;
pub use publish::put::{Done, Sent};
use publish::receive::room;
pub use read::{Asked, Document};
pub use rendered::Rendering;
use rendered::Renderings;
use room::Room;
pub use search::SearchPage;
use search_upstream::Findings;
pub use shown::Shown;
use side_documents::SideDocuments;
use signatures::Keyring;
pub use signatures::PublishedKeys;
use small_tarballs::SmallTarballs;
pub use stored::{Reindexed, StoreReindexed, StoredManifest, StoredPackage, reindex_store};
pub use tarball::{Download, Tarball, TarballBytes};

use crate::{
    config::PublishConfig,
    error::RegistryError,
    events::Events,
    lifecycle::{Lifecycle, SharedClock},
    models::{Digest, PackageName, Version},
    policy::{Admins, Policy},
    search::Index,
    storage::{Leases, SigningKeys, Store, UpstreamCache},
    telemetry::Metrics,
    uplink::{Standing, Uplinks},
};

/// How long after a publish the same client may send it again and get the same answer.
const RETRY_WINDOW: Duration = Duration::from_secs(300);

/// What a [`Registry`] is made of.
#[derive(Debug)]
pub struct RegistryOptions {
    /// Where hosted packages and the cache of upstream are kept.
    pub store: Store,
    /// The upstream registries.
    pub uplinks: Uplinks,
    /// Whether searches leave the uplinks out.
    pub searches_are_local: bool,
    /// Who may do what.
    pub policy: Policy,
    /// Who may look at packages that nobody may use, and name their owners.
    pub admins: Admins,
    /// What a publish may do.
    pub publish: PublishConfig,
    /// How long a manifest is believed without a look at storage; zero looks each time.
    pub hosted_ttl: Duration,
    /// Whether others publish to the same storage.
    pub has_other_nodes: bool,
    /// How often storage is listed for what others have changed; zero never does.
    pub discovery_refresh: Duration,
    /// How long the absence of a package upstream is remembered.
    pub negative_cache_ttl: Duration,
    /// What other nodes take turns by, if they do.
    pub leases: Leases,
    /// What published versions are signed with, if they are.
    pub signing_keys: Option<SigningKeys>,
    /// Who is told of what was done.
    pub events: Events,
    /// The clock.
    pub clock: SharedClock,
    /// What background work belongs to.
    pub lifecycle: Lifecycle,
    /// What is counted.
    pub metrics: Metrics,
}

/// The registry: all that clients can ask of it.
///
/// Use cases decide themselves whether the caller may; whoever calls them need not.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    searches_are_local: bool,
    policy: Arc<Policy>,
    admins: Admins,
    publish: PublishConfig,
    events: Events,
    clock: SharedClock,
    lifecycle: Lifecycle,
    metrics: Metrics,
    documents: Documents,
    keyrings: SideDocuments<Keyring>,
    attestations: SideDocuments<Attestations>,
    signing_keys: Option<Arc<SigningKeys>>,
    renderings: Renderings,
    fills: Fills,
    small_tarballs: SmallTarballs,
    locks: NameLocks,
    leases: Leases,
    room: Room,
    audits: Audits,
    index: Index,
    discovery_refresh: Duration,
    findings: Findings,
    surveys: Surveys,
    is_indexed: tokio::sync::watch::Sender<bool>,
    /// Whether somebody has searched.
    is_wanted: tokio::sync::watch::Sender<bool>,
    /// Who published a version a moment ago, and with which bytes.
    recent: Cache<(PackageName, Version), (Arc<str>, Digest)>,
}

impl Registry {
    /// Tells the metrics which uplinks are left alone now.
    pub fn tell_breakers(&self) {
        for uplink in self.documents.uplinks.iter() {
            uplink.tell_breakers();
        }
    }

    /// A registry of `options`.
    pub fn new(options: RegistryOptions) -> Arc<Self> {
        let RegistryOptions {
            store,
            uplinks,
            searches_are_local,
            policy,
            admins,
            publish,
            hosted_ttl,
            has_other_nodes,
            discovery_refresh,
            negative_cache_ttl,
            leases,
            signing_keys,
            events,
            clock,
            lifecycle,
            metrics,
        } = options;
        let policy = Arc::new(policy);
        let small_tarballs = SmallTarballs::default();
        Arc::new(Self {
            documents: Documents::new(DocumentsOptions {
                store: store.clone(),
                uplinks: Arc::new(uplinks),
                policy: Arc::clone(&policy),
                clock: Arc::clone(&clock),
                lifecycle: lifecycle.clone(),
                hosted_ttl,
                has_other_nodes,
                negative_ttl: negative_cache_ttl,
                metrics: metrics.clone(),
            }),
            keyrings: SideDocuments::new(store.clone(), Arc::clone(&clock), lifecycle.clone()),
            attestations: SideDocuments::new(store.clone(), Arc::clone(&clock), lifecycle.clone()),
            signing_keys: signing_keys.map(Arc::new),
            renderings: Renderings::new(lifecycle.clone(), metrics.clone()),
            fills: Fills::new(
                store.clone(),
                small_tarballs.clone(),
                Arc::clone(&clock),
                lifecycle.clone(),
            ),
            small_tarballs,
            locks: NameLocks::default(),
            leases,
            room: room(),
            audits: Audits::default(),
            index: Index::default(),
            discovery_refresh,
            findings: Findings::new(lifecycle.clone()),
            surveys: Surveys::new(lifecycle.clone()),
            is_indexed: tokio::sync::watch::Sender::new(false),
            is_wanted: tokio::sync::watch::Sender::new(false),
            recent: Cache::builder()
                .max_capacity(10_000)
                .time_to_live(RETRY_WINDOW)
                .build(),
            store,
            searches_are_local,
            policy,
            admins,
            publish,
            events,
            clock,
            lifecycle,
            metrics,
        })
    }

    /// How the uplinks do, in the order of the settings.
    pub fn uplinks(&self) -> Vec<Standing> {
        let uplinks = self.documents.uplinks.iter();
        uplinks.map(|uplink| uplink.standing()).collect()
    }

    /// The cache of what came from upstream.
    pub fn cache(&self) -> &UpstreamCache {
        self.store.cache()
    }

    /// Forgets what a policy service decided.
    pub fn forget_decisions(&self) {
        self.policy.forget_decisions();
    }

    /// Forgets what is remembered of `name`, so that the next read asks storage and upstream.
    /// Whether anything was remembered.
    pub async fn forget(&self, name: &PackageName) -> Result<bool, RegistryError> {
        Ok(self.documents.forget(name).await?)
    }

    /// Succeeds when storage answers.
    pub async fn check_storage(&self) -> Result<(), RegistryError> {
        Ok(self.store.check().await?)
    }
}
