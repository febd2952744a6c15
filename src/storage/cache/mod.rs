//! [`UpstreamCache`]: what came from upstream. All of it may be deleted at any time.

#[cfg(test)]
pub(in crate::storage) mod conformance;
mod document;
mod folder;
mod last_use;
mod prune;
mod shared;
mod stats;
mod survey;
#[cfg(test)]
mod tests;
mod tier;
mod walk;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

#[cfg(feature = "object")]
pub(in crate::storage) use document::Head;
pub use document::{CachedDocument, Freshness};
use folder::FolderTier;
use parking_lot::Mutex;
pub use prune::{Amount, CacheBounds, Care, Pruned};
use shared::Shared;
pub use stats::{CacheStats, Selection};
pub use survey::{CachedPackage, Survey};
use tier::folder_of;
#[cfg(feature = "object")]
pub(in crate::storage) use tier::{DOCUMENTS, Folder, PACKAGES};
pub(in crate::storage) use tier::{Entry, Kind, Place, Tier};

use super::{
    Blob, FileBlob, FinishedBlob, Observer, StorageError, TemporaryBlob,
    fs::{blocking, verdaccio::VerdaccioCache},
};
use crate::models::{Digest, Integrity, PackageName, TarballName, UplinkName};

/// How often something is put in its place whose folder goes away at that moment.
const ATTEMPTS: u8 = 3;

/// The cache of upstream documents and tarballs, apart from everything hosted. Cheap to clone.
///
/// It is a folder of this machine, which several processes may share: each file is put in its place
/// whole, and says itself what it is. Folders are made when something is put into them, because all
/// of them may be deleted at any time. Nothing waits until it is durable, except the bytes of
/// tarballs: documents that a power cut left half-written do not have their digests, and are fetched
/// again. Behind it there may be another tier that all nodes share.
#[derive(Clone, Debug)]
pub struct UpstreamCache {
    local: FolderTier,
    shared: Option<Arc<Shared>>,
    /// What Verdaccio has cached, in a folder of its.
    earlier: Option<VerdaccioCache>,
    care: Arc<Mutex<Care>>,
}

impl UpstreamCache {
    /// Opens the cache; makes its folder if it is missing. Blocks.
    pub fn open(root: PathBuf) -> Result<Self, StorageError> {
        Ok(Self {
            local: FolderTier::open(root)?,
            shared: None,
            earlier: None,
            care: Arc::default(),
        })
    }

    /// Opens it like [`UpstreamCache::open`], without blocking.
    pub async fn open_folder(root: PathBuf) -> Result<Self, StorageError> {
        blocking(move || Self::open(root)).await
    }

    /// The same with a tier in `bucket` behind it, which all nodes share.
    #[cfg(feature = "object")]
    #[must_use]
    pub fn shared_in(self, bucket: super::object::Bucket) -> Self {
        let tier = super::object::CacheTier::new(bucket);
        Self {
            shared: Some(Arc::new(Shared::new(Arc::new(tier)))),
            ..self
        }
    }

    /// The same with what Verdaccio has cached behind all of it, which is read where nothing newer is
    /// known.
    #[must_use]
    pub(in crate::storage) fn behind_which(self, earlier: VerdaccioCache) -> Self {
        Self {
            earlier: Some(earlier),
            ..self
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.local.root
    }

    /// The cached packument of `name` from `uplink`. Damaged entries are as good as none.
    pub async fn packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let found = self.read(Place::packument(name, uplink)).await?;
        match &self.earlier {
            Some(earlier) if found.is_none() => earlier.packument(name, uplink).await,
            _ => Ok(found),
        }
    }

