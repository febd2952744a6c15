//! Moving everything from one backend to another.

use super::{
    backends::Backends,
    end::End,
    marks::{self, Destination, Ground},
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    storage::{
        FolderClaim, Moved, Moving, TemporaryFolder, move_accounts, move_packages, require_same_key,
    },
};

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
    fn is_of_tarballs(self) -> bool {
        matches!(self, Self::ToBucket | Self::FromBucket)
    }

    fn back(self) -> Self {
        match self {
            Self::ToPostgres => Self::FromPostgres,
            Self::FromPostgres => Self::ToPostgres,
            Self::ToBucket => Self::FromBucket,
            Self::FromBucket => Self::ToBucket,
        }
    }

    /// Which mark the source has afterwards.
    fn destination(self) -> Destination {
        match self {
            Self::ToPostgres => Destination::Postgres,
            Self::FromPostgres => Destination::Tarballs,
            Self::ToBucket => Destination::Bucket,
            Self::FromBucket => Destination::Folder,
        }
    }

    /// The settings of both ends, source first.
    fn ends(self, config: &Config) -> Result<(Config, Config), RegistryError> {
        let (mut one, mut other) = (config.clone(), config.clone());
        if self.is_of_tarballs() {
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
        Ok(match self {
            Self::ToPostgres | Self::ToBucket => (one, other),
            Self::FromPostgres | Self::FromBucket => (other, one),
        })
    }

    /// What `end` of it has the mark in.
    fn ground(self, end: &End) -> Ground {
        if self.is_of_tarballs() {
            end.ground_of_tarballs()
        } else {
            end.ground_of_manifests()
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

/// Moves everything the way of `route`. No registry may be running on either end.
pub(crate) async fn migrate(
    config: &Config,
    route: Route,
    overwrite: bool,
    watch: Watch<'_>,
) -> Result<Migrated, RegistryError> {
    let (source, target) = route.ends(config)?;
    // The folder is nobody else's meanwhile.
    let folder = &config.storage.data_dir;
    let _claim = FolderClaim::take(folder.clone()).await?;
    let temporary = TemporaryFolder::open(&folder.join("tmp"))?;
    let from = Box::pin(Backends::connect(&source)).await?;
    let from = End::source(source, from).await?;
    let to = Box::pin(Backends::connect(&target)).await?;
    let to = End::target(target, to).await?;
    let (destination, ground) = (route.destination(), route.ground(&to));
    // What it has is of before: tokens that were revoked since would be good again.
    if let Some(mark) = from.moved_to().await? {
        if !mark.leads_to(destination, &ground).await? {
            return Err(mark.refusal());
        }
        return Ok(Migrated::Before(mark.to_string()));
    }
    require_same_key(&*from.keys, &*to.keys).await?;
    let moving = Moving {
        overwrite,
        tarballs: route.is_of_tarballs().then_some(&temporary),
        is_one_of_many: from.is_one_of_many(),
        watch,
    };
    let mut moved = move_packages(from.place(), to.place(), moving).await?;
    move_accounts(from.place(), to.place(), moving, &mut moved).await?;
    if moved.has_moved_all() {
        let back = route.back().destination();
        marks::set((&route.ground(&from), destination), (&ground, back)).await?;
    }
    Ok(Migrated::Now(moved))
}
