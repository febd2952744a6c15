//! The storage backend on a local disk.

pub(crate) mod atomic;
mod blobs;
mod metadata;
mod new_package;
mod pieces;
pub(crate) mod secret;
mod temporary;

pub(super) use blobs::open_blob;
pub use blobs::{Blob, FsBlobs, StoredBlob};
pub use metadata::FsMetadata;
pub use pieces::Pieces;
pub use temporary::{Observer, TemporaryBlob, TemporaryFolder};

use super::StorageError;

/// Runs `work` on the blocking pool.
pub(super) async fn blocking<T, W>(work: W) -> Result<T, StorageError>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, StorageError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::backend("work on the blocking pool", error)),
    }
}
