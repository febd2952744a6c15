//! [`Backends`]: where everything is kept, as the settings say.

use std::{path::PathBuf, sync::Arc};

use super::{
    marks::{self, Ground},
    verdaccio,
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    lifecycle::Lifecycle,
    storage::{
        AccountStore, Blobs, FileAccounts, FileKeys, FsBlobs, FsMetadata, KeyStore, Layout, Leases,
        MemorySessions, MetadataStore, Secrets, SessionStore, SigningKeys, Store, StoreOptions,
        verdaccio_hosting,
    },
};

#[cfg(feature = "object")]
use std::time::Duration;

#[cfg(feature = "postgres")]
use crate::storage::postgres::{
    Database, PgAccounts, PgKeys, PgMetadata, PgSessions, PostgresOptions,
};
#[cfg(feature = "object")]
use crate::storage::{
    object::{self, Bucket},
    object_accounts,
};

/// Everything that is not on this node alone.
pub(crate) struct Backends {
    shared: Shared,
    /// What hosted packages are in, if they are in a bucket.
    #[cfg(feature = "object")]
    bucket: Option<Bucket>,
}

/// What accounts and keys are kept in.
enum Shared {
    /// The data folder.
    Files,
    /// The bucket.
    #[cfg(feature = "object")]
    Bucket(object_accounts::Records),
    /// A database, with the manifests.
    #[cfg(feature = "postgres")]
    Postgres(Database),
}

/// What somebody wants with what is kept.
#[derive(Clone, Copy, Debug)]
enum Access {
    Read,
    Write,
}

/// Manifests and tarballs.
pub(super) type Hosting = (Arc<dyn MetadataStore>, Arc<dyn Blobs>);

impl Backends {
    /// Opens what `config` says. Nothing in the data folder is touched. Fails where its packages were
    /// moved elsewhere, and would be served as they were before, and where not all of them have come yet.
    pub(crate) async fn open(config: &Config) -> Result<Self, RegistryError> {
        let backends = Self::open_to_fill(config).await?;
        backends.require_whole(config).await?;
        Ok(backends)
    }

    /// Fails where not all has come yet.
    async fn require_whole(&self, config: &Config) -> Result<(), RegistryError> {
        let has_database = config.storage.metadata != MetadataBackend::Sidecar;
        marks::require_whole(&self.grounds(config), has_database).await
    }

    /// The same, where not all may have come yet.
    pub(super) async fn open_to_fill(config: &Config) -> Result<Self, RegistryError> {
        marks::require_current_folder(config).await?;
        let backends = Self::connect(config).await?;
        backends.require_current(config).await?;
        Ok(backends)
    }

