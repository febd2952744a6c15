//! [`Bucket`]: small objects that are created once or changed by compare-and-swap.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion, path::Path,
};

use crate::{lifecycle::jittered, storage::StorageError};

const MAX_ATTEMPTS: u32 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The part of a bucket that accounts are in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    root: Path,
    timeout: Duration,
}

/// An object as it was read.
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) version: UpdateVersion,
}

impl Bucket {
    /// Accounts below `prefix` of `store`, which must refuse to create what is there and to update
    /// what has changed. Whatever takes longer than `timeout` has failed.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &Path, timeout: Duration) -> Self {
        let root = prefix.clone().join(".rustaccio").join("accounts");
        Self {
            store,
            root,
            timeout,
        }
    }

    pub(super) fn path(&self, parts: &[&str]) -> Path {
        let parts = parts.iter().copied();
        parts.fold(self.root.clone(), Path::join)
    }

    /// Where the object is, for messages.
    pub(super) fn place(&self, parts: &[&str]) -> String {
        self.path(parts).to_string()
    }

    /// The object; `None` if there is none.
    pub(super) async fn get(&self, path: &Path) -> Result<Option<Object>, StorageError> {
        let get = async {
            let found = self.store.get(path).await?;
            let version = UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            };
            let bytes = found.bytes().await?;
            Ok(Object { bytes, version })
        };
        self.optional("reading", path, get).await
    }

    /// Creates the object. `false`: it is there already.
    pub(super) async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StorageError> {
        self.put(path, bytes, PutMode::Create).await
    }

    /// Puts the object in the place of `version`. `false`: somebody has changed it.
    pub(super) async fn update(
        &self,
        path: &Path,
        bytes: Bytes,
        version: UpdateVersion,
    ) -> Result<bool, StorageError> {
        self.put(path, bytes, PutMode::Update(version)).await
    }

    /// Puts the object there, whatever was there.
    pub(super) async fn overwrite(&self, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
        self.put(path, bytes, PutMode::Overwrite).await.map(drop)
    }

    async fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<bool, StorageError> {
        let put = self
            .store
            .put_opts(path, bytes.into(), PutOptions::from(mode));
        match self.bounded(put).await {
            Ok(_) => Ok(true),
            Err(Failure::Store(
                Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. },
            )) => Ok(false),
            Err(failure) => Err(failure.of("writing", path)),
        }
    }

    /// Deletes the object. Whether it was there is not known to all stores.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), StorageError> {
        let deleted = self.optional("deleting", path, self.store.delete(path));
        deleted.await.map(drop)
    }

    /// The paths of all objects below `folder`.
    pub(super) async fn list(&self, folder: &Path) -> Result<Vec<Path>, StorageError> {
        let mut objects = self.store.list(Some(folder));
        let mut paths = Vec::new();
        // Each page has its time, not all of them together.
        while let Some(object) = self
            .bounded(objects.try_next())
            .await
            .map_err(|failure| failure.of("listing", folder))?
        {
            paths.push(object.location);
        }
        Ok(paths)
    }

    /// The objects at `paths` that are there.
    pub(super) async fn get_all(&self, paths: Vec<Path>) -> Result<Vec<Object>, StorageError> {
        let objects = futures_util::stream::iter(paths);
        let objects = objects.map(|path| async move { self.get(&path).await });
        let objects: Vec<Option<Object>> = objects.buffer_unordered(16).try_collect().await?;
        Ok(objects.into_iter().flatten().collect())
    }

    async fn optional<T>(
        &self,
        operation: &str,
        path: &Path,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>, StorageError> {
        match self.bounded(work).await {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Store(Error::NotFound { .. })) => Ok(None),
            Err(failure) => Err(failure.of(operation, path)),
        }
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result.map_err(Failure::Store),
            Err(_) => Err(Failure::TooSlow),
        }
    }
}

enum Failure {
    Store(Error),
    TooSlow,
}

impl Failure {
    fn of(self, operation: &str, path: &Path) -> StorageError {
        let operation = format!("{operation} {path}");
        match self {
            Self::Store(error) => StorageError::backend(operation, error),
            Self::TooSlow => StorageError::backend(operation, "it took too long"),
        }
    }
}

/// Counts the conflicts of one change and waits between its attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Waits before the next attempt; a failure after too many.
    pub(super) async fn pause(&mut self, path: &Path) -> Result<(), StorageError> {
        self.0 += 1;
        if self.0 >= MAX_ATTEMPTS {
            let message = "others change it all the time";
            return Err(StorageError::backend(format!("writing {path}"), message));
        }
        let longest = (FIRST_PAUSE * 2_u32.saturating_pow(self.0.min(10))).min(LONGEST_PAUSE);
        tokio::time::sleep(jittered(longest)).await;
        Ok(())
    }
}
