//! [`Records`]: the part of a bucket that accounts are in, and its objects as JSON.

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use serde::{Serialize, de::DeserializeOwned};

use crate::storage::{
    Conflicts, StorageError,
    json::{from_json, to_json},
    object::{Bucket, Precondition, Tag, Written},
};

/// How many objects are read at once.
const AT_ONCE: usize = 16;

/// What is kept below `.rustaccio/accounts/` of a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Records {
    bucket: Bucket,
    root: Path,
}

/// A record as it was read.
pub(super) struct Kept<T> {
    pub(super) record: T,
    pub(super) tag: Tag,
}

impl Records {
    /// The accounts in `bucket`.
    pub fn new(bucket: Bucket) -> Result<Self, StorageError> {
        let root = bucket.key(".rustaccio/accounts")?;
        Ok(Self { bucket, root })
    }

    /// The key of a record. Its parts may be any text.
    pub(super) fn path(&self, parts: &[&str]) -> Path {
        let parts = parts.iter().copied();
        parts.fold(self.root.clone(), Path::join)
    }

    /// The bytes at `path`; `None` if there are none.
    pub(super) async fn bytes(&self, path: &Path) -> Result<Option<Kept<Bytes>>, StorageError> {
        let read = self.bucket.read(path).await?;
        Ok(read.map(|read| Kept {
            record: read.bytes,
            tag: read.tag,
        }))
    }

    /// The record at `path`; `None` if there is none.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &Path,
    ) -> Result<Option<Kept<T>>, StorageError> {
        let Some(Kept { record, tag }) = self.bytes(path).await? else {
            return Ok(None);
        };
        let record = from_json(path.as_ref(), &record)?;
        Ok(Some(Kept { record, tag }))
    }

    /// The records at `paths` that are there.
    pub(super) async fn get_all<T: DeserializeOwned + Send>(
        &self,
        paths: Vec<Path>,
    ) -> Result<Vec<(Path, T)>, StorageError> {
        let read = futures_util::stream::iter(paths).map(|path| async move {
            let kept = self.get(&path).await?;
            Ok::<_, StorageError>(kept.map(|kept| (path, kept.record)))
        });
        let read: Vec<_> = read.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Writes `record` if the precondition holds; `None` if it does not. Records of two writers that
    /// must be told apart differ in something random.
    pub(super) async fn put(
        &self,
        path: &Path,
        record: &impl Serialize,
        precondition: &Precondition,
    ) -> Result<Option<Tag>, StorageError> {
        let json = to_json(&format!("writing {path}"), record)?;
        self.put_bytes(path, json.into(), precondition).await
    }

    /// The same, as it is.
    pub(super) async fn put_bytes(
        &self,
        path: &Path,
        bytes: Bytes,
        precondition: &Precondition,
    ) -> Result<Option<Tag>, StorageError> {
        let written = self.bucket.write_and_look(path, bytes, precondition);
        match written.await? {
            Written::Done(tag) => Ok(Some(tag)),
            Written::Refused => Ok(None),
            // Doing it again might do it twice.
            Written::Unclear => {
                let odd = "the store failed in between, and somebody else has changed it since; \
                           nobody can tell whether it was written";
                Err(StorageError::backend(format!("writing {path}"), odd))
            }
        }
    }

    /// Changes the record at `path` by compare-and-swap. `edit` gets what is there, and may run
    /// several times.
    pub(super) async fn change<T, E>(
        &self,
        path: &Path,
        mut edit: impl FnMut(Option<T>) -> Result<T, E>,
    ) -> Result<(), E>
    where
        T: Serialize + DeserializeOwned,
        E: From<StorageError>,
    {
        let mut conflicts = Conflicts::default();
        loop {
            let (record, precondition) = match self.get(path).await? {
                Some(Kept { record, tag }) => (Some(record), Precondition::Matches(tag)),
                None => (None, Precondition::Absent),
            };
            let record = edit(record)?;
            if self.put(path, &record, &precondition).await?.is_some() {
                return Ok(());
            }
            if !conflicts.wait().await {
                let busy = "others change it all the time";
                return Err(StorageError::backend(format!("writing {path}"), busy).into());
            }
        }
    }

    /// Writes a record that nobody else writes.
    pub(super) async fn put_own(
        &self,
        path: &Path,
        record: &impl Serialize,
    ) -> Result<(), StorageError> {
        let json = to_json(&format!("writing {path}"), record)?;
        self.put_own_bytes(path, json.into()).await
    }

    /// The same, as it is.
    pub(super) async fn put_own_bytes(
        &self,
        path: &Path,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        self.bucket.write_own(path, bytes).await
    }

    /// Deletes what nobody will ever write again.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), StorageError> {
        self.bucket.delete(path).await
    }

    /// The paths of the records below a folder, those after one of them, in the order of their keys.
    pub(super) fn list_after(
        &self,
        parts: &[&str],
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<Path, StorageError>> {
        let folder = self.path(parts);
        let name = self.bucket.name_of(&folder).unwrap_or_default();
        let after = after.and_then(|after| self.bucket.name_of(after));
        let listed = self.bucket.list_after(name, after);
        listed.map_ok(|meta| meta.location).boxed()
    }

    /// The paths of all records below a folder, and their lengths in bytes.
    pub(super) async fn list(&self, parts: &[&str]) -> Result<Vec<(Path, u64)>, StorageError> {
        let folder = self.path(parts);
        let name = self.bucket.name_of(&folder).unwrap_or_default();
        let listed = self.bucket.list(name);
        listed
            .map_ok(|meta| (meta.location, meta.size))
            .try_collect()
            .await
    }
}
