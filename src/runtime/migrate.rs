//! Moving what the data folder keeps into Postgres, and back.

use std::path::{Path, PathBuf};

use crate::{config::Config, error::RegistryError, storage::Moved};

/// The file in the data folder that says that manifests and accounts are in Postgres now.
const MARK: &str = "moved-to-postgres";

fn mark(config: &Config) -> PathBuf {
    config.storage.data_dir.join(MARK)
}

/// Moves everything into Postgres or back. No registry may be running on the data folder.
#[cfg(feature = "postgres")]
pub(crate) async fn migrate(
    config: &Config,
    is_to_postgres: bool,
    overwrite: bool,
) -> Result<Moved, RegistryError> {
    use super::backends::{accounts_path, open_database};
    use crate::storage::{
        FileAccounts, FileKeys, Place, Store, StoreOptions, move_everything,
        postgres::{PgAccounts, PgKeys, PgMetadata},
    };

    let database = open_database(config).await?;
    // The folder is nobody else's meanwhile.
    let store = Store::open_with_options(StoreOptions {
        data_dir: config.storage.data_dir.clone(),
        cache_dir: config.storage.cache.folder.clone(),
    })
    .await?;
    let (accounts, keys) = (
        FileAccounts::open(accounts_path(config)).await?,
        FileKeys::new(config.storage.data_dir.clone()),
    );
    let folder = Place {
        metadata: &**store.metadata(),
        accounts: &accounts,
        keys: &keys,
    };
    let metadata = PgMetadata::new(database.clone());
    let (pg_accounts, pg_keys) = (PgAccounts::new(database.clone()), PgKeys::new(database));
    let postgres = Place {
        metadata: &metadata,
        accounts: &pg_accounts,
        keys: &pg_keys,
    };
    let (from, to) = if is_to_postgres {
        (folder, postgres)
    } else {
        (postgres, folder)
    };
    let moved = move_everything(from, to, overwrite).await?;
    if moved.is_complete() {
        set_mark(config, is_to_postgres).await?;
    }
    Ok(moved)
}

/// Moves nothing: there is no Postgres.
#[cfg(not(feature = "postgres"))]
pub(crate) async fn migrate(
    _config: &Config,
    _is_to_postgres: bool,
    _overwrite: bool,
) -> Result<Moved, RegistryError> {
    Err(RegistryError::Settings {
        message: super::backends::NO_POSTGRES.to_owned(),
    })
}

#[cfg(feature = "postgres")]
async fn set_mark(config: &Config, is_to_postgres: bool) -> Result<(), RegistryError> {
    use crate::storage::{FileKeys, KeyStore as _};

    if is_to_postgres {
        let text = "Manifests and accounts were moved to Postgres with `rustaccio migrate \
                    to-postgres`; what this folder has of them is of before.\n";
        let files = FileKeys::new(config.storage.data_dir.clone());
        // It may be there from the time before.
        files.write(MARK, text.as_bytes(), None).await?;
        return Ok(());
    }
    match tokio::fs::remove_file(mark(config)).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(RegistryError::internal),
    }
}

/// Fails where the data folder is not the newest: its manifests and accounts were moved to
/// Postgres, and would be served as they were before.
pub(super) async fn require_not_moved(config: &Config) -> Result<(), RegistryError> {
    let path = mark(config);
    if !is_there(&path).await {
        return Ok(());
    }
    Err(RegistryError::Settings {
        message: format!(
            "manifests and accounts were moved from this data folder to Postgres: set \
             RUSTACCIO_METADATA_BACKEND=transactional, or move them back with `rustaccio migrate \
             from-postgres --overwrite`, or delete {} to serve what was there before",
            path.display()
        ),
    })
}

/// Fails where the data folder has manifests or accounts that were not moved to Postgres, and would
/// seem to be gone.
#[cfg(feature = "postgres")]
pub(super) async fn require_moved(config: &Config) -> Result<(), RegistryError> {
    let folder = &config.storage.data_dir;
    if is_there(&mark(config)).await {
        return Ok(());
    }
    let manifest = first_manifest(&folder.join("tarballs")).await;
    let left = manifest.unwrap_or_else(|| super::backends::accounts_path(config));
    if !is_there(&left).await {
        return Ok(());
    }
    Err(RegistryError::Settings {
        message: format!(
            "the data folder has manifests or accounts that are not in Postgres, such as {}: move \
             them with `rustaccio migrate to-postgres`, or take them away",
            left.display()
        ),
    })
}

#[cfg(feature = "postgres")]
async fn first_manifest(tarballs: &Path) -> Option<PathBuf> {
    let mut folders = tokio::fs::read_dir(tarballs).await.ok()?;
    while let Ok(Some(folder)) = folders.next_entry().await {
        let manifest = folder.path().join("package.json");
        if is_there(&manifest).await {
            return Some(manifest);
        }
    }
    None
}

async fn is_there(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(true)
}