    /// Fails where what it has outside of the data folder was moved elsewhere.
    #[cfg_attr(
        not(any(feature = "object", feature = "postgres")),
        expect(clippy::unused_async, reason = "the features await")
    )]
    async fn require_current(&self, config: &Config) -> Result<(), RegistryError> {
        #[cfg(not(feature = "object"))]
        let _ = config;
        #[cfg(feature = "object")]
        if let Some(bucket) = &self.bucket {
            marks::require_current_bucket(config, bucket).await?;
        }
        #[cfg(feature = "postgres")]
        if let Some(database) = self.database() {
            marks::require_current_database(database).await?;
        }
        Ok(())
    }

    /// The same, wherever what it has was moved.
    pub(super) async fn connect(config: &Config) -> Result<Self, RegistryError> {
        Self::connect_as(config, Access::Write).await
    }

    /// Opens what `config` says to read it: nothing is made or changed, no tables, no folders, and
    /// no objects that find out what a bucket can do. Fails where [`Self::open`] does.
    pub(super) async fn open_to_read(config: &Config) -> Result<Self, RegistryError> {
        marks::require_current_folder(config).await?;
        let backends = Self::connect_as(config, Access::Read).await?;
        backends.require_current(config).await?;
        backends.require_whole(config).await?;
        Ok(backends)
    }

    #[cfg_attr(
        not(any(feature = "object", feature = "postgres")),
        expect(clippy::unused_async, reason = "the features await")
    )]
    async fn connect_as(config: &Config, access: Access) -> Result<Self, RegistryError> {
        require_sidecars(config)?;
        #[cfg(not(feature = "postgres"))]
        let _ = access;
        #[cfg(feature = "object")]
        let bucket = open_bucket(config).await?;
        #[cfg(not(feature = "object"))]
        if config.storage.tarballs != TarballBackend::Local {
            return Err(RegistryError::Settings {
                message: NO_BUCKET.to_owned(),
            });
        }
        let shared = match config.storage.metadata {
            #[cfg(feature = "object")]
            MetadataBackend::Sidecar if bucket.is_some() => match &bucket {
                Some(bucket) => {
                    let bucket = bucket.clone().within(ACCOUNTS_TIMEOUT);
                    Shared::Bucket(object_accounts::Records::new(bucket)?)
                }
                None => Shared::Files,
            },
            MetadataBackend::Sidecar => Shared::Files,
            #[cfg(feature = "postgres")]
            MetadataBackend::Transactional => {
                Shared::Postgres(open_database(config, access).await?)
            }
            #[cfg(not(feature = "postgres"))]
            MetadataBackend::Transactional => {
                return Err(RegistryError::Settings {
                    message: NO_POSTGRES.to_owned(),
                });
            }
        };
        Ok(Self {
            shared,
            #[cfg(feature = "object")]
            bucket,
        })
    }

    /// What may have marks: where tarballs are, and the database.
    #[cfg_attr(
        not(any(feature = "object", feature = "postgres")),
        expect(clippy::unused_self, reason = "the features look at it")
    )]
    pub(super) fn grounds(&self, config: &Config) -> Vec<Ground> {
        let folder = Ground::Folder(config.storage.data_dir.clone());
        #[cfg(feature = "object")]
        let tarballs = match self.bucket() {
            Some(bucket) => Ground::Bucket(bucket.clone()),
            None => folder,
        };
        #[cfg(not(feature = "object"))]
        let tarballs = folder;
        #[cfg(feature = "postgres")]
        let grounds = std::iter::once(tarballs).chain(self.database()).collect();
        #[cfg(not(feature = "postgres"))]
        let grounds = vec![tarballs];
        grounds
    }

    /// What has the marks of the database, if manifests are in one.
    #[cfg(feature = "postgres")]
    pub(super) fn database(&self) -> Option<Ground> {
        match &self.shared {
            Shared::Postgres(database) => Some(Ground::Postgres(PgKeys::new(database.clone()))),
            _ => None,
        }
    }

    /// The bucket that hosted packages are in, if they are in one.
    #[cfg(feature = "object")]
    pub(super) fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Manifests and tarballs alone, which somebody else may be using.
    pub(super) fn hosted(&self, config: &Config) -> Result<Hosting, RegistryError> {
        #[cfg(feature = "object")]
        if let Some(bucket) = &self.bucket {
            let metadata: Arc<dyn MetadataStore> = match &self.shared {
                #[cfg(feature = "postgres")]
                Shared::Postgres(database) => Arc::new(PgMetadata::new(database.clone())),
                _ => Arc::new(object::ObjectMetadata::new(bucket.clone())),
            };
            let blobs = object::ObjectBlobs::new(bucket.clone());
            return Ok((metadata, Arc::new(blobs)));
        }
        let folder = &config.storage.data_dir;
        if let Some(verdaccio) = &config.storage.verdaccio
            && self.is_in_folder()
        {
            return Ok(verdaccio_hosting(verdaccio, folder, false)?);
        }
        let layout = Layout::native(folder.join("tarballs"));
        let quarantine = folder.join("quarantine");
        Ok(match &self.shared {
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => {
                let metadata = Arc::new(PgMetadata::new(database.clone()));
                let blobs = FsBlobs::apart(layout, metadata.clone(), quarantine);
                (metadata, Arc::new(blobs))
            }
            _ => {
                let metadata = FsMetadata::open(layout.clone(), folder.join("locks"))?;
                let blobs = FsBlobs::new(layout, metadata.clone(), quarantine);
                (Arc::new(metadata), Arc::new(blobs))
            }
        })
    }

    /// The same, to be read: nothing is made in the data folder.
    pub(super) fn hosted_to_read(&self, config: &Config) -> Result<Hosting, RegistryError> {
        if !self.is_in_folder() {
            return self.hosted(config);
        }
        let folder = &config.storage.data_dir;
        if let Some(verdaccio) = &config.storage.verdaccio {
            return Ok(verdaccio_hosting(verdaccio, folder, true)?);
        }
        let layout = Layout::native(folder.join("tarballs"));
        let metadata = FsMetadata::foreign(layout.clone());
        let blobs = FsBlobs::new(layout, metadata.clone(), folder.join("quarantine"));
        Ok((Arc::new(metadata), Arc::new(blobs)))
    }

    /// Whether all of it is in the data folder.
    fn is_in_folder(&self) -> bool {
        #[cfg(feature = "object")]
        if self.bucket.is_some() {
            return false;
        }
        matches!(self.shared, Shared::Files)
    }

    /// Hosted packages and the cache of upstream; the data folder is this process's from then on.
    ///
    /// A bucket whose store does not keep writes apart is refused, unless `has_strict_leases`: then something
    /// else sees to it that registries write a package one after another. Nothing does for accounts,
    /// which must be elsewhere then.
    pub(crate) async fn open_store(
        &self,
        config: &Config,
        has_strict_leases: bool,
    ) -> Result<Store, RegistryError> {
        let options = StoreOptions {
            data_dir: config.storage.data_dir.clone(),
            cache_dir: config.storage.cache.folder.clone(),
        };
        #[cfg(feature = "object")]
        if let Some(bucket) = &self.bucket {
            let has_accounts = matches!(self.shared, Shared::Bucket(_));
            let is_careless = !object::honours_preconditions(bucket).await?;
            if is_careless && (!has_strict_leases || has_accounts) {
                return Err(RegistryError::Settings {
                    message: UNSAFE_STORE.to_owned(),
                });
            }
            let redirects = config.storage.redirect;
            let metadata = match &self.shared {
                #[cfg(feature = "postgres")]
                Shared::Postgres(database) => {
                    let metadata: Arc<dyn MetadataStore> =
                        Arc::new(PgMetadata::new(database.clone()));
                    Some(metadata)
                }
                _ => None,
            };
            if let Some(verdaccio) = &config.storage.verdaccio {
                tracing::warn!(folder = %verdaccio.root.display(), "hosted packages are in the bucket; those of Verdaccio's folder are served once they are there, which `rustaccio migrate to-bucket` sees to");
            }
            let store = Store::open_bucket(options, bucket.clone(), metadata, redirects).await?;
            return Ok(if config.storage.cache.is_shared {
                store.with_shared_cache()
            } else {
                store
            });
        }
        #[cfg(not(feature = "object"))]
        let _ = has_strict_leases;
        Ok(match &self.shared {
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => {
                let metadata = Arc::new(PgMetadata::new(database.clone()));
                Store::open_beside(options, metadata).await?
            }
            _ => match &config.storage.verdaccio {
                Some(verdaccio) => Store::open_verdaccio(options, verdaccio.clone()).await?,
                None => Store::open_with_options(options).await?,
            },
        })
    }

    /// Where accounts are kept. A file of them belongs to whoever has the data folder, and Postgres
    /// keeps transactions apart; only in a bucket do nodes take turns.
    pub(crate) async fn open_accounts(
        &self,
        config: &Config,
        leases: &Leases,
    ) -> Result<Arc<dyn AccountStore>, RegistryError> {
        #[cfg(not(feature = "object"))]
        let _ = leases;
        if !matches!(self.shared, Shared::Files) {
            verdaccio::warn_of_unused_users(config);
        }
        Ok(match &self.shared {
            Shared::Files => {
                let kept = FileAccounts::open(accounts_path(config)).await?;
                verdaccio::accounts(config, kept).await?
            }
            #[cfg(feature = "object")]
            Shared::Bucket(records) => {
                let (records, leases) = (records.clone(), leases.clone());
                Arc::new(object_accounts::ObjectAccounts::new(records, leases))
            }
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => Arc::new(PgAccounts::new(database.clone())),
        })
    }

    /// The same accounts as they are now, to be read while others may change them.
    pub(super) async fn read_accounts(
        &self,
        config: &Config,
    ) -> Result<Arc<dyn AccountStore>, RegistryError> {
        if matches!(self.shared, Shared::Files) {
            let kept = FileAccounts::read(accounts_path(config)).await?;
            return verdaccio::accounts(config, kept).await;
        }
        self.open_accounts(config, &Leases::none()).await
    }

    /// Where logins wait for a browser.
    pub(crate) fn sessions(&self) -> Arc<dyn SessionStore> {
        match &self.shared {
            Shared::Files => Arc::new(MemorySessions::default()),
            #[cfg(feature = "object")]
            Shared::Bucket(records) => {
                Arc::new(object_accounts::ObjectSessions::new(records.clone()))
            }
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => Arc::new(PgSessions::new(database.clone())),
        }
    }

    /// The same keys as [`Self::keys`], to be read.
    pub(super) fn keys_to_read(&self, config: &Config) -> Arc<dyn KeyStore> {
        match &self.shared {
            Shared::Files => Arc::new(FileKeys::foreign(config.storage.data_dir.clone())),
            #[cfg(any(feature = "object", feature = "postgres"))]
            _ => self.keys(config),
        }
    }

    /// Where keys are kept.
    pub(crate) fn keys(&self, config: &Config) -> Arc<dyn KeyStore> {
        match &self.shared {
            Shared::Files => Arc::new(FileKeys::new(config.storage.data_dir.clone())),
            #[cfg(feature = "object")]
            Shared::Bucket(records) => Arc::new(object_accounts::ObjectKeys::new(records.clone())),
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => Arc::new(PgKeys::new(database.clone())),
        }
    }

    /// Makes ready to serve: connections, and an ear for what other nodes change until `lifecycle` ends.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "the feature awaits")
    )]
    pub(crate) async fn listen(&self, lifecycle: &Lifecycle) {
        match &self.shared {
            Shared::Files => {
                // There are no other nodes.
                let _ = lifecycle;
            }
            // A bucket gives no notice.
            #[cfg(feature = "object")]
            Shared::Bucket(_) => {}
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => {
                database.make_connections().await;
                database.listen(lifecycle).await;
            }
        }
    }

    /// The key that readable secrets are sealed with; a new one where nothing was sealed yet,
    /// neither a signing key nor a second factor.
    pub(crate) async fn open_secrets(&self, config: &Config) -> Result<Secrets, RegistryError> {
        let (keys, given) = (self.keys(config), config.storage.secret_key.as_ref());
        let keys = &*keys;
        // Nodes that share their keys find out by themselves.
        let has_sealed = !keys.is_shared()
            && (!SigningKeys::list(keys).await?.is_empty()
                || FileAccounts::have_second_factors(accounts_path(config)).await?);
        Ok(if has_sealed {
            Secrets::open_existing(keys, given).await?
        } else {
            Secrets::open(keys, given).await?
        })
    }
}

