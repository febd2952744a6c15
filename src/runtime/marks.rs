//! Marks of what was moved elsewhere, so that it is not served as it was before.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    storage::{FileKeys, KeyStore as _},
};

#[cfg(feature = "object")]
use crate::storage::object::{Bucket, Precondition};
#[cfg(feature = "object")]
use futures_util::{StreamExt as _, TryStreamExt as _};

/// What a store lists in one answer.
#[cfg(feature = "object")]
const PAGE: usize = 1000;

/// Where something was moved to. Its text is part of the names of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Postgres,
    Bucket,
    Folder,
}

impl Destination {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "moved-to-postgres",
            Self::Bucket => "moved-to-bucket",
            Self::Folder => "moved-to-folder",
        }
    }

    /// Why what has this mark is not served. `place` is what has it, `mark` where it is.
    fn refusal(self, place: &str, mark: &str) -> RegistryError {
        let (to, setting, back) = match self {
            Self::Postgres => (
                "Postgres",
                "RUSTACCIO_METADATA_BACKEND=transactional",
                "from-postgres",
            ),
            Self::Bucket => (
                "a bucket",
                "RUSTACCIO_TARBALL_BACKEND and its bucket",
                "from-bucket",
            ),
            Self::Folder => (
                "a data folder",
                "RUSTACCIO_TARBALL_BACKEND=local and that folder",
                "to-bucket",
            ),
        };
        RegistryError::Settings {
            message: format!(
                "packages and accounts were moved from {place} to {to}: set {setting}, or move \
                 them back with `rustaccio migrate {back} --overwrite`, or delete {mark} to serve \
                 what was there before"
            ),
        }
    }
}

fn in_folder(config: &Config, destination: Destination) -> PathBuf {
    config.storage.data_dir.join(destination.name())
}

/// Marks the data folder, or takes the mark away.
pub(super) async fn set_in_folder(
    config: &Config,
    destination: Destination,
    is_moved: bool,
) -> Result<(), RegistryError> {
    if is_moved {
        let text = "Packages and accounts were moved elsewhere with `rustaccio migrate`; what this \
                    folder has of them is of before.\n";
        let files = FileKeys::new(config.storage.data_dir.clone());
        // It may be there from the time before.
        files
            .write(destination.name(), text.as_bytes(), None)
            .await?;
        return Ok(());
    }
    match tokio::fs::remove_file(in_folder(config, destination)).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(RegistryError::internal),
    }
}

/// The same for a bucket.
#[cfg(feature = "object")]
pub(super) async fn set_in_bucket(
    bucket: &Bucket,
    destination: Destination,
    is_moved: bool,
) -> Result<(), RegistryError> {
    let key = bucket.key(&format!(".rustaccio/{}", destination.name()))?;
    if is_moved {
        let text = "moved with `rustaccio migrate`\n".into();
        bucket.write(&key, text, &Precondition::Absent).await?;
    } else {
        bucket.delete(&key).await?;
    }
    Ok(())
}

/// The mark of what was moved elsewhere.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) destination: Destination,
    /// What has it.
    place: &'static str,
    /// Where it is.
    path: String,
}

impl Mark {
    /// Why what has it is not used.
    pub(super) fn refusal(&self) -> RegistryError {
        self.destination.refusal(self.place, &self.path)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, path) = (self.place, &self.path);
        write!(
            f,
            "everything was moved from {place} before (it has the mark {path}): nothing was changed. \
             What {place} has is of before that"
        )
    }
}

/// Fails where the data folder is not the newest, or has what Postgres lacks.
pub(super) async fn require_current_folder(config: &Config) -> Result<(), RegistryError> {
    if let Some(mark) = of_folder(config).await {
        return Err(mark.refusal());
    }
    if config.storage.metadata != MetadataBackend::Sidecar {
        require_moved(config).await?;
    }
    Ok(())
}

/// The mark of the data folder, if what `config` has there was moved.
pub(super) async fn of_folder(config: &Config) -> Option<Mark> {
    let storage = &config.storage;
    if storage.tarballs != TarballBackend::Local {
        return None;
    }
    let is_sidecar = storage.metadata == MetadataBackend::Sidecar;
    for destination in [Destination::Postgres, Destination::Bucket] {
        let path = in_folder(config, destination);
        let is_served = is_sidecar || destination == Destination::Bucket;
        if is_served && is_there(&path).await {
            return Some(Mark {
                destination,
                place: "this data folder",
                path: path.display().to_string(),
            });
        }
    }
    None
}

/// Fails where the bucket is not the newest.
#[cfg(feature = "object")]
pub(super) async fn require_current_bucket(
    config: &Config,
    bucket: &Bucket,
) -> Result<(), RegistryError> {
    if let Some(mark) = of_bucket(config, bucket).await? {
        return Err(mark.refusal());
    }
    if config.storage.metadata == MetadataBackend::Sidecar {
        return Ok(());
    }
    let moved = bucket.key(&format!(".rustaccio/{}", Destination::Postgres.name()))?;
    if bucket.read(&moved).await?.is_none()
        && let Some(left) = first_of_before(bucket).await?
    {
        return Err(RegistryError::Settings {
            message: format!(
                "the bucket has manifests or accounts that are not in Postgres, such as {left}: \
                 move them with `rustaccio migrate to-postgres`, or take them away"
            ),
        });
    }
    Ok(())
}

/// The mark of the bucket, if what `config` has there was moved.
#[cfg(feature = "object")]
pub(super) async fn of_bucket(
    config: &Config,
    bucket: &Bucket,
) -> Result<Option<Mark>, RegistryError> {
    let is_sidecar = config.storage.metadata == MetadataBackend::Sidecar;
    for destination in [Destination::Postgres, Destination::Folder] {
        let key = bucket.key(&format!(".rustaccio/{}", destination.name()))?;
        let is_served = is_sidecar || destination == Destination::Folder;
        if is_served && bucket.read(&key).await?.is_some() {
            return Ok(Some(Mark {
                destination,
                place: "this bucket",
                path: key.as_ref().to_owned(),
            }));
        }
    }
    Ok(None)
}

/// Something in the bucket that belongs into Postgres. As far as the first page of a listing shows:
/// more would cost every start as much as there are packages.
#[cfg(feature = "object")]
async fn first_of_before(bucket: &Bucket) -> Result<Option<String>, RegistryError> {
    let accounts = bucket.list(".rustaccio/accounts/users").take(1);
    let packages = bucket.list("").take(PAGE).try_filter(|meta| {
        let is_manifest = meta.location.filename() == Some("package.json");
        let is_own = meta
            .location
            .parts()
            .any(|part| part.as_ref() == ".rustaccio");
        std::future::ready(is_manifest && !is_own)
    });
    let mut found = Box::pin(accounts.chain(packages));
    Ok(found
        .try_next()
        .await?
        .map(|meta| meta.location.to_string()))
}

/// Fails where the data folder has manifests or accounts that were not moved to Postgres, and would
/// seem to be gone.
async fn require_moved(config: &Config) -> Result<(), RegistryError> {
    let folder = &config.storage.data_dir;
    for destination in [Destination::Postgres, Destination::Bucket] {
        if is_there(&in_folder(config, destination)).await {
            return Ok(());
        }
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
