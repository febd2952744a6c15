//! Marks of what was moved elsewhere, so that it is not served as it was before.

mod filling;
mod ground;
mod plan;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub(super) use filling::{Filling, begin, begun, end, require_whole};
pub(super) use ground::Ground;
pub(super) use plan::{Arrangement, Change, Spot};

use crate::{
    config::{Config, MetadataBackend},
    error::RegistryError,
};

#[cfg(feature = "object")]
use crate::storage::object::Bucket;
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
    /// Out of Postgres, to where tarballs are.
    Tarballs,
}

impl Destination {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "moved-to-postgres",
            Self::Bucket => "moved-to-bucket",
            Self::Folder => "moved-to-folder",
            Self::Tarballs => "moved-from-postgres",
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
            Self::Tarballs => (
                "where tarballs are",
                "RUSTACCIO_METADATA_BACKEND=sidecar",
                "to-postgres",
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

    /// The mark of `ground` that it was moved there, if it has one.
    async fn mark_of(self, ground: Ground) -> Result<Option<Mark>, RegistryError> {
        let text = ground.read(self.name()).await?;
        Ok(text.map(|text| Mark {
            destination: self,
            ground,
            target: text
                .lines()
                .find_map(|line| line.strip_prefix(TARGET))
                .map(str::to_owned),
        }))
    }
}

/// Before what tells where it was moved to, in a mark.
const TARGET: &str = "moved to ";

/// Marks `ground` as moved to `to`.
pub(super) async fn set(
    ground: &Ground,
    destination: Destination,
    to: &Ground,
) -> Result<(), RegistryError> {
    let identity = to.make_identity().await?;
    let text = format!(
        "Packages and accounts were moved elsewhere with `rustaccio migrate`; what is here of them is of \
         before.\n{TARGET}{identity}\n"
    );
    ground.write(destination.name(), &text).await
}

/// Takes such a mark away from `ground`.
pub(super) async fn remove(ground: &Ground, destination: Destination) -> Result<(), RegistryError> {
    ground.remove(destination.name()).await
}

/// The mark of what was moved elsewhere.
#[derive(Debug)]
pub(super) struct Mark {
    destination: Destination,
    /// What has it.
    ground: Ground,
    /// What tells where it was moved to from others.
    target: Option<String>,
}

impl Mark {
    /// Why what has it is not used.
    pub(super) fn refusal(&self) -> RegistryError {
        let mark = self.ground.path(self.destination.name());
        self.destination.refusal(self.ground.name(), &mark)
    }

    /// Whether it says that all was moved to `ground`, and to no other one.
    pub(super) async fn leads_to(
        &self,
        destination: Destination,
        ground: &Ground,
    ) -> Result<bool, RegistryError> {
        if self.destination != destination || self.target.is_none() {
            return Ok(false);
        }
        Ok(self.target == ground.identity().await?)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, path) = (
            self.ground.name(),
            self.ground.path(self.destination.name()),
        );
        write!(
            f,
            "everything was moved from {place} before (it has the mark {path}): nothing was changed. \
             What {place} has is of before that"
        )
    }
}

/// Fails where the data folder is not the newest, or has what Postgres lacks.
pub(super) async fn require_current_folder(config: &Config) -> Result<(), RegistryError> {
    if let Some(mark) = of_folder(config).await? {
        return Err(mark.refusal());
    }
    if config.storage.metadata != MetadataBackend::Sidecar {
        require_moved(config).await?;
    }
    Ok(())
}

fn folder(config: &Config) -> Ground {
    Ground::Folder(config.storage.data_dir.clone())
}

/// The mark of the data folder, if what `config` has there was moved.
pub(super) async fn of_folder(config: &Config) -> Result<Option<Mark>, RegistryError> {
    for (spot, destination) in Arrangement::of(config).looked_for() {
        if spot == Spot::Folder
            && let Some(mark) = destination.mark_of(folder(config)).await?
        {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

/// Fails where the database is not the newest.
#[cfg(feature = "postgres")]
pub(super) async fn require_current_database(ground: Ground) -> Result<(), RegistryError> {
    match of_database(ground).await? {
        Some(mark) => Err(mark.refusal()),
        None => Ok(()),
    }
}

/// The mark of the database, if what it has was moved.
#[cfg(feature = "postgres")]
pub(super) async fn of_database(ground: Ground) -> Result<Option<Mark>, RegistryError> {
    Destination::Tarballs.mark_of(ground).await
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
    let ground = Ground::Bucket(bucket.clone());
    if !filling::has_come_from_database(&ground).await?
        && Destination::Postgres.mark_of(ground).await?.is_none()
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
    for (spot, destination) in Arrangement::of(config).looked_for() {
        let ground = Ground::Bucket(bucket.clone());
        if spot == Spot::Bucket
            && let Some(mark) = destination.mark_of(ground).await?
        {
            return Ok(Some(mark));
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
    for destination in [Destination::Postgres, Destination::Bucket] {
        if destination.mark_of(folder(config)).await?.is_some() {
            return Ok(());
        }
    }
    if filling::has_come_from_database(&folder(config)).await? {
        return Ok(());
    }
    let tarballs = config.storage.data_dir.join("tarballs");
    let manifest = first_manifest(&tarballs).await;
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