/// What a setting of buckets means without any.
#[cfg(not(feature = "object"))]
pub(crate) const NO_BUCKET: &str =
    "this program was built without buckets; build it with `--features s3`, `gcs` or `azure`";

#[cfg(feature = "object")]
const UNSAFE_STORE: &str = "the store of the bucket ignores If-None-Match or If-Match, so that registries which share it \
    would overwrite each other's packages; use a store with conditional writes, or set \
    RUSTACCIO_STATE_COORDINATION_BACKEND (without _FAIL_OPEN) and, for accounts, RUSTACCIO_METADATA_BACKEND=transactional";

/// The bucket that the settings name, if they name one.
#[cfg(feature = "object")]
pub(super) async fn open_bucket(config: &Config) -> Result<Option<Bucket>, RegistryError> {
    if config.storage.tarballs == TarballBackend::Local {
        return Ok(None);
    }
    Ok(Some(object::open(&config.storage).await?))
}

/// How long one operation on accounts in a bucket may take.
#[cfg(feature = "object")]
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a setting of Postgres means without it.
#[cfg(not(feature = "postgres"))]
pub(crate) const NO_POSTGRES: &str =
    "this program was built without the feature `postgres`; build it with `--features postgres`";

/// The database that the settings name, with its tables.
#[cfg(feature = "postgres")]
async fn open_database(config: &Config, access: Access) -> Result<Database, RegistryError> {
    let settings = &config.storage.postgres;
    let url = settings
        .url
        .clone()
        .ok_or_else(|| RegistryError::Settings {
            message: NO_URL.to_owned(),
        })?;
    let options = PostgresOptions {
        url,
        setting: "RUSTACCIO_METADATA_POSTGRES_URL",
        max_connections: settings.max_connections,
        timeout: settings.timeout,
    };
    Ok(match access {
        Access::Write => Database::open(&options).await?,
        Access::Read => Database::open_to_read(&options).await?,
    })
}

