//! What is stored of each package: the walk that `fsck`, the health report and reindexing share.

use std::collections::{BTreeSet, HashSet};

use futures_util::StreamExt as _;

use super::{Registry, packument::Hosted, recovery};
use crate::{
    error::RegistryError,
    models::{PackageName, TarballName},
    storage::{StorageError, Store, TemporaryFolder},
};

/// The manifest of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredManifest {
    /// There is none.
    Absent,
    /// It cannot be read.
    Damaged,
    /// It has no version any more.
    Gone,
    /// It has versions.
    There,
}

/// What is stored of a package.
#[derive(Clone, Debug)]
pub struct StoredPackage {
    /// Its name.
    pub name: PackageName,
    /// Its manifest.
    pub manifest: StoredManifest,
    /// How many tarballs there are.
    pub tarballs: usize,
    /// Those that no version names, by name.
    pub orphans: Vec<TarballName>,
    /// Those that a version names and that are not there, by name.
    pub missing: Vec<TarballName>,
}

/// What reindexing a package came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reindexed {
    /// Whether there was a version to be read before.
    pub was_there: bool,
    /// Whether there is one now.
    pub is_there: bool,
    /// Whether its manifest was lost, and has been rebuilt.
    pub is_rebuilt: bool,
    /// Whether its manifest cannot be read.
    pub is_damaged: bool,
    /// Whether searches know something else of it now.
    pub has_changed: bool,
}

/// All names of packages of which something is stored, and perhaps others. Nothing else is held in
/// memory.
pub(super) async fn names(store: &Store) -> Result<BTreeSet<PackageName>, StorageError> {
    let mut names = store.legacy_names().await?;
    let mut listed = store.blobs().packages().chain(store.metadata().list());
    while let Some(name) = listed.next().await {
        names.insert(name?);
    }
    Ok(names)
}

/// The manifest of a package as it is now.
enum Read {
    Absent,
    Damaged,
    Whole(Box<Hosted>),
}

async fn read(store: &Store, name: &PackageName) -> Result<Read, StorageError> {
    Ok(match store.metadata().get(name).await? {
        None => Read::Absent,
        Some(document) => Hosted::parse(&document.json)
            .map_or(Read::Damaged, |manifest| Read::Whole(Box::new(manifest))),
    })
}

impl Read {
    fn files(&self, name: &PackageName) -> HashSet<TarballName> {
        match self {
            Self::Whole(manifest) => manifest.files(name).into_iter().collect(),
            Self::Absent | Self::Damaged => HashSet::new(),
        }
    }

    fn kind(&self) -> StoredManifest {
        match self {
            Self::Absent => StoredManifest::Absent,
            Self::Damaged => StoredManifest::Damaged,
            Self::Whole(manifest) if manifest.is_gone() => StoredManifest::Gone,
            Self::Whole(_) => StoredManifest::There,
        }
    }
}

/// What is stored of `name`, while others write it.
async fn look(store: &Store, name: &PackageName) -> Result<StoredPackage, StorageError> {
    let mut manifest = read(store, name).await?;
    let mut named = manifest.files(name);
    let blobs = store.blobs().list(name).await?;
    let there: BTreeSet<TarballName> = blobs.into_iter().map(|blob| blob.file).collect();
    let mut missing: Vec<TarballName> = named
        .iter()
        .filter(|file| !there.contains(*file))
        .cloned()
        .collect();
    if !missing.is_empty() || there.iter().any(|file| !named.contains(file)) {
        // It may have been published or unpublished between.
        manifest = read(store, name).await?;
        named = manifest.files(name);
        missing.retain(|file| named.contains(file));
        missing.sort();
    }
    let tarballs = there.len();
    let orphans = match manifest {
        Read::Whole(_) => there
            .into_iter()
            .filter(|file| !named.contains(file))
            .collect(),
        Read::Absent | Read::Damaged => Vec::new(),
    };
    Ok(StoredPackage {
        name: name.clone(),
        manifest: manifest.kind(),
        tarballs,
        orphans,
        missing,
    })
}

