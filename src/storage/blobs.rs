//! [`Blobs`]: the tarballs of hosted packages. Created once, visible only when complete, never
//! overwritten by accident.

use std::{fmt, fs::File, io, ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use url::Url;

use super::{FileBlob, StorageError, TemporaryFolder};
use crate::models::{Digest, Integrity, PackageName, Revision, TarballName, Timestamp};

/// A blob that is complete and durable in a temporary file, and has no name yet.
#[derive(Clone, Copy, Debug)]
pub struct FinishedBlob<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Its length in bytes.
    pub length: u64,
}

/// A state of a blob's place, as somebody saw it. What it says is the backend's own affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub(super) Option<Arc<str>>);

/// What became of a blob that was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It has its place.
    New,
    /// Something has been in that place before, and was not touched.
    Taken(Seen),
}

/// Blobs as they were before the manifest let go of them.
#[derive(Clone, Debug, Default)]
pub struct Doomed(pub(super) Vec<(TarballName, Seen)>);

impl Doomed {
    /// Whether there is nothing to delete.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One blob in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub file: TarballName,
    /// Its length in bytes.
    pub length: u64,
    /// When it was created.
    pub created: Timestamp,
}

/// The contract between the registry and a backend of tarballs.
///
/// Whoever replaces or deletes a blob has first seen it, and has then moved the manifest to a
/// revision that does not name it; the backend makes sure that what it does can only hit what was
/// seen, or nothing. Every implementation passes the suite in `storage/conformance/blobs.rs`.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync + 'static {
    /// Gives `blob` its place, durably, if nothing is and nothing has been there.
    async fn create(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Created, StorageError>;

    /// Makes the package `name` of the manifest `json` and `blob`, durably and in one step. `None`:
    /// nothing was done, because something of that name is there, or the backend knows no such
    /// step.
    async fn create_package(
        &self,
        _name: &PackageName,
        _json: Bytes,
        _file: &TarballName,
        _blob: FinishedBlob<'_>,
    ) -> Result<Option<Revision>, StorageError> {
        Ok(None)
    }

    /// Puts `blob` in the place of what [`Blobs::create`] has seen there, durably. `false`: somebody
    /// else has changed it, and nothing was done.
    ///
    /// The caller has moved the manifest to a new revision between, so that nobody who relied on
    /// the old blob can commit.
    async fn replace(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        blob: FinishedBlob<'_>,
    ) -> Result<bool, StorageError>;

    /// Opens a blob; `None` if there is none.
    async fn open(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Blob>, StorageError>;

    /// An address that gives the blob to whoever has it, for a few minutes; `None` where there is
    /// no blob, or the backend has no such addresses.
    async fn signed_url(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Url>, StorageError>;

    /// Looks at blobs that the manifest is about to let go of.
    async fn doom(
        &self,
        name: &PackageName,
        files: Vec<TarballName>,
    ) -> Result<Doomed, StorageError>;

    /// Deletes what was seen before the manifest was written at `revision`, which names none of it;
    /// whatever somebody has put there since stays. Missing files are no error. `false`: something
    /// was left.
    async fn delete(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError>;

    /// Like [`Blobs::delete`], and keeps a copy where nobody reads it.
    async fn set_aside(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError>;

    /// The packages that have a blob or a manifest, and perhaps others, in no particular order and
    /// some of them perhaps more than once.
    fn packages(&self) -> BoxStream<'static, Result<PackageName, StorageError>>;

    /// The packages that may have blobs and no manifest, like [`Blobs::packages`].
    fn perhaps_lost(&self) -> BoxStream<'static, Result<PackageName, StorageError>>;

    /// What writers that died before this moment have left half-made and nothing leads to, each in
    /// words; removed if asked.
    async fn leftovers(&self, before: Timestamp, remove: bool)
    -> Result<Vec<String>, StorageError>;

    /// All blobs of `name`, by name.
    async fn list(&self, name: &PackageName) -> Result<Vec<StoredBlob>, StorageError>;

    /// Whether the stored blob has this integrity; `None` if there is no blob.
    async fn verify(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<Option<Result<Digest, Digest>>, StorageError> {
        let Some(blob) = self.open(name, file).await? else {
            return Ok(None);
        };
        let mut verifier = integrity.verifier();
        let whole = 0..blob.length;
        let mut pieces = blob.into_stream(whole);
        while let Some(piece) = pieces.next().await {
            let operation = || format!("reading {file} of {name}");
            verifier.update(&piece.map_err(|error| StorageError::io(operation(), error))?);
        }
        Ok(Some(verifier.finish()))
    }
}

/// Bytes as they come.
pub(super) type Incoming = BoxStream<'static, io::Result<Bytes>>;

/// An open blob.
pub struct Blob {
    /// Its length in bytes.
    pub length: u64,
    bytes: Source,
}

enum Source {
    Disk(File),
    #[cfg_attr(not(feature = "object"), expect(dead_code, reason = "needs a bucket"))]
    Bucket {
        /// All bytes, on their way.
        whole: Incoming,
        /// Asks for a part of them.
        part: Box<dyn FnOnce(Range<u64>) -> Incoming + Send>,
    },
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Blob");
        shown.field("length", &self.length).finish_non_exhaustive()
    }
}

impl From<FileBlob> for Blob {
    fn from(blob: FileBlob) -> Self {
        Self {
            length: blob.length,
            bytes: Source::Disk(blob.file),
        }
    }
}

impl Blob {
    #[cfg(feature = "object")]
    pub(super) fn remote(
        length: u64,
        whole: Incoming,
        part: impl FnOnce(Range<u64>) -> Incoming + Send + 'static,
    ) -> Self {
        let part = Box::new(part);
        let bytes = Source::Bucket { whole, part };
        Self { length, bytes }
    }

    /// The bytes of `part` in pieces; an error where the blob is shorter than it was.
    pub fn into_stream(self, part: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let Self { length, bytes } = self;
        match bytes {
            Source::Disk(file) => FileBlob { file, length }.into_stream(part).boxed(),
            Source::Bucket { .. } if part.is_empty() => futures_util::stream::empty().boxed(),
            Source::Bucket { whole, .. } if part == (0..length) => whole,
            Source::Bucket { part: ask, .. } => ask(part),
        }
    }

    /// All bytes; an error where the blob is shorter than it was. For blobs that fit into memory.
    pub async fn into_bytes(self) -> Result<Bytes, StorageError> {
        let Self { length, bytes } = self;
        let mut whole = match bytes {
            Source::Disk(file) => return FileBlob { file, length }.into_bytes().await,
            Source::Bucket { whole, .. } => whole,
        };
        let mut collected = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        while let Some(piece) = whole.next().await {
            let piece = piece.map_err(|error| StorageError::io("reading a tarball", error))?;
            collected.extend_from_slice(&piece);
        }
        Ok(collected.into())
    }

    /// The blob as a file; one that is elsewhere is brought here for as long as the file is open.
    pub async fn into_file(self, folder: &TemporaryFolder) -> Result<File, StorageError> {
        let mut whole = match self.bytes {
            Source::Disk(file) => return Ok(file),
            Source::Bucket { whole, .. } => whole,
        };
        let mut copy = folder.create(()).await?;
        while let Some(piece) = whole.next().await {
            let piece = piece.map_err(|error| StorageError::io("reading a tarball", error))?;
            copy.write(piece).await?;
        }
        copy.flush().await?;
        copy.reader()
    }
}
