//! Moving everything from one backend to another, and copies of it in a folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::TryStreamExt as _;

use super::{
    backends::Backends,
    marks::{self, Destination, Mark},
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    storage::{
        AccountStore, Blobs, FileKeys, FolderClaim, KeyStore, Leases, MetadataStore, Moved, Moving,
        Place, TemporaryFolder, move_everything,
    },
};

/// Says in a folder that it is a copy, and whether it is whole.
const COPY: &str = "rustaccio-backup";
const BEGUN: &[u8] = b"begun, and not complete\n";
const COMPLETE: &[u8] = b"complete\n";

/// Which way everything goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Manifests, accounts and keys of the folder or the bucket, into Postgres.
    ToPostgres,
    /// Back again.
    FromPostgres,
    /// All of the data folder into the bucket; manifests, accounts and keys stay in Postgres if they
    /// are there.
    ToBucket,
    /// Back again.
    FromBucket,
}

impl Route {
    /// Which mark the source has afterwards. The folder has none that it was moved to from Postgres.
    fn destination(self) -> Option<Destination> {
        match self {
            Self::ToPostgres => Some(Destination::Postgres),
            Self::FromPostgres => None,
            Self::ToBucket => Some(Destination::Bucket),
            Self::FromBucket => Some(Destination::Folder),
        }
    }
}

/// What has come of moving.
pub(crate) enum Migrated {
    /// What was moved.
    Now(Moved),
    /// It was moved before, and nothing was changed, as the text says.
    Before(String),
}

/// Hears what was done so far.
pub(crate) type Watch<'w> = &'w (dyn Fn(&Moved) + Sync);

/// One end of a route.
struct End {
    backends: Backends,
    metadata: Arc<dyn MetadataStore>,
    blobs: Arc<dyn Blobs>,
    accounts: Arc<dyn AccountStore>,
    keys: Arc<dyn KeyStore>,
}

impl End {
    async fn open(config: &Config) -> Result<Self, RegistryError> {
        let backends = Box::pin(Backends::connect(config)).await?;
        let (metadata, blobs) = backends.hosted(config)?;
        // Nobody else should be writing, and nothing rests on turns.
        let leases = Leases::none();
        Ok(Self {
            metadata,
            blobs,
            accounts: backends.open_accounts(config, &leases).await?,
            keys: backends.keys(config),
            backends,
        })
    }

    fn place(&self) -> Place<'_> {
        Place {
            metadata: &*self.metadata,
            blobs: &*self.blobs,
            accounts: &*self.accounts,
            keys: &*self.keys,
        }
    }

    #[cfg(feature = "object")]
    async fn mark(&self, destination: Destination, is_moved: bool) -> Result<(), RegistryError> {
        match self.backends.bucket() {
            Some(bucket) => marks::set_in_bucket(bucket, destination, is_moved).await,
            None => Ok(()),
        }
    }

    /// The mark of having been moved elsewhere.
    async fn moved_to(&self, config: &Config) -> Result<Option<Mark>, RegistryError> {
        #[cfg(feature = "object")]
        if let Some(bucket) = self.backends.bucket() {
            return marks::of_bucket(config, bucket).await;
        }
        Ok(marks::of_folder(config).await)
    }

    /// Whether nothing is here.
    async fn is_empty(&self) -> Result<bool, RegistryError> {
        let first = self.metadata.list().try_next().await?;
        Ok(first.is_none() && self.accounts.user_count().await? == 0)
    }

    #[cfg(not(feature = "object"))]
    #[expect(clippy::unused_async, reason = "the feature awaits")]
    async fn mark(&self, _destination: Destination, _moved: bool) -> Result<(), RegistryError> {
        let _ = &self.backends;
        Ok(())
    }
}

