//! Stores of hosted packages whose failures are counted.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use url::Url;

use super::{
    Blob, Blobs, Coherence, Created, Document, Doomed, Expected, FinishedBlob, MetadataStore, Seen,
    Stamp, StorageError, StoredBlob,
};
use crate::{
    models::{Digest, Integrity, PackageName, Revision, TarballName, Timestamp},
    telemetry::Metrics,
};

const MANIFEST_READ: &str = "manifest_read";
const MANIFEST_WRITE: &str = "manifest_write";
const MANIFEST_LIST: &str = "manifest_list";
const TARBALL_READ: &str = "tarball_read";
const TARBALL_WRITE: &str = "tarball_write";
const TARBALL_DELETE: &str = "tarball_delete";

/// A store that counts what `inner` fails at.
#[derive(Debug)]
pub(super) struct Counted<S: ?Sized> {
    inner: Arc<S>,
    metrics: Metrics,
}

impl<S: ?Sized> Counted<S> {
    pub(super) fn new(inner: Arc<S>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }

    fn seen<T>(
        &self,
        operation: &'static str,
        done: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match &done {
            Err(StorageError::Conflict(_)) => self.metrics.manifest_conflict(),
            Err(_) => self.metrics.storage_failed(operation),
            Ok(_) => {}
        }
        done
    }

    fn seen_all<T: Send + 'static>(
        &self,
        operation: &'static str,
        listed: BoxStream<'static, Result<T, StorageError>>,
    ) -> BoxStream<'static, Result<T, StorageError>> {
        let metrics = self.metrics.clone();
        let seen = listed.inspect_err(move |_| metrics.storage_failed(operation));
        seen.boxed()
    }
}

#[async_trait]
impl MetadataStore for Counted<dyn MetadataStore> {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        self.seen(MANIFEST_READ, self.inner.get(name).await)
    }

    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError> {
        self.seen(MANIFEST_READ, self.inner.stamp(name).await)
    }

    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        self.seen(MANIFEST_WRITE, self.inner.put(name, json, expected).await)
    }

    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        self.seen(MANIFEST_WRITE, self.inner.delete(name, revision).await)
    }

    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.seen_all(MANIFEST_LIST, self.inner.list())
    }

    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>> {
        self.seen_all(MANIFEST_LIST, self.inner.survey())
    }

    async fn strangers(&self) -> Result<Vec<String>, StorageError> {
        self.seen(MANIFEST_LIST, self.inner.strangers().await)
    }

    fn coherence(&self) -> Option<&Arc<Coherence>> {
        self.inner.coherence()
    }
}

#[async_trait]
impl Blobs for Counted<dyn Blobs> {
    async fn create(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Created, StorageError> {
        self.seen(TARBALL_WRITE, self.inner.create(name, file, blob).await)
    }

    async fn create_package(
        &self,
        name: &PackageName,
        json: Bytes,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Option<Revision>, StorageError> {
        let created = self.inner.create_package(name, json, file, blob).await;
        self.seen(TARBALL_WRITE, created)
    }

    async fn replace(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        blob: FinishedBlob<'_>,
    ) -> Result<bool, StorageError> {
        let replaced = self.inner.replace(name, file, seen, blob).await;
        self.seen(TARBALL_WRITE, replaced)
    }

    async fn open(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Blob>, StorageError> {
        self.seen(TARBALL_READ, self.inner.open(name, file).await)
    }

    async fn signed_url(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Url>, StorageError> {
        self.seen(TARBALL_READ, self.inner.signed_url(name, file).await)
    }

    async fn doom(
        &self,
        name: &PackageName,
        files: Vec<TarballName>,
    ) -> Result<Doomed, StorageError> {
        self.seen(TARBALL_DELETE, self.inner.doom(name, files).await)
    }

    async fn delete(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError> {
        let deleted = self.inner.delete(name, doomed, revision).await;
        self.seen(TARBALL_DELETE, deleted)
    }

    async fn set_aside(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError> {
        let set_aside = self.inner.set_aside(name, doomed, revision).await;
        self.seen(TARBALL_DELETE, set_aside)
    }

    fn packages(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.seen_all(TARBALL_READ, self.inner.packages())
    }

    fn perhaps_lost(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.seen_all(TARBALL_READ, self.inner.perhaps_lost())
    }

    async fn leftovers(
        &self,
        before: Timestamp,
        remove: bool,
    ) -> Result<Vec<String>, StorageError> {
        self.seen(TARBALL_READ, self.inner.leftovers(before, remove).await)
    }

    async fn list(&self, name: &PackageName) -> Result<Vec<StoredBlob>, StorageError> {
        self.seen(TARBALL_READ, self.inner.list(name).await)
    }

    async fn verify(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<Option<Result<Digest, Digest>>, StorageError> {
        let verified = self.inner.verify(name, file, integrity).await;
        self.seen(TARBALL_READ, verified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Store, StoreOptions};

    #[tokio::test]
    async fn whoever_was_faster_is_counted_and_what_is_missing_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            data_dir: folder.path().to_owned(),
            cache_dir: None,
        };
        let metrics = Metrics::counting();
        let store = Store::open_with_options(options).await.unwrap();
        let store = store.counted(&metrics);
        let name: PackageName = "app".parse().unwrap();
        let json = Bytes::from_static(b"{}");
        let put = || store.metadata().put(&name, json.clone(), Expected::Absent);
        assert!(store.metadata().get(&name).await.unwrap().is_none());
        put().await.unwrap();
        let second = put().await;
        assert!(matches!(second, Err(StorageError::Conflict(_))));
        let text = metrics.to_text();
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("rustaccio_manifest_conflicts_total 1"), "{text}");
        for operation in [MANIFEST_READ, MANIFEST_WRITE] {
            let line = format!("rustaccio_storage_errors_total{{operation=\"{operation}\"}} 0");
            assert!(has(&line), "{text}");
        }
    }
}
