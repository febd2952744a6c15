//! [`FsMetadata`]: manifests as files, compare-and-swap under a lock file.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sha2::Digest as _;

use super::{
    all_of,
    atomic::{MODE_PUBLIC, create_folder_synced, sync_parent, write_atomic},
    blocking,
    locks::Locks,
};
use crate::{
    models::{PackageName, Revision},
    storage::{
        Document, Expected, Hold, Holding, MetadataStore, Stamp, StorageError,
        layout::{Layout, MANIFEST},
    },
};

/// Keeps each manifest in `package.json` of the package's folder.
///
/// A write compares the hash of what is stored under an exclusive lock on one of 256 lock files,
/// so that several processes may share the folder; a mutex in front keeps the threads of one
/// process from waiting for the file lock on the blocking pool.
#[derive(Clone, Debug)]
pub struct FsMetadata {
    layout: Layout,
    locks: Arc<Locks>,
}

impl FsMetadata {
    /// Opens the store; makes its folders if they are missing. Blocks.
    pub fn open(layout: Layout, lock_folder: PathBuf) -> Result<Self, StorageError> {
        for folder in [layout.root(), lock_folder.as_path()] {
            create_folder_synced(folder)
                .map_err(|error| StorageError::io(format!("making {}", folder.display()), error))?;
        }
        Ok(Self::of(layout, lock_folder))
    }

    /// The manifests of a folder that is another's, to be read: nothing is made in it. There are no
    /// lock files, without which nothing is written either.
    pub fn foreign(layout: Layout) -> Self {
        let nowhere = PathBuf::from("/dev/null");
        Self::of(layout, nowhere)
    }

    fn of(layout: Layout, lock_folder: PathBuf) -> Self {
        let locks = Arc::new(Locks::new(lock_folder));
        Self { layout, locks }
    }

    /// Runs `work`, which may block, while nobody else in any process changes the manifest of
    /// `name`.
    pub(super) async fn locked<T, W>(&self, name: &PackageName, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, StorageError> + Send + 'static,
    {
        self.locks.locked(name, work).await
    }

    /// The revision of what is stored now. Blocks.
    fn current_revision(
        layout: &Layout,
        name: &PackageName,
    ) -> Result<Option<Revision>, StorageError> {
        Ok(read(&layout.manifest(name))?.map(|document| document.revision))
    }
}

#[async_trait]
impl MetadataStore for FsMetadata {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let path = self.layout.manifest(name);
        blocking(move || read(&path)).await
    }

    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError> {
        let path = self.layout.manifest(name);
        // One look at an inode that the kernel has at hand takes about a microsecond; handing it
        // to another thread would take ten times as long.
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(stamp_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io(
                format!("reading {}", path.display()),
                error,
            )),
        }
    }

    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        let (layout, package) = (self.layout.clone(), name.clone());
        self.locked(name, move || {
            let current = Self::current_revision(&layout, &package)?;
            let is_current = match (&expected, &current) {
                (Expected::Absent, None) => true,
                (Expected::Exactly(expected), Some(current)) => expected == current,
                (Expected::Absent, Some(_)) | (Expected::Exactly(_), None) => false,
            };
            if !is_current {
                return Err(StorageError::Conflict(package));
            }
            let path = layout.manifest(&package);
            create_folder_synced(&layout.folder(&package))
                .and_then(|()| write_atomic(&path, &json, MODE_PUBLIC))
                .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))?;
            Ok(revision_of(&json))
        })
        .await
    }

    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        let (layout, package, revision) = (self.layout.clone(), name.clone(), revision.clone());
        self.locked(name, move || {
            if Self::current_revision(&layout, &package)? != Some(revision) {
                return Err(StorageError::Conflict(package));
            }
            let path = layout.manifest(&package);
            fs::remove_file(&path)
                .and_then(|()| sync_parent(&path))
                .map_err(|error| StorageError::io(format!("deleting {}", path.display()), error))
        })
        .await
    }

    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let names = self.survey().map_ok(|(name, _)| name);
        names.boxed()
    }

    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>> {
        let layout = self.layout.clone();
        all_of(async move { blocking(move || list(&layout)).await })
    }
}

#[async_trait]
impl Holding for FsMetadata {
    async fn hold(
        &self,
        name: &PackageName,
        revision: Option<&Revision>,
    ) -> Result<Option<Hold>, StorageError> {
        let (layout, package) = (self.layout.clone(), name.clone());
        let current = move || Self::current_revision(&layout, &package);
        self.locks.hold(name, revision, current).await
    }
}

/// The document at `path`; `None` if there is none. Blocks.
pub(super) fn read(path: &Path) -> Result<Option<Document>, StorageError> {
    let failed = |error| StorageError::io(format!("reading {}", path.display()), error);
    // Our own writes replace the file; an editor may change it in place while it is being read.
    for _ in 0..3 {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let before = stamp_of(&file.metadata().map_err(failed)?);
        let mut json = Vec::new();
        file.read_to_end(&mut json).map_err(failed)?;
        if stamp_of(&file.metadata().map_err(failed)?) == before {
            let revision = revision_of(&json);
            return Ok(Some(Document {
                json: json.into(),
                revision,
                stamp: before,
            }));
        }
    }
    Err(failed(io::Error::other(
        "the file changes while it is being read",
    )))
}

fn list(layout: &Layout) -> Result<Vec<(PackageName, Stamp)>, StorageError> {
    let failed = |error| StorageError::io(format!("listing {}", layout.root().display()), error);
    let mut found = Vec::new();
    for (name, folder) in layout.packages().map_err(failed)? {
        match fs::metadata(folder.join(MANIFEST)) {
            // What is no file there is a failure of whoever reads it.
            Ok(metadata) => found.push((name, stamp_of(&metadata))),
            // Also where a file has the name of a package.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            // One that cannot be looked at hides none of the others.
            Err(_) => found.push((name, Stamp::default())),
        }
    }
    Ok(found)
}

/// The stamp of the file that has this metadata.
pub(super) fn stamp_of(metadata: &Metadata) -> Stamp {
    let nanoseconds = |seconds: i64, rest: i64| {
        seconds
            .wrapping_mul(1_000_000_000)
            .wrapping_add(rest)
            .cast_unsigned()
    };
    Stamp([
        metadata.ino(),
        metadata.size(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ])
}

pub(super) fn revision_of(json: &[u8]) -> Revision {
    Revision::new(hex::encode(sha2::Sha256::digest(json)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::native(folder.path().join("tarballs"));
        let store = FsMetadata::open(layout, folder.path().join("locks")).unwrap();
        conformance::metadata_store(Arc::new(store)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_stores_on_one_folder_lose_nothing() {
        use crate::storage::MetadataStoreExt as _;
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let layout = Layout::native(folder.path().join("tarballs"));
            FsMetadata::open(layout, folder.path().join("locks")).unwrap()
        };
        let stores = [open(), open(), open()];
        let name: PackageName = "shared".parse().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..12 {
            let (store, name) = (stores[index % 3].clone(), name.clone());
            tasks.spawn(async move {
                for _ in 0..10 {
                    store
                        .update(&name, |document| {
                            let mut json = document.map_or_else(Vec::new, |d| d.json.to_vec());
                            json.push(b'x');
                            Ok::<_, StorageError>(Some(json.into()))
                        })
                        .await
                        .unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(stores[0].get(&name).await.unwrap().unwrap().json.len(), 120);
    }
}
