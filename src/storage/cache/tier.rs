//! [`Tier`]: a place where cached documents and tarballs are kept, a folder or a bucket.

use std::{fmt, path::Path, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use sha2::Digest as _;

use super::{CachedDocument, Freshness};
use crate::{
    models::{Digest, PackageName, Timestamp, UplinkName},
    storage::{Blob, FinishedBlob, StorageError, layout::folder_name},
};

/// The folder of the packages' folders.
pub(in crate::storage) const PACKAGES: &str = "packages";
/// The folder of the uplinks' folders, for what is not of one package.
pub(in crate::storage) const DOCUMENTS: &str = "documents";

/// Where something is, in every tier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::storage) struct Place {
    /// Such as `packages/@scope__name`.
    pub(in crate::storage) folder: String,
    /// The file in it.
    pub(in crate::storage) file: String,
}

impl Place {
    /// That of the packument of `name` from `uplink`.
    pub(super) fn packument(name: &PackageName, uplink: &UplinkName) -> Self {
        Self {
            folder: folder_of(name),
            file: format!("{uplink}.json"),
        }
    }

    /// That of what `uplink` answers at `path`.
    pub(super) fn document(uplink: &UplinkName, path: &str) -> Self {
        // Paths are of any length and alphabet.
        let stem = hex::encode(sha2::Sha256::digest(path));
        Self {
            folder: format!("{DOCUMENTS}/{uplink}"),
            file: format!("{stem}.json"),
        }
    }

    /// That of a tarball.
    pub(super) fn tarball(name: &PackageName, digest: &Digest) -> Self {
        Self {
            folder: folder_of(name),
            file: format!("{}-{}.tgz", digest.algorithm.as_str(), digest.to_hex()),
        }
    }
}

/// The folder of all that is known of `name`: one, because folders take long to make.
pub(super) fn folder_of(name: &PackageName) -> String {
    format!("{PACKAGES}/{}", folder_name(name))
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Kind {
    /// A document of the uplink of this name.
    Document(String),
    /// A tarball, which does not say which uplink it came from.
    Tarball,
    /// What somebody left who died while he wrote or deleted an entry.
    Leftover,
}

/// What is kept at one place.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Entry {
    /// The files that it consists of, in the order in which they are to be deleted.
    pub(in crate::storage) files: Vec<String>,
    pub(in crate::storage) kind: Kind,
    /// Its length in bytes.
    pub(in crate::storage) length: u64,
    /// When it was last used, as far as that was noted.
    pub(in crate::storage) used: Timestamp,
}

/// What is kept of one package, or came from one uplink.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Folder {
    /// Such as `packages/@scope__name`.
    pub(in crate::storage) name: String,
    pub(in crate::storage) entries: Vec<Entry>,
}

/// The contract between the cache and what keeps it.
///
/// Anybody may delete anything at any time. Who reads meanwhile gets the bytes that were kept, or
/// nothing; a tier knows damaged documents, and whoever reads a tarball compares it with its digest.
/// Every implementation passes the suite in `storage/cache/conformance.rs`.
#[async_trait]
pub(in crate::storage) trait Tier: fmt::Debug + Send + Sync + 'static {
    /// The document at `place`. A damaged one is as good as none.
    async fn document(&self, place: &Place) -> Result<Option<CachedDocument>, StorageError>;

    /// The digest of that document and how fresh it is, without the document itself.
    async fn freshness(&self, place: &Place) -> Result<Option<(String, Freshness)>, StorageError>;

    /// Keeps a document.
    async fn put_document(
        &self,
        place: &Place,
        document: CachedDocument,
    ) -> Result<(), StorageError>;

    /// Keeps the freshness of a document that has not changed, and the document itself if it is not
    /// there any more.
    async fn refresh_document(
        &self,
        place: &Place,
        document: CachedDocument,
    ) -> Result<(), StorageError>;

    /// Forgets a document. A missing one is no error.
    async fn remove_document(&self, place: &Place) -> Result<(), StorageError>;

    /// Opens a tarball.
    async fn tarball(&self, place: &Place) -> Result<Option<Blob>, StorageError>;

    /// Keeps a verified tarball that is whole in a file.
    async fn put_tarball(&self, place: &Place, blob: FinishedBlob<'_>) -> Result<(), StorageError>;

    /// Keeps a verified tarball that fits into memory.
    async fn put_small_tarball(&self, place: &Place, bytes: Bytes) -> Result<(), StorageError>;

    /// Notes that somebody uses what is at `place`, where reading it does not note it.
    async fn note_use(&self, place: &Place) -> Result<(), StorageError>;

    /// All that is kept, a folder at a time. Entries come and go meanwhile.
    fn folders(&self) -> BoxStream<'static, Result<Folder, StorageError>>;

    /// Deletes `entries` of `folder`, and the folder if nothing is left in it. Which of them were
    /// still there, in their order.
    async fn remove(&self, folder: &str, entries: &[Entry]) -> Result<Vec<bool>, StorageError>;

    /// Removes what somebody left half-made before `before`, apart from leftovers in folders.
    async fn sweep(&self, before: Timestamp) -> Result<(), StorageError>;

    /// Whether it is this process's turn to look at everything, where nobody did for so long.
    async fn takes_turn(&self, interval: Duration) -> Result<bool, StorageError>;

    /// Its folder, if it is one.
    fn folder(&self) -> Option<&Path>;
}