    /// What another node has learned of a packument since this one was `known`: the next state of
    /// it, or that upstream has confirmed it. `None` where nobody has, or nothing is shared.
    pub async fn newer_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        known: CachedDocument,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let place = Place::packument(name, uplink);
        let Some((digest, freshness)) = shared.freshness(&place).await else {
            return Ok(None);
        };
        if freshness.fetched_at <= known.freshness.fetched_at {
            return Ok(None);
        }
        if digest == known.digest {
            let confirmed = CachedDocument { freshness, ..known };
            let kept = self.local.refresh_document(&place, confirmed.clone());
            warn_if_failed(kept.await);
            return Ok(Some(confirmed));
        }
        self.fetch(shared, &place).await
    }

    /// Whether a packument of `name` from `uplink` is there on this machine, whatever its state.
    pub async fn has_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<bool, StorageError> {
        let place = Place::packument(name, uplink);
        self.local.has_document(&place).await
    }

    /// Keeps a packument.
    pub async fn put_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        packument: CachedDocument,
    ) -> Result<(), StorageError> {
        self.put(Place::packument(name, uplink), packument).await
    }

    /// Keeps the freshness of a packument of which upstream said again that it is current, and the
    /// packument itself if it is not there any more.
    pub async fn refresh_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        packument: CachedDocument,
    ) -> Result<(), StorageError> {
        let place = Place::packument(name, uplink);
        let kept = self.local.refresh_document(&place, packument.clone()).await;
        if let Some(shared) = &self.shared {
            let refreshed = shared.tier().refresh_document(&place, packument);
            shared.write(refreshed).await?;
        }
        kept
    }

    /// Forgets a packument that upstream no longer has.
    pub async fn remove_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<(), StorageError> {
        let place = Place::packument(name, uplink);
        let removed = self.local.remove_document(&place).await;
        if let Some(shared) = &self.shared {
            // Also while it is left alone: it would come back.
            shared.tier().remove_document(&place).await?;
        }
        removed
    }

    /// What `uplink` last answered at `path`, other than packuments and tarballs. Damaged entries
    /// are as good as none.
    pub async fn document(
        &self,
        uplink: &UplinkName,
        path: &str,
    ) -> Result<Option<CachedDocument>, StorageError> {
        self.read(Place::document(uplink, path)).await
    }

    /// Keeps such an answer.
    pub async fn put_document(
        &self,
        uplink: &UplinkName,
        path: &str,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        self.put(Place::document(uplink, path), document).await
    }

    /// Opens the cached tarball with `digest` on this machine; it was verified before it was kept.
    pub async fn tarball(
        &self,
        name: &PackageName,
        digest: &Digest,
    ) -> Result<Option<FileBlob>, StorageError> {
        let place = Place::tarball(name, digest);
        let found = self.local.file(&place).await?;
        if let (Some(shared), Some(_)) = (&self.shared, &found) {
            shared.note_use(place);
        }
        Ok(found)
    }

    /// Opens the tarball with `digest` that all nodes share, if one is. Whoever reads it compares it
    /// with `digest`, and says so with [`UpstreamCache::remove_shared_tarball`] if it is another.
    pub async fn shared_tarball(&self, name: &PackageName, digest: &Digest) -> Option<Blob> {
        let shared = self.shared.as_ref()?;
        shared.tarball(Place::tarball(name, digest)).await
    }

    /// Removes a shared tarball that is not what it should be.
    pub async fn remove_shared_tarball(
        &self,
        name: &PackageName,
        digest: &Digest,
    ) -> Result<(), StorageError> {
        if let Some(shared) = &self.shared {
            let Place { folder, file } = Place::tarball(name, digest);
            let entry = Entry {
                files: vec![file],
                kind: Kind::Tarball,
                length: 0,
                used: crate::models::Timestamp::from_unix_millis(0),
            };
            shared.tier().remove(&folder, &[entry]).await?;
        }
        Ok(())
    }

    /// Takes over the tarball `file` that Verdaccio has downloaded, if it has one with this integrity.
    /// Whether it has; [`UpstreamCache::tarball`] opens it then.
    pub async fn take_over_tarball(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<bool, StorageError> {
        let Some(earlier) = &self.earlier else {
            return Ok(false);
        };
        let Some((own, length)) = earlier.tarball(name, file, integrity).await? else {
            return Ok(false);
        };
        let place = Place::tarball(name, integrity.strongest());
        let path = own.path();
        self.local
            .put_tarball(&place, FinishedBlob { path, length })
            .await?;
        Ok(true)
    }

    /// Keeps the finished, durable and verified `blob` as the tarball with `digest`.
    pub async fn put_tarball<O: Observer>(
        &self,
        name: &PackageName,
        digest: &Digest,
        blob: &TemporaryBlob<O>,
    ) -> Result<(), StorageError> {
        let place = Place::tarball(name, digest);
        let blob = FinishedBlob {
            path: blob.path(),
            length: blob.written(),
        };
        let kept = self.local.put_tarball(&place, blob).await;
        if let Some(shared) = &self.shared {
            shared
                .write(shared.tier().put_tarball(&place, blob))
                .await?;
        }
        kept
    }

    /// Keeps a small tarball, whose bytes whoever reads it compares with `digest`: it need not be
    /// durable.
    pub async fn put_small_tarball(
        &self,
        name: &PackageName,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        let place = Place::tarball(name, digest);
        let kept = self.local.put_small_tarball(&place, bytes.clone()).await;
        if let Some(shared) = &self.shared {
            let put = shared.tier().put_small_tarball(&place, bytes);
            shared.write(put).await?;
        }
        kept
    }

    /// The tarballs on this machine whose bytes are not those that their names promise; with
    /// `remove`, they are deleted: all of the cache comes again.
    pub async fn damaged_tarballs(&self, remove: bool) -> Result<Vec<PathBuf>, StorageError> {
        self.local.damaged_tarballs(remove).await
    }

    async fn read(&self, place: Place) -> Result<Option<CachedDocument>, StorageError> {
        let found = self.local.document(&place).await?;
        let Some(shared) = &self.shared else {
            return Ok(found);
        };
        if found.is_some() {
            shared.note_use(place);
            return Ok(found);
        }
        self.fetch(shared, &place).await
    }

    /// Brings a shared document here.
    async fn fetch(
        &self,
        shared: &Shared,
        place: &Place,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let Some(document) = shared.document(place).await else {
            return Ok(None);
        };
        let kept = self.local.put_document(place, document.clone());
        warn_if_failed(kept.await);
        Ok(Some(document))
    }

    async fn put(&self, place: Place, document: CachedDocument) -> Result<(), StorageError> {
        let kept = self.local.put_document(&place, document.clone()).await;
        if let Some(shared) = &self.shared {
            let put = shared.tier().put_document(&place, document);
            shared.write(put).await?;
        }
        kept
    }

    /// The tiers with what each is called: the folder of this machine, then what is shared.
    fn tiers(&self) -> impl Iterator<Item = &dyn Tier> {
        let local: &dyn Tier = &self.local;
        let shared = self.shared.as_ref().map(|shared| shared.tier());
        std::iter::once(local).chain(shared)
    }
}

/// What is shared is good although it cannot be kept here.
fn warn_if_failed(kept: Result<(), StorageError>) {
    if let Err(error) = kept {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "what the nodes share cannot be kept here"
        );
    }
}
