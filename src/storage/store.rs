//! [`Store`]: everything that is kept, opened once.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Blobs, FsBlobs, FsMetadata, Holding, Layout, MetadataStore, StorageError, TemporaryFolder,
    UpstreamCache,
    counted::Counted,
    fs::{STATE_LOCK, atomic::create_folder_synced, blocking, lock_file, verdaccio},
    sweep,
};
use crate::{config::VerdaccioFolder, models::PackageName, telemetry::Metrics};

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
        blocking(move || Self::open_folder(options, None)).await
    }

    /// The same, where manifests are not in the folder but in `metadata`.
    pub async fn open_beside(
        options: StoreOptions,
        metadata: Arc<dyn Holding>,
    ) -> Result<Self, StorageError> {
        blocking(move || Self::open_folder(options, Some(metadata))).await
    }

    /// Opens the folder for everything but hosted packages, which are in a folder of Verdaccio's, with
    /// what that has cached of upstream.
    pub async fn open_verdaccio(
        options: StoreOptions,
        folder: VerdaccioFolder,
    ) -> Result<Self, StorageError> {
        blocking(move || {
            let local = Self::open_local(&options)?;
            let opened = verdaccio::open(&folder, &options.data_dir)?;
            Ok(Self {
                metadata: Arc::new(opened.manifests),
                blobs: Arc::new(opened.tarballs),
                #[cfg(feature = "object")]
                bucket: None,
                is_shared: false,
                redirects: false,
                cache: local.cache.behind_which(opened.cache),
                temporary: local.temporary,
                data_dir: options.data_dir,
                _exclusive: Arc::new(local.exclusive),
            })
        })
        .await
    }

    /// Opens the folder for everything but hosted packages, whose tarballs are in `bucket`, and their
    /// manifests too unless they are in `metadata`. With `redirects`, clients are sent to the bucket.
    #[cfg(feature = "object")]
    pub async fn open_bucket(
        options: StoreOptions,
        bucket: super::object::Bucket,
        metadata: Option<Arc<dyn MetadataStore>>,
        redirects: bool,
    ) -> Result<Self, StorageError> {
        use super::object::{ObjectBlobs, ObjectMetadata};

        let data_dir = options.data_dir.clone();
        let local = blocking(move || Self::open_local(&options)).await?;
        tracing::info!(%bucket, "hosted packages are in a bucket");
        let metadata = metadata.unwrap_or_else(|| Arc::new(ObjectMetadata::new(bucket.clone())));
        Ok(Self {
            metadata,
            blobs: Arc::new(ObjectBlobs::new(bucket.clone())),
            bucket: Some(bucket),
            is_shared: true,
            redirects,
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
        {
            // A command may be writing accounts.
            let _alone = lock_file(&data_dir.join(STATE_LOCK))?;
            sweep::temporaries(data_dir)?;
        }
        let cache_dir = cache_dir.clone();
        Ok(Local {
            cache: UpstreamCache::open(cache_dir.unwrap_or_else(|| data_dir.join("cache")))?,
            temporary: TemporaryFolder::open(&data_dir.join("tmp"))?,
            exclusive,
        })
    }

    fn open_folder(
        options: StoreOptions,
        elsewhere: Option<Arc<dyn Holding>>,
    ) -> Result<Self, StorageError> {
        let local = Self::open_local(&options)?;
        let data_dir = options.data_dir;
        let layout = Layout::native(data_dir.join("tarballs"));
        create_folder_synced(layout.root()).map_err(|error| {
            StorageError::io(format!("making {}", layout.root().display()), error)
        })?;
        sweep::hosted(&layout)?;
        let quarantine = data_dir.join("quarantine");
        let is_shared = elsewhere.is_some();
        let (metadata, blobs): (Arc<dyn MetadataStore>, _) = match elsewhere {
            Some(metadata) => {
                let blobs = FsBlobs::apart(layout, Arc::clone(&metadata), quarantine);
                (metadata, blobs)
            }
            None => {
                let metadata = FsMetadata::open(layout.clone(), data_dir.join("locks"))?;
                let blobs = FsBlobs::new(layout, metadata.clone(), quarantine);
                (Arc::new(metadata), blobs)
            }
        };
        Ok(Self {
            blobs: Arc::new(blobs),
            metadata,
            #[cfg(feature = "object")]
            bucket: None,
            is_shared,
            redirects: false,
            cache: local.cache,
            temporary: local.temporary,
            data_dir,
            _exclusive: Arc::new(local.exclusive),
        })
    }

    /// The same with the cache of upstream in the bucket, for all registries that use it, behind that
    /// of this one. Without a bucket, as it is.
    #[cfg(feature = "object")]
    #[must_use]
    pub fn with_shared_cache(mut self) -> Self {
        if let Some(bucket) = &self.bucket {
            self.cache = self.cache.shared_in(bucket.clone());
        }
        self
    }

    /// The same, where failures at hosted packages are counted, if anything is.
    #[must_use]
    pub fn counted(mut self, metrics: &Metrics) -> Self {
        if metrics.are_counted() {
            self.metadata = Arc::new(Counted::new(self.metadata, metrics.clone()));
            self.blobs = Arc::new(Counted::new(self.blobs, metrics.clone()));
        }
        self
    }

    /// The bucket that hosted packages are in, if they are in one.
    #[cfg(feature = "object")]
    pub fn bucket(&self) -> Option<&super::object::Bucket> {
        self.bucket.as_ref()
    }

    /// The names in the list that Verdaccio's plugin for S3 keeps in its bucket; none elsewhere.
    pub async fn legacy_names(&self) -> Result<BTreeSet<PackageName>, StorageError> {
        #[cfg(feature = "object")]
        if let Some(bucket) = &self.bucket {
            return super::object::legacy_names(bucket).await;
        }
        std::future::ready(Ok(BTreeSet::new())).await
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

    /// Succeeds when the folder can be written to, manifests can be read, and the bucket answers.
    pub async fn check(&self) -> Result<(), StorageError> {
        #[cfg(feature = "object")]
        if let Some(bucket) = &self.bucket {
            let key = bucket.key(".rustaccio/probe/health")?;
            bucket.read(&key).await?;
        }
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

/// Keeps other processes from a data folder.
#[derive(Debug)]
pub struct FolderClaim {
    // Held for as long as this lives.
    _exclusive: File,
}

impl FolderClaim {
    /// Takes the folder, which is made if it is missing; fails where a registry runs on it.
    pub async fn take(data_dir: PathBuf) -> Result<Self, StorageError> {
        blocking(move || {
            create_folder_synced(&data_dir).map_err(|error| {
                StorageError::io(format!("making {}", data_dir.display()), error)
            })?;
            let exclusive = lock_exclusively(&data_dir.join("lock"))?;
            Ok(Self {
                _exclusive: exclusive,
            })
        })
        .await
    }

    /// Whether some process has the folder, in which nothing is made to find that out.
    pub async fn is_taken(data_dir: PathBuf) -> Result<bool, StorageError> {
        blocking(move || {
            let path = data_dir.join("lock");
            let failed = |error| StorageError::io(format!("opening {}", path.display()), error);
            match File::open(&path) {
                Ok(file) => Ok(matches!(
                    file.try_lock(),
                    Err(std::fs::TryLockError::WouldBlock)
                )),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(failed(error)),
            }
        })
        .await
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
