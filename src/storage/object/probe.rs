//! [`probe`]: whether a store keeps the promises that everything here rests on.

use bytes::Bytes;
use object_store::path::Path;

use super::{
    bucket::{Bucket, Precondition, Written},
    upload::copy_new,
};
use crate::{lifecycle::random_hex, storage::StorageError};

/// What a store promises beyond reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// Writes happen only where their precondition holds. Without that, registries that share the
    /// bucket need something else that keeps them apart.
    pub conditional_writes: bool,
    /// Copies too.
    pub conditional_copies: bool,
}

impl Guarantees {
    /// Of a store that nobody has asked; it is enough for reading.
    pub const UNKNOWN: Self = Self {
        conditional_writes: false,
        conditional_copies: false,
    };
}

/// Finds out by a few small objects, which are removed again.
pub(super) async fn probe(bucket: &Bucket) -> Result<Guarantees, StorageError> {
    let name = format!(".rustaccio/probe/{}", random_hex::<16>());
    let key = bucket.key(&name)?;
    let copy = bucket.key(&format!("{name}-copy"))?;
    // Some stores make a missing bucket where something is written, which hides a misspelt name.
    let found = bucket.read(&key).await?;
    if found.is_some() {
        let odd = "the store returns an object that was never written";
        return Err(StorageError::backend("probing the bucket", odd));
    }
    let conditional_writes = writes_are_conditional(bucket, &key).await;
    let conditional_copies = match &conditional_writes {
        Ok(true) => copies_are_conditional(bucket, &key, &copy).await,
        _ => Ok(false),
    };
    bucket.delete(&key).await?;
    bucket.delete(&copy).await?;
    Ok(Guarantees {
        conditional_writes: conditional_writes?,
        conditional_copies: conditional_copies?,
    })
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

async fn copies_are_conditional(
    bucket: &Bucket,
    from: &Path,
    to: &Path,
) -> Result<bool, StorageError> {
    let other = bucket.write(to, Bytes::from_static(b"other"), &Precondition::Absent);
    other.await?;
    // A store that does not know such copies says so, or copies.
    let copied = copy_new(bucket, from, to).await;
    let is_kept = bucket
        .read(to)
        .await?
        .is_some_and(|read| read.bytes == "other");
    if !is_kept || !matches!(copied, Ok(false)) {
        return Ok(false);
    }
    bucket.delete(to).await?;
    Ok(copy_new(bucket, from, to).await.unwrap_or(false))
}
