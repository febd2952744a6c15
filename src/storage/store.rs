//! [`Store`]: everything that is kept, opened once.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Blobs, FsBlobs, FsMetadata, Layout, MetadataStore, StorageError, TemporaryFolder,
    UpstreamCache,
    fs::{atomic::create_folder_synced, blocking},
    sweep,
};
use crate::config::{StorageConfig, TarballBackend};

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
    blobs: Arc<dyn Blobs>,
    #[cfg(feature = "object")]
    bucket: Option<super::object::Bucket>,
    is_shared: bool,
    redirects: bool,
    cache: UpstreamCache,
    temporary: TemporaryFolder,
    data_dir: PathBuf,
    // Held for as long as any clone lives.
    _exclusive: Arc<File>,
}

/// What is in the data folder, wherever hosted packages are.
struct Local {
    cache: UpstreamCache,
    temporary: TemporaryFolder,
    exclusive: File,
}

impl Store {
    /// Opens the folder for serving: takes it for this process alone, makes what is missing,
    /// sweeps what an earlier process left half-made. Hosted packages are in it.
    pub async fn open_with_options(options: StoreOptions) -> Result<Self, StorageError> {
        blocking(move || Self::open_folder(options)).await
    }

    /// Opens what the settings name: the folder, or a bucket for hosted packages and the folder for
    /// everything else.
    ///
    /// A bucket whose store does not keep writes apart is refused, unless `has_leases`: then something
    /// else sees to it that registries write one after another.
    pub async fn open_configured(
        config: &StorageConfig,
        has_leases: bool,
    ) -> Result<Self, StorageError> {
        let options = StoreOptions {
            data_dir: config.data_dir.clone(),
            cache_dir: config.cache.folder.clone(),
        };
        if config.tarballs == TarballBackend::Local {
            return Self::open_with_options(options).await;
        }
        #[cfg(feature = "object")]
        {
            Self::open_bucket(options, config, has_leases).await
        }
        #[cfg(not(feature = "object"))]
        {
            let (_, _) = (options, has_leases);
            let missing = "no kind of bucket was compiled in; build it with `--features s3`";
            Err(StorageError::backend("opening the bucket", missing))
        }
    }

    #[cfg(feature = "object")]
    async fn open_bucket(
        options: StoreOptions,
        config: &StorageConfig,
        has_leases: bool,
    ) -> Result<Self, StorageError> {
        use super::object::{ObjectBlobs, ObjectMetadata};

        let (bucket, guarantees) = super::object::open(config).await?;
        if !guarantees.conditional_writes && !has_leases {
            let unsafe_store = "its store ignores If-None-Match or If-Match, so that registries \
                                which share it would overwrite each other's packages; use a store \
                                with conditional writes, or set RUSTACCIO_STATE_COORDINATION_BACKEND";
            return Err(StorageError::backend("opening the bucket", unsafe_store));
        }
        let data_dir = options.data_dir.clone();
        let local = blocking(move || Self::open_local(&options)).await?;
        tracing::info!(%bucket, ?guarantees, "hosted packages are in a bucket");
        Ok(Self {
            metadata: Arc::new(ObjectMetadata::new(bucket.clone())),
            blobs: Arc::new(ObjectBlobs::new(bucket.clone(), guarantees)),
            bucket: Some(bucket),
            is_shared: true,
            redirects: config.redirect,
            cache: local.cache,
            temporary: local.temporary,
            data_dir,
            _exclusive: Arc::new(local.exclusive),
        })
    }

    fn open_local(options: &StoreOptions) -> Result<Local, StorageError> {
        let StoreOptions {
            data_dir,
            cache_dir,
        } = options;
        create_folder_synced(data_dir)
            .map_err(|error| StorageError::io(format!("making {}", data_dir.display()), error))?;
        let exclusive = lock_exclusively(&data_dir.join("lock"))?;
        sweep::temporaries(data_dir)?;
        let cache_dir = cache_dir.clone();
        Ok(Local {
            cache: UpstreamCache::open(cache_dir.unwrap_or_else(|| data_dir.join("cache")))?,
            temporary: TemporaryFolder::open(&data_dir.join("tmp"))?,
            exclusive,
        })
    }

    fn open_folder(options: StoreOptions) -> Result<Self, StorageError> {
        let local = Self::open_local(&options)?;
        let data_dir = options.data_dir;
        let layout = Layout::native(data_dir.join("tarballs"));
        let metadata = FsMetadata::open(layout.clone(), data_dir.join("locks"))?;
        sweep::hosted(&layout)?;
        let quarantine = data_dir.join("quarantine");
        Ok(Self {
            blobs: Arc::new(FsBlobs::new(layout, metadata.clone(), quarantine)),
            metadata: Arc::new(metadata),
            #[cfg(feature = "object")]
            bucket: None,
            is_shared: false,
            redirects: false,
            cache: local.cache,
            temporary: local.temporary,
            data_dir,
            _exclusive: Arc::new(local.exclusive),
        })
    }

    /// The bucket that hosted packages are in, if they are in one.
    #[cfg(feature = "object")]
    pub fn bucket(&self) -> Option<&super::object::Bucket> {
        self.bucket.as_ref()
    }

    /// Whether other registries may write hosted packages too, and looking at all of them takes its
    /// time.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether clients are sent to the bucket for tarballs.
    pub fn redirects(&self) -> bool {
        self.redirects
    }

    /// The manifests of hosted packages.
    pub fn metadata(&self) -> &Arc<dyn MetadataStore> {
        &self.metadata
    }

    /// The tarballs of hosted packages.
    pub fn blobs(&self) -> &Arc<dyn Blobs> {
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

    /// Succeeds when the folder can be written to, and the bucket answers.
    pub async fn check(&self) -> Result<(), StorageError> {
        #[cfg(feature = "object")]
        if let Some(bucket) = &self.bucket {
            let key = bucket.key(".rustaccio/probe/health")?;
            bucket.read(&key).await?;
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
