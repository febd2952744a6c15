//! [`HostedDocuments`]: manifests as they are stored, looked at no more often than needed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use tokio::sync::mpsc;

use super::{
    changes::{Changes, Seen},
    flight::Flights,
    packument::Hosted,
    recovery::recover,
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock},
    models::{PackageName, Revision, Timestamp},
    storage::{Epoch, Stamp, StorageError, Store},
};

/// Memory for parsed manifests in bytes.
const MAX_MEMORY: u64 = 32 * 1024 * 1024;
/// How long a look at storage is waited for where what is in memory will do.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stored manifest, parsed.
#[derive(Clone, Debug)]
pub(super) struct HostedDocument {
    pub(super) manifest: Arc<Hosted>,
    pub(super) revision: Revision,
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

/// How sure somebody has to be that what he sees is what is stored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// What was seen a while ago will do: whoever asks notices if it lacks something, and asks again.
    Believed,
    /// The client believes it, and would not know what it lacks. Where others publish too, storage is
    /// looked at; while it cannot be, what was seen a while ago will do.
    Current,
    /// Something is decided by it: where others publish too, it is what is stored now, or a failure.
    Strict,
}

type Reading = Result<Option<HostedDocument>, Arc<StorageError>>;

/// What [`HostedDocuments`] is made of.
pub(super) struct HostedOptions {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) lifecycle: Lifecycle,
    /// How long a manifest is believed without a look at storage.
    pub(super) ttl: Duration,
    /// Whether others publish to the same storage.
    pub(super) has_other_nodes: bool,
}

/// Reads manifests from storage, each no more often than needed.
#[derive(Debug)]
pub(super) struct HostedDocuments {
    store: Store,
    clock: SharedClock,
    ttl: Duration,
    has_other_nodes: bool,
    /// Whether a package without a manifest may have tarballs.
    may_be_lost: AtomicBool,
    kept: Cache<PackageName, Kept>,
    /// Manifests on their way from storage, by the state that somebody saw there.
    readings: Flights<(PackageName, Stamp), Reading>,
    /// The same, of which nothing was seen before.
    first_readings: Flights<PackageName, Reading>,
    changes: Changes,
    /// Packages that were recovered, which searches may not know.
    recovered: (
        mpsc::UnboundedSender<PackageName>,
        tokio::sync::Mutex<mpsc::UnboundedReceiver<PackageName>>,
    ),
}

