//! [`honours_preconditions`]: whether a store keeps the promise that everything here rests on.

use bytes::Bytes;
use object_store::path::Path;

use super::bucket::{Bucket, Precondition, Written};
use crate::{lifecycle::random_hex, storage::StorageError};

/// Whether the store of `bucket` writes only where the [`Precondition`] holds. Without that, registries that
/// share the bucket need something else that keeps them apart.
///
/// Finds out by a small object, which is removed again.
pub async fn honours_preconditions(bucket: &Bucket) -> Result<bool, StorageError> {
    let key = bucket.key(&format!(".rustaccio/probe/{}", random_hex::<16>()))?;
    // Some stores make a missing bucket where something is written, which hides a misspelt name.
    if bucket.read(&key).await?.is_some() {
        let odd = "the store returns an object that was never written";
        return Err(StorageError::backend("probing the bucket", odd));
    }
    let honours = writes_are_conditional(bucket, &key).await;
    bucket.delete(&key).await?;
    honours
}

async fn writes_are_conditional(bucket: &Bucket, key: &Path) -> Result<bool, StorageError> {
    let write = |text: &'static str, precondition: Precondition| async move {
        let bytes = Bytes::from_static(text.as_bytes());
        bucket.write(key, bytes, &precondition).await
    };
    let Written::Done(first) = write("one", Precondition::Absent).await? else {
        return Ok(false);
    };
    let again = write("two", Precondition::Absent).await?;
    if matches!(again, Written::Done(_)) {
        return Ok(false);
    }
    let Written::Done(_) = write("three", Precondition::Matches(first.clone())).await? else {
        return Ok(false);
    };
    let late = write("four", Precondition::Matches(first)).await?;
    if matches!(late, Written::Done(_)) {
        return Ok(false);
    }
    let read = bucket.read(key).await?;
    Ok(read.is_some_and(|read| read.bytes == "three"))
}
