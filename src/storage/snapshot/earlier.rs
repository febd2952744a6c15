//! [`Earlier`]: a snapshot that is there already, which is only read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt as _;

use super::{ACCOUNTS, contents};
use crate::{
    models::{Integrity, PackageName, TarballName},
    storage::{
        Blobs as _, FileAccounts, FileKeys, FsBlobs, FsMetadata, Layout, MetadataStore as _,
        StorageError, fs::blocking, moving::named_in,
    },
};

/// A snapshot that is there already.
#[derive(Clone, Debug)]
pub struct Earlier {
    folder: PathBuf,
    pub(super) layout: Layout,
    pub(super) metadata: FsMetadata,
    pub(super) blobs: FsBlobs,
    is_as_made: bool,
}

/// A tarball that a snapshot has, and what its manifest says of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) integrity: Option<Integrity>,
    pub(super) length: u64,
}

impl Earlier {
    /// The snapshot in `folder`.
    pub async fn open(folder: PathBuf) -> Result<Self, StorageError> {
        let path = folder.clone();
        let is_as_made = blocking(move || Ok(contents::is_as_made(&path))).await?;
        let layout = Layout::native(folder.join("tarballs"));
        let metadata = FsMetadata::foreign(layout.clone());
        let quarantine = folder.join("quarantine");
        Ok(Self {
            blobs: FsBlobs::new(layout.clone(), metadata.clone(), quarantine),
            layout,
            metadata,
            folder,
            is_as_made,
        })
    }

    /// Whether it is as it was made: one that was served since may have other packages and accounts.
    pub fn is_as_made(&self) -> bool {
        self.is_as_made
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its keys.
    pub fn keys(&self) -> FileKeys {
        FileKeys::foreign(self.folder.clone())
    }

    /// Its accounts.
    pub async fn accounts(&self) -> Result<FileAccounts, StorageError> {
        FileAccounts::read(self.folder.join(ACCOUNTS)).await
    }

    /// Whether it has no package at all.
    pub async fn has_no_packages(&self) -> Result<bool, StorageError> {
        Ok(self.names().await?.is_empty())
    }

    /// All its packages, those without a manifest too.
    pub(super) async fn names(&self) -> Result<BTreeSet<PackageName>, StorageError> {
        self.blobs.packages().try_collect().await
    }

    /// Its tarballs of `name` that its manifest names. None where that cannot be read.
    pub(super) async fn known(&self, name: &PackageName) -> BTreeMap<TarballName, Known> {
        let mut known = BTreeMap::new();
        let (document, blobs) = (
            self.metadata.get(name).await,
            self.blobs.list(name).await.unwrap_or_default(),
        );
        let Ok(Some(document)) = document else {
            return known;
        };
        let Ok((named, _)) = named_in(name, &document.json) else {
            return known;
        };
        for named in named {
            if let Some(blob) = blobs.iter().find(|blob| blob.file == named.file) {
                let of = Known {
                    integrity: named.integrity,
                    length: blob.length,
                };
                known.insert(named.file, of);
            }
        }
        known
    }
}

/// The newest that is as it was made; what it has is never lost.
pub(super) fn base(earlier: &[Earlier]) -> Option<&Earlier> {
    earlier.iter().find(|earlier| earlier.is_as_made)
}
