//! [`Backends`]: where everything is kept, as the settings say.

use std::{path::PathBuf, sync::Arc};

use super::migrate::require_not_moved;
use crate::{
    config::{Config, MetadataBackend},
    error::RegistryError,
    lifecycle::Lifecycle,
    storage::{
        AccountStore, FileAccounts, FileKeys, KeyStore, MemorySessions, Secrets, SessionStore,
        SigningKeys, Store, StoreOptions,
    },
};

#[cfg(feature = "postgres")]
use crate::storage::postgres::{
    Database, PgAccounts, PgKeys, PgMetadata, PgSessions, PostgresOptions,
};

/// What manifests, accounts and keys are kept in.
pub(crate) enum Backends {
    /// The data folder.
    Files,
    /// A database.
    #[cfg(feature = "postgres")]
    Postgres(Database),
}

impl Backends {
    /// Opens what `config` says. Nothing in the data folder is touched.
    pub(crate) async fn open(config: &Config) -> Result<Self, RegistryError> {
        match config.storage.metadata {
            MetadataBackend::Sidecar => {
                require_not_moved(config).await?;
                Ok(Self::Files)
            }
            #[cfg(feature = "postgres")]
            MetadataBackend::Transactional => {
                super::migrate::require_moved(config).await?;
                Ok(Self::Postgres(open_database(config).await?))
            }
            #[cfg(not(feature = "postgres"))]
            MetadataBackend::Transactional => Err(RegistryError::Settings {
                message: NO_POSTGRES.to_owned(),
            }),
        }
    }

    /// Hosted packages and the cache of upstream; the data folder is this process's from then on.
    pub(crate) async fn open_store(&self, config: &Config) -> Result<Store, RegistryError> {
        let options = StoreOptions {
            data_dir: config.storage.data_dir.clone(),
            cache_dir: config.storage.cache.folder.clone(),
        };
        Ok(match self {
            Self::Files => Store::open_with_options(options).await?,
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => {
                let metadata = Arc::new(PgMetadata::new(database.clone()));
                Store::open_beside(options, metadata).await?
            }
        })
    }

    /// Where accounts are kept. A file of them belongs to whoever has the data folder.
    pub(crate) async fn open_accounts(
        &self,
        config: &Config,
    ) -> Result<Arc<dyn AccountStore>, RegistryError> {
        Ok(match self {
            Self::Files => Arc::new(FileAccounts::open(accounts_path(config)).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(PgAccounts::new(database.clone())),
        })
    }

    /// Where logins wait for a browser.
    pub(crate) fn sessions(&self) -> Arc<dyn SessionStore> {
        match self {
            Self::Files => Arc::new(MemorySessions::default()),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(PgSessions::new(database.clone())),
        }
    }

    /// Where keys are kept.
    pub(crate) fn keys(&self, config: &Config) -> Arc<dyn KeyStore> {
        match self {
            Self::Files => Arc::new(FileKeys::new(config.storage.data_dir.clone())),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(PgKeys::new(database.clone())),
        }
    }

    /// Hears what other nodes change until `lifecycle` ends.
    pub(crate) async fn listen(&self, lifecycle: &Lifecycle) {
        match self {
            Self::Files => {
                // There are no other nodes.
                let _ = lifecycle;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => database.listen(lifecycle).await,
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

/// What a setting of Postgres means without it.
#[cfg(not(feature = "postgres"))]
pub(crate) const NO_POSTGRES: &str =
    "this program was built without the feature `postgres`; build it with `--features postgres`";

/// The database that the settings name, with its tables.
#[cfg(feature = "postgres")]
pub(crate) async fn open_database(config: &Config) -> Result<Database, RegistryError> {
    let settings = &config.storage.postgres;
    let url = settings
        .url
        .clone()
        .ok_or_else(|| RegistryError::Settings {
            message: NO_URL.to_owned(),
        })?;
    let options = PostgresOptions {
        url,
        max_connections: settings.max_connections,
        timeout: settings.timeout,
    };
    Ok(Database::open(&options).await?)
}

/// What is said where no database is named.
#[cfg(feature = "postgres")]
pub(crate) const NO_URL: &str = "RUSTACCIO_METADATA_POSTGRES_URL names no database; set it to postgres://user:password@host/database";

/// Where accounts of a single node are kept.
pub(crate) fn accounts_path(config: &Config) -> PathBuf {
    config.storage.data_dir.join("state.json")
}