/// Moves everything the way of `route`. No registry may be running on either end.
pub(crate) async fn migrate(
    config: &Config,
    route: Route,
    overwrite: bool,
    watch: Watch<'_>,
) -> Result<Migrated, RegistryError> {
    let (mut one, mut other) = (config.clone(), config.clone());
    let is_bucket = matches!(route, Route::ToBucket | Route::FromBucket);
    if is_bucket {
        if config.storage.tarballs == TarballBackend::Local {
            return Err(RegistryError::Settings {
                message: "no bucket is named; set RUSTACCIO_TARBALL_BACKEND to `s3`, `gcs` or \
                          `azure`, with its bucket"
                    .to_owned(),
            });
        }
        one.storage.tarballs = TarballBackend::Local;
    } else {
        one.storage.metadata = MetadataBackend::Sidecar;
        other.storage.metadata = MetadataBackend::Transactional;
    }
    // The folder is nobody else's meanwhile.
    let folder = &config.storage.data_dir;
    let _claim = FolderClaim::take(folder.clone()).await?;
    let temporary = TemporaryFolder::open(&folder.join("tmp"))?;
    let is_back = matches!(route, Route::FromPostgres | Route::FromBucket);
    let source = if is_back { &other } else { &one }.clone();
    let (one, other) = (Box::pin(End::open(&one)).await?, End::open(&other).await?);
    let (from, to) = if is_back {
        (&other, &one)
    } else {
        (&one, &other)
    };
    // What it has is of before: tokens that were revoked since would be good again.
    if let Some(mark) = from.moved_to(&source).await? {
        let is_same_way = route.destination() == Some(mark.destination);
        if !is_same_way || to.is_empty().await? {
            return Err(mark.refusal());
        }
        return Ok(Migrated::Before(mark.to_string()));
    }
    let moving = Moving {
        overwrite,
        tarballs: is_bucket.then_some(&temporary),
        is_live: false,
        watch,
    };
    let moved = move_everything(from.place(), to.place(), moving).await?;
    if moved.is_complete() {
        // Never are both marked, and nothing can go either way.
        if is_bucket && is_back {
            marks::set_in_folder(config, Destination::Bucket, false).await?;
            other.mark(Destination::Folder, true).await?;
        } else if is_bucket {
            other.mark(Destination::Folder, false).await?;
            marks::set_in_folder(config, Destination::Bucket, true).await?;
        } else if config.storage.tarballs == TarballBackend::Local {
            marks::set_in_folder(config, Destination::Postgres, !is_back).await?;
        } else {
            one.mark(Destination::Postgres, !is_back).await?;
        }
    }
    Ok(Migrated::Now(moved))
}

/// Copies everything into `folder`, while registries go on serving it. What is there already of an
/// earlier copy is brought up to date.
pub(crate) async fn back_up(
    config: &Config,
    folder: &Path,
    watch: Watch<'_>,
) -> Result<Moved, RegistryError> {
    let files = FileKeys::new(folder.to_owned());
    if files.read(COPY).await?.is_none() && !is_empty(folder).await? {
        return Err(RegistryError::Settings {
            message: format!(
                "{} is neither empty nor an earlier backup; name another folder",
                folder.display()
            ),
        });
    }
    let target = at(folder);
    let _claim = FolderClaim::take(folder.to_owned()).await?;
    say(&files, BEGUN).await?;
    let temporary = TemporaryFolder::open(&folder.join("tmp"))?;
    marks::require_current_folder(config).await?;
    let (from, to) = (
        Box::pin(End::open(config)).await?,
        End::open(&target).await?,
    );
    let moving = Moving {
        overwrite: true,
        tarballs: Some(&temporary),
        is_live: true,
        watch,
    };
    let moved = move_everything(from.place(), to.place(), moving).await?;
    if moved.is_complete() {
        say(&files, COMPLETE).await?;
    }
    Ok(moved)
}

/// Copies everything of a backup to where the settings say. No registry may be running there.
pub(crate) async fn restore(
    config: &Config,
    folder: &Path,
    overwrite: bool,
    watch: Watch<'_>,
) -> Result<Moved, RegistryError> {
    let state = FileKeys::new(folder.to_owned()).read(COPY).await?;
    if state.as_deref() != Some(COMPLETE) {
        let wrong = match state {
            Some(_) => "is a backup that was broken off; make it again",
            None => "is no backup",
        };
        return Err(RegistryError::Settings {
            message: format!("{} {wrong}", folder.display()),
        });
    }
    let _source = FolderClaim::take(folder.to_owned()).await?;
    let data = &config.storage.data_dir;
    let _target = FolderClaim::take(data.clone()).await?;
    let temporary = TemporaryFolder::open(&data.join("tmp"))?;
    let from = Box::pin(End::open(&at(folder))).await?;
    let to = End::open(config).await?;
    let moving = Moving {
        overwrite,
        tarballs: Some(&temporary),
        is_live: false,
        watch,
    };
    Ok(move_everything(from.place(), to.place(), moving).await?)
}

/// The settings of everything in one folder.
fn at(folder: &Path) -> Config {
    let mut config = Config::default();
    folder.clone_into(&mut config.storage.data_dir);
    config
}

async fn say(files: &FileKeys, text: &[u8]) -> Result<(), RegistryError> {
    let before = files.read(COPY).await?;
    files.write(COPY, text, before.as_deref()).await?;
    Ok(())
}

async fn is_empty(folder: &Path) -> Result<bool, RegistryError> {
    let found: Option<PathBuf> = match tokio::fs::read_dir(folder).await {
        Ok(mut entries) => {
            let first = entries.next_entry().await;
            first
                .map_err(RegistryError::internal)?
                .map(|entry| entry.path())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(RegistryError::internal(error)),
    };
    Ok(found.is_none())
}
