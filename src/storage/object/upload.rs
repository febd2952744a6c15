//! Bringing a file into a bucket: small ones at once, large ones in parts.

use std::{fs::File, io::Read as _, path::PathBuf};

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload, path::Path};

use super::bucket::{Bucket, Precondition, Written, bounded, failed};
use crate::{
    lifecycle::crash_point,
    storage::{FinishedBlob, StorageError, fs::blocking},
};

/// What is sent in parts, is sent in parts of this length.
pub(super) const PART: u64 = 5 * 1024 * 1024;
/// What is not longer fits into one request, and into memory.
pub(super) const WHOLE: u64 = 3 * PART;

/// Writes `blob` at a key that nobody else writes.
pub(super) async fn upload(
    bucket: &Bucket,
    key: &Path,
    blob: FinishedBlob<'_>,
) -> Result<(), StorageError> {
    if blob.length <= PART {
        let bytes = Parts::of(blob, PART).next().await?;
        bucket.write_own(key, bytes).await?;
    } else {
        upload_parts(bucket, key, &mut Parts::of(blob, PART)).await?;
    }
    crash_point("object-uploaded");
    Ok(())
}

async fn upload_parts(bucket: &Bucket, key: &Path, parts: &mut Parts) -> Result<(), StorageError> {
    let operation = || format!("uploading {key}");
    let begun = bounded(operation, bucket.store().put_multipart(key)).await?;
    let mut upload = begun.map_err(|error| failed(operation(), error))?;
    let done = send(&mut *upload, parts, key).await;
    if done.is_err() {
        // What is left of it costs room until the bucket's own rules remove it.
        if let Err(error) = upload.abort().await {
            tracing::debug!(%key, %error, "cannot give up an upload");
        }
    }
    done
}

async fn send(
    upload: &mut dyn MultipartUpload,
    parts: &mut Parts,
    key: &Path,
) -> Result<(), StorageError> {
    let operation = || format!("uploading {key}");
    while parts.left > 0 {
        let part = PutPayload::from_bytes(parts.next().await?);
        let sent = bounded(operation, upload.put_part(part)).await?;
        sent.map_err(|error| failed(operation(), error))?;
    }
    let done = bounded(operation, upload.complete()).await?;
    done.map(drop).map_err(|error| failed(operation(), error))
}

/// Writes a `blob` of at most [`WHOLE`] bytes at `key` if nothing is there.
pub(super) async fn create(
    bucket: &Bucket,
    key: &Path,
    blob: FinishedBlob<'_>,
) -> Result<Written, StorageError> {
    let bytes = Parts::of(blob, WHOLE).next().await?;
    bucket.write(key, bytes, &Precondition::Absent).await
}

/// A file, part by part.
struct Parts {
    path: PathBuf,
    file: Option<File>,
    left: u64,
    longest: u64,
}

impl Parts {
    fn of(blob: FinishedBlob<'_>, longest: u64) -> Self {
        Self {
            path: blob.path.to_owned(),
            file: None,
            left: blob.length,
            longest,
        }
    }

    async fn next(&mut self) -> Result<Bytes, StorageError> {
        let (path, file, count) = (
            self.path.clone(),
            self.file.take(),
            self.left.min(self.longest),
        );
        let (file, bytes) = blocking(move || {
            let read = || {
                let mut file = match file {
                    Some(file) => file,
                    None => File::open(&path)?,
                };
                let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
                file.read_exact(&mut bytes)?;
                Ok((file, Bytes::from(bytes)))
            };
            read().map_err(|error| StorageError::io(format!("reading {}", path.display()), error))
        })
        .await?;
        self.file = Some(file);
        self.left -= count;
        Ok(bytes)
    }
}