/// What reindexing all that is stored came to, where no registry runs: there are no searches to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreReindexed {
    /// Packages that could be read before.
    pub before: usize,
    /// Packages that can be read now.
    pub after: usize,
    /// Manifests that were lost, and have been rebuilt.
    pub rebuilt: usize,
    /// Manifests that cannot be read, and were left as they are.
    pub damaged: usize,
}

/// Rebuilds all manifests that are lost, as [`Registry::reindex_package`] does. `watch` hears how many packages
/// were looked at, and how many there are.
pub async fn reindex_store(
    store: &Store,
    watch: &(dyn Fn(usize, usize) + Sync),
) -> Result<StoreReindexed, RegistryError> {
    let names = names(store).await?;
    let mut counts = StoreReindexed::default();
    for (done, name) in names.iter().enumerate() {
        watch(done, names.len());
        let mut found = read(store, name).await?;
        counts.before += usize::from(found.kind() == StoredManifest::There);
        if matches!(found, Read::Absent) && Box::pin(recovery::recover(store, name)).await? {
            counts.rebuilt += 1;
            found = read(store, name).await?;
        }
        counts.after += usize::from(found.kind() == StoredManifest::There);
        counts.damaged += usize::from(found.kind() == StoredManifest::Damaged);
    }
    Ok(counts)
}

impl Registry {
    /// All names of packages of which something is stored, and perhaps others.
    pub async fn stored_names(&self) -> Result<BTreeSet<PackageName>, RegistryError> {
        Ok(names(&self.store).await?)
    }

    /// How many names are in the list that Verdaccio's plugin keeps in its bucket.
    pub async fn count_legacy_names(&self) -> Result<usize, RegistryError> {
        Ok(self.store.legacy_names().await?.len())
    }

    /// What is stored of `name`.
    pub async fn stored_package(&self, name: &PackageName) -> Result<StoredPackage, RegistryError> {
        Ok(look(&self.store, name).await?)
    }

    /// The names of the packages that searches know.
    pub fn indexed_names(&self) -> BTreeSet<PackageName> {
        let entries = self.index.after("");
        entries.iter().map(|entry| entry.name.clone()).collect()
    }

    /// Whether searches know `name`.
    pub fn is_indexed(&self, name: &PackageName) -> bool {
        self.index.contains(name)
    }

    /// Where something may be kept for as long as it is worked on.
    pub fn temporary(&self) -> &TemporaryFolder {
        self.store.temporary()
    }

    /// Rebuilds the manifest of `name` from its tarballs if it is lost, and lets searches find what is
    /// stored. A manifest that is there is the truth, whatever the tarballs say; one that cannot be
    /// read is left as it is.
    pub async fn reindex_package(&self, name: &PackageName) -> Result<Reindexed, RegistryError> {
        let mut is_rebuilt = false;
        let mut found = read(&self.store, name).await?;
        let was_there = found.kind() == StoredManifest::There;
        if matches!(found, Read::Absent) {
            is_rebuilt = Box::pin(recovery::recover(&self.store, name)).await?;
        }
        self.documents.hosted.look_again(name);
        // A writer between the read and the index would be undone.
        let _alone = self.locks.lock(name).await;
        let before = self.index.get(name);
        found = read(&self.store, name).await?;
        match &found {
            Read::Whole(manifest) => self.index_manifest(name, manifest),
            Read::Absent => self.index.remove(name),
            Read::Damaged => {
                tracing::error!(package.name = %name, "the manifest cannot be read; put back a copy of it");
            }
        }
        Ok(Reindexed {
            was_there,
            is_there: found.kind() == StoredManifest::There,
            is_rebuilt,
            is_damaged: found.kind() == StoredManifest::Damaged,
            has_changed: self.index.get(name) != before,
        })
    }

    /// Searches know everything now, and nothing is lost any more.
    pub fn all_is_reindexed(&self) {
        self.documents.hosted.are_recovered(true);
        self.is_indexed.send_replace(true);
    }
}
