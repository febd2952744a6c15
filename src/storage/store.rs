//! [`Store`]: everything that is kept, opened once.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    FsBlobs, FsMetadata, Layout, MetadataStore, StorageError, TemporaryFolder, UpstreamCache,
    fs::{atomic::create_folder_synced, blocking},
    sweep,
};
use crate::models::PackageName;

/// Where everything is kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The folder of all data.
    pub data_dir: PathBuf,
    /// The folder of the upstream cache; `None` for `cache` in the data folder.
    pub cache_dir: Option<PathBuf>,
}

/// Manifests and blobs of hosted packages, and the cache of upstream ones. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    metadata: Arc<dyn MetadataStore>,
    blobs: FsBlobs,
    cache: UpstreamCache,
    temporary: TemporaryFolder,
    data_dir: PathBuf,
    // Held for as long as any clone lives.
    _exclusive: Arc<File>,
}

impl Store {
    /// Opens the folder for serving: takes it for this process alone, makes what is missing,
    /// sweeps what an earlier process left half-made.
    pub async fn open_with_options(options: StoreOptions) -> Result<Self, StorageError> {
        blocking(move || Self::open(options, None)).await
    }

    /// The same, where manifests are not in the folder but in `metadata`.
    pub async fn open_beside(
        options: StoreOptions,
        metadata: Arc<dyn MetadataStore>,
    ) -> Result<Self, StorageError> {
        blocking(move || Self::open(options, Some(metadata))).await
    }

    fn open(
        options: StoreOptions,
        metadata: Option<Arc<dyn MetadataStore>>,
    ) -> Result<Self, StorageError> {
        let StoreOptions {
            data_dir,
            cache_dir,
        } = options;
        create_folder_synced(&data_dir)
            .map_err(|error| StorageError::io(format!("making {}", data_dir.display()), error))?;
        let exclusive = lock_exclusively(&data_dir.join("lock"))?;
        sweep::temporaries(&data_dir)?;
        let layout = Layout::native(data_dir.join("tarballs"));
        let metadata = match metadata {
            Some(metadata) => metadata,
            None => Arc::new(FsMetadata::open(layout.clone(), data_dir.join("locks"))?),
        };
        create_folder_synced(layout.root()).map_err(|error| {
            StorageError::io(format!("making {}", layout.root().display()), error)
        })?;
        sweep::hosted(&layout)?;
        Ok(Self {
            blobs: FsBlobs::new(layout, Arc::clone(&metadata)),
            metadata,
            cache: UpstreamCache::open(cache_dir.unwrap_or_else(|| data_dir.join("cache")))?,
            temporary: TemporaryFolder::open(&data_dir.join("tmp"))?,
            data_dir,
            _exclusive: Arc::new(exclusive),
        })
    }

    /// The manifests of hosted packages.
    pub fn metadata(&self) -> &Arc<dyn MetadataStore> {
        &self.metadata
    }

    /// The tarballs of hosted packages.
    pub fn blobs(&self) -> &FsBlobs {
        &self.blobs
    }

    /// What came from upstream.
    pub fn cache(&self) -> &UpstreamCache {
        &self.cache
    }

    /// Where blobs are while they are being written.
    pub fn temporary(&self) -> &TemporaryFolder {
        &self.temporary
    }

    /// The folder for tarballs of `name` that must not be served and are not deleted either.
    pub fn quarantine(&self, name: &PackageName) -> PathBuf {
        let folder = super::layout::folder_name(name);
        self.data_dir.join("quarantine").join(folder)
    }

    /// Succeeds when the folder can be written to and manifests can be read.
    pub async fn check(&self) -> Result<(), StorageError> {
        if let Ok(any) = "health".parse() {
            self.metadata.stamp(&any).await?;
        }
        self.temporary.create(()).await.map(drop)
    }

    /// The folder of all data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

fn lock_exclusively(path: &Path) -> Result<File, StorageError> {
    let failed = |error| StorageError::io(format!("locking {}", path.display()), error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(failed(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another rustaccio process uses this data folder; stop it, or give this one another \
             folder with RUSTACCIO_DATA_DIR",
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_processes_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            data_dir: folder.path().join("data"),
            cache_dir: None,
        };
        let first = Store::open_with_options(options.clone()).await.unwrap();
        let second = Store::open_with_options(options.clone()).await;
        assert!(second.is_err());
        drop(first);
        Store::open_with_options(options).await.unwrap();
    }
}
