//! [`End`]: what is moved from, or to.

use std::sync::Arc;

use futures_util::TryStreamExt as _;

use super::{
    backends::{Backends, Hosting, packages_path},
    marks::{self, Ground, Mark, Spot},
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    storage::{AccountStore, Blobs, KeyStore, Leases, MetadataStore, Place},
};

/// Everything that is kept as some settings say.
pub(super) struct End {
    config: Config,
    backends: Backends,
    pub(super) metadata: Arc<dyn MetadataStore>,
    blobs: Arc<dyn Blobs>,
    pub(super) accounts: Arc<dyn AccountStore>,
    pub(super) keys: Arc<dyn KeyStore>,
}

impl End {
    /// What is moved from: nothing in it is changed.
    pub(super) async fn source(config: Config, backends: Backends) -> Result<Self, RegistryError> {
        let accounts = backends.read_accounts(&config).await?;
        let (hosting, keys) = (
            backends.hosted_to_read(&config)?,
            backends.keys_to_read(&config),
        );
        Ok(Self::of(config, backends, hosting, (accounts, keys)))
    }

    /// What is moved to.
    pub(super) async fn target(config: Config, backends: Backends) -> Result<Self, RegistryError> {
        // Nobody else should be writing, and nothing rests on turns.
        let accounts = backends.open_accounts(&config, &Leases::none()).await?;
        let (hosting, keys) = (backends.hosted(&config)?, backends.keys(&config));
        Ok(Self::of(config, backends, hosting, (accounts, keys)))
    }

    fn of(
        config: Config,
        backends: Backends,
        (metadata, blobs): Hosting,
        (accounts, keys): (Arc<dyn AccountStore>, Arc<dyn KeyStore>),
    ) -> Self {
        Self {
            config,
            backends,
            metadata,
            blobs,
            accounts,
            keys,
        }
    }

    /// The accounts of a source as they are now.
    pub(super) async fn read_accounts(&self) -> Result<Arc<dyn AccountStore>, RegistryError> {
        self.backends.read_accounts(&self.config).await
    }

    /// Whether there may be tarballs at all: a node that was never started has no folder of them.
    pub(super) async fn has_place_of_tarballs(&self) -> Result<bool, RegistryError> {
        if self.config.storage.tarballs != TarballBackend::Local {
            return Ok(true);
        }
        let folder = packages_path(&self.config);
        let is_there = tokio::fs::try_exists(folder).await;
        is_there.map_err(RegistryError::internal)
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place {
            metadata: &*self.metadata,
            blobs: &*self.blobs,
            accounts: &*self.accounts,
            keys: &*self.keys,
        }
    }

    /// Whether tarballs are in the folder of one node of several.
    pub(super) fn is_one_of_many(&self) -> bool {
        let storage = &self.config.storage;
        storage.metadata == MetadataBackend::Transactional
            && storage.tarballs == TarballBackend::Local
    }

    /// What may have marks: where tarballs are, and the database.
    pub(super) fn grounds(&self) -> Vec<Ground> {
        self.backends.grounds(&self.config)
    }

    /// The one of them that is meant, if it has it.
    pub(super) fn ground(&self, spot: Spot) -> Option<Ground> {
        let mut grounds = self.grounds().into_iter();
        grounds.find(|ground| ground.spot() == spot)
    }

    /// The mark of having been moved elsewhere.
    pub(super) async fn moved_to(&self) -> Result<Option<Mark>, RegistryError> {
        #[cfg(feature = "postgres")]
        if let Some(database) = self.backends.database()
            && let Some(mark) = marks::of_database(database).await?
        {
            return Ok(Some(mark));
        }
        #[cfg(feature = "object")]
        if let Some(bucket) = self.backends.bucket() {
            return marks::of_bucket(&self.config, bucket).await;
        }
        marks::of_folder(&self.config).await
    }

    /// Whether there is no manifest.
    pub(super) async fn has_no_packages(&self) -> Result<bool, RegistryError> {
        Ok(self.metadata.list().try_next().await?.is_none())
    }

    /// Whether there is no user, token or organisation.
    pub(super) async fn has_no_accounts(&self) -> Result<bool, RegistryError> {
        has_none(&*self.accounts).await
    }
}

/// Whether there is no user, token or organisation.
pub(super) async fn has_none(accounts: &dyn AccountStore) -> Result<bool, RegistryError> {
    if accounts.user_count().await? > 0 {
        return Ok(false);
    }
    Ok(accounts.entries().try_next().await?.is_none())
}
