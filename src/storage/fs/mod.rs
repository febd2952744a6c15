//! The storage backend on a local disk.

pub(crate) mod atomic;
mod blobs;
mod locks;
mod metadata;
mod new_package;
mod pieces;
pub(crate) mod secret;
mod temporary;
pub(super) mod verdaccio;
mod watched;

pub(super) use blobs::open_blob;
pub use blobs::{FileBlob, FsBlobs};
pub(super) use locks::{STATE_LOCK, lock_file};
pub use metadata::FsMetadata;
pub use pieces::Pieces;
pub(in crate::storage) use temporary::TemporaryPath;
pub use temporary::{Observer, TemporaryBlob, TemporaryFolder};
pub(super) use watched::{Watched, stamp_at};

use std::future::Future;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

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

/// What `listing` finds, one by one.
fn all_of<T: Send + 'static>(
    listing: impl Future<Output = Result<Vec<T>, StorageError>> + Send + 'static,
) -> BoxStream<'static, Result<T, StorageError>> {
    stream::once(listing)
        .flat_map(|found| match found {
            Ok(found) => stream::iter(found.into_iter().map(Ok)).boxed(),
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        })
        .boxed()
}