/// What is said where no database is named.
#[cfg(feature = "postgres")]
pub(crate) const NO_URL: &str = "RUSTACCIO_METADATA_POSTGRES_URL names no database; set it to postgres://user:password@host/database";

/// Fails where manifests are to be in a database and tarballs in a folder of Verdaccio's, which would know
/// nothing of what is published.
fn require_sidecars(config: &Config) -> Result<(), RegistryError> {
    let storage = &config.storage;
    match &storage.verdaccio {
        Some(verdaccio)
            if storage.metadata == MetadataBackend::Transactional
                && storage.tarballs == TarballBackend::Local =>
        {
            Err(RegistryError::Settings {
                message: format!(
                    "{} is Verdaccio's folder, in which manifests lie beside their tarballs, and \
                     RUSTACCIO_METADATA_BACKEND is `transactional`: set it to `sidecar`, or take its \
                     packages over into another data folder with `rustaccio import`, or into a bucket with \
                     `rustaccio migrate to-bucket` and after that into Postgres with `to-postgres`",
                    verdaccio.root.display()
                ),
            })
        }
        _ => Ok(()),
    }
}

/// The folder of hosted packages, where they are in one.
pub(super) fn packages_path(config: &Config) -> PathBuf {
    match &config.storage.verdaccio {
        Some(verdaccio) => verdaccio.root.clone(),
        None => config.storage.data_dir.join("tarballs"),
    }
}

/// Where accounts of a single node are kept.
pub(crate) fn accounts_path(config: &Config) -> PathBuf {
    config.storage.data_dir.join("state.json")
}