impl HostedDocuments {
    pub(super) fn new(options: HostedOptions) -> Self {
        let HostedOptions {
            store,
            clock,
            lifecycle,
            ttl,
            has_other_nodes,
        } = options;
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            recovered: (sender, receiver.into()),
            clock,
            ttl,
            has_other_nodes,
            may_be_lost: AtomicBool::new(store.is_shared()),
            store,
            kept: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(|_, kept: &Kept| {
                    weight(kept.document.as_ref().map_or(0, |document| document.length))
                })
                .build(),
            readings: Flights::new(lifecycle.clone()),
            first_readings: Flights::new(lifecycle),
            changes: Changes::default(),
        }
    }

    /// The manifest of `name`.
    pub(super) async fn get(
        &self,
        name: &PackageName,
        sight: Sight,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let coherence = self.store.metadata().coherence();
        let epoch = coherence.and_then(|coherence| coherence.epoch());
        if epoch.is_some()
            && let Some(kept) = self.kept.get(name).filter(|kept| kept.epoch == epoch)
        {
            return Ok(kept.document);
        }
        let Some(known) = self.believed(name) else {
            return self.look(name, epoch).await;
        };
        match sight {
            _ if !self.has_other_nodes => return Ok(Some(known)),
            Sight::Believed => return Ok(Some(known)),
            Sight::Strict => return self.look(name, epoch).await,
            Sight::Current => {}
        }
        match tokio::time::timeout(PATIENCE, self.look(name, epoch)).await {
            Ok(Ok(current)) => return Ok(current),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(package.name = %name, error, "storage fails; what was there a while ago is served");
            }
            Err(_) => {
                tracing::warn!(package.name = %name, "storage is slow; what was there a while ago is served");
            }
        }
        Ok(Some(known))
    }

    /// What is known, if it was seen not long ago. Where storage tells of all changes, nothing is
    /// believed while it does not.
    fn believed(&self, name: &PackageName) -> Option<HostedDocument> {
        if self.ttl.is_zero() || self.store.metadata().coherence().is_some() {
            return None;
        }
        let now = self.clock.now();
        self.known(name)
            .filter(|known| Duration::from_millis(now.millis_since(known.looked_at)) < self.ttl)
    }

    /// Looks at storage.
    async fn look(
        &self,
        name: &PackageName,
        epoch: Option<Epoch>,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let seen = self.changes.seen(name);
        let known = self.known(name);
        let before = known.as_ref().map(|known| known.stamp);
        let mut current = self.current(name, known).await?;
        if current.is_none() && self.recovered(name).await? {
            current = self.current(name, None).await?;
        }
        let is_kept = before.is_some() && current.as_ref().map(|current| current.stamp) == before;
        let is_news = !is_kept || epoch.is_some() || !self.ttl.is_zero();
        if is_news && (current.is_some() || epoch.is_some()) {
            self.keep(name, current.as_ref(), epoch, seen);
        }
        Ok(current)
    }

    /// What is stored now, if need be read anew.
    async fn current(
        &self,
        name: &PackageName,
        known: Option<HostedDocument>,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        // A look at a disk costs nothing; elsewhere, it takes as long as reading.
        if known.is_none() && self.store.is_shared() {
            let mut is_ours = false;
            let reading = self.first_readings.start(name.clone(), || {
                is_ours = true;
                self.reading(name)
            });
            let read = reading.landed().await.map_err(RegistryError::internal)?;
            let read = read.map_err(|error| StorageError::shared(&error))?;
            if is_ours {
                return Ok(read);
            }
            // Somebody else had begun to read before we asked.
            return self.looked_at(name, read).await;
        }
        self.looked_at(name, known).await
    }

    async fn looked_at(
        &self,
        name: &PackageName,
        known: Option<HostedDocument>,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let Some(stamp) = self.store.metadata().stamp(name).await? else {
            return Ok(None);
        };
        match known.filter(|known| known.stamp == stamp) {
            Some(known) => Ok(Some(HostedDocument {
                looked_at: self.clock.now(),
                ..known
            })),
            // What is read after the look is the state that was seen, or a later one.
            None => Box::pin(self.read(name, stamp)).await,
        }
    }

    /// Recovers `name`, of which there is no manifest, if that was lost; whether it did.
    pub(super) async fn recover(&self, name: &PackageName) -> Result<bool, RegistryError> {
        let is_recovered = Box::pin(recover(&self.store, name)).await?;
        if is_recovered {
            self.look_again(name);
            // Whoever reads them lives as long as we do, or wants none.
            let _ = self.recovered.0.send(name.clone());
        }
        Ok(is_recovered)
    }

    /// The packages that were recovered.
    pub(super) fn recoveries(&self) -> &tokio::sync::Mutex<mpsc::UnboundedReceiver<PackageName>> {
        &self.recovered.1
    }

    /// Recovers `name`, of which there is no manifest, if that was lost and not all packages have been
    /// looked at yet; whether it did.
    pub(super) async fn recovered(&self, name: &PackageName) -> Result<bool, RegistryError> {
        if !self.may_be_lost.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.recover(name).await
    }

    /// Packages whose manifest was lost have been recovered, all of them or not.
    pub(super) fn are_recovered(&self, are_all: bool) {
        self.may_be_lost.store(!are_all, Ordering::Relaxed);
    }

    fn known(&self, name: &PackageName) -> Option<HostedDocument> {
        self.kept.get(name)?.document
    }

    /// Reads the manifest of `name`, of which somebody saw this `stamp`.
    async fn read(
        &self,
        name: &PackageName,
        stamp: Stamp,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let reading = (name.clone(), stamp);
        let reading = self.readings.join(reading, || self.reading(name));
        let read = reading.await.map_err(RegistryError::internal)?;
        Ok(read.map_err(|error| StorageError::shared(&error))?)
    }

    fn reading(&self, name: &PackageName) -> impl Future<Output = Reading> + Send + use<> {
        let (store, name, now) = (self.store.clone(), name.clone(), self.clock.now());
        async move { stored(&store, &name, now).await.map_err(Arc::new) }
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
            self.kept.insert(name.clone(), Kept { document, epoch });
        });
    }

    /// The manifest of `name` was written.
    pub(super) fn changed(&self, name: &PackageName) {
        self.changes.note(name, || self.kept.invalidate(name));
    }

    /// Whether a manifest of `name` is kept. That there is none may be remembered too.
    pub(super) fn knows(&self, name: &PackageName) -> bool {
        self.kept
            .get(name)
            .is_some_and(|kept| kept.document.is_some())
    }

    /// Makes the next read of `name` look at storage, where another node may have published what
    /// is missed. Whether it might not have looked without that.
    pub(super) fn look_again(&self, name: &PackageName) -> bool {
        let seen = self.changes.seen(name);
        let Some(Kept { document, epoch }) = self.kept.get(name) else {
            return false;
        };
        if epoch.is_none() && self.ttl.is_zero() {
            return false;
        }
        match document {
            Some(known) => {
                let long_ago = HostedDocument {
                    looked_at: Timestamp::from_unix_millis(0),
                    ..known
                };
                self.keep(name, Some(&long_ago), None, seen);
            }
            None => {
                let forget = || self.kept.invalidate(name);
                self.changes.unless_since(name, seen, forget);
            }
        }
        true
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
pub(super) fn weight(length: usize) -> u32 {
    u32::try_from(length.saturating_add(512)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lifecycle::SystemClock,
        storage::{Expected, StoreOptions},
    };

    #[tokio::test]
    async fn a_reader_does_not_bring_back_what_a_writer_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_with_options(StoreOptions {
            data_dir: folder.path().to_owned(),
            cache_dir: None,
        });
        let hosted = HostedDocuments::new(HostedOptions {
            store: store.await.unwrap(),
            clock: Arc::new(SystemClock),
            lifecycle: Lifecycle::new(),
            ttl: Duration::from_secs(3600),
            has_other_nodes: false,
        });
        let name: PackageName = "app".parse().unwrap();
        let json = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
        let metadata = Arc::clone(hosted.store.metadata());
        let old = json(r#"{"name":"app","versions":{}}"#);
        let revision = metadata.put(&name, old, Expected::Absent).await.unwrap();
        // A reader has read, and is about to keep it, when the manifest is written.
        let seen = hosted.changes.seen(&name);
        let now = hosted.clock.now();
        let read = stored(&hosted.store, &name, now).await.unwrap().unwrap();
        let new = json(r#"{"name":"app","versions":{},"readme":"new"}"#);
        let new = metadata.put(&name, new, Expected::Exactly(revision));
        let new = new.await.unwrap();
        hosted.changed(&name);
        hosted.keep(&name, Some(&read), None, seen);
        let shown = hosted.get(&name, Sight::Current).await.unwrap().unwrap();
        assert_eq!(shown.revision, new);
        // From now on it is believed without a look.
        let seen = hosted.known(&name).unwrap();
        assert_eq!(seen.revision, new);
    }
}
