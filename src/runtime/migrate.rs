//! Moving everything from one backend to another.

use super::{
    backends::Backends,
    backup::Accepted,
    end::End,
    marks::{self, Arrangement, Change, Destination, Filling, Ground, Mark, Spot},
    sealed::require_openable,
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    lifecycle::crash_point,
    storage::{FolderClaim, Moved, Moving, TemporaryFolder, move_whole, require_same_key},
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

    /// What it is called on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::ToPostgres => "to-postgres",
            Self::FromPostgres => "from-postgres",
            Self::ToBucket => "to-bucket",
            Self::FromBucket => "from-bucket",
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
    accepted: Accepted,
    watch: Watch<'_>,
) -> Result<Migrated, RegistryError> {
    let (source, target) = route.ends(config)?;
    // The folder is nobody else's meanwhile.
    let folder = &config.storage.data_dir;
    let _claim = FolderClaim::take(folder.clone()).await?;
    let temporary = TemporaryFolder::open(&folder.join("tmp"))?;
    let way = Box::pin(Way::open(source, target)).await?;
    let marked = way.source_mark().await?;
    if marked.is_none() {
        require_same_key(&*way.from.keys, &*way.to.keys).await?;
        require_openable(config, &way.from, &way.to).await?;
    }
    let identity = match marked {
        Some(_) => way.source.identity().await?.unwrap_or_default(),
        None => way.source.make_identity().await?,
    };
    let mut filling = Filling {
        command: format!("migrate {}", route.name()),
        source: identity,
        has_tarballs: !route.is_of_tarballs(),
        was_empty: way.to.has_no_packages().await? && way.to.has_no_accounts().await?,
        // What it has is of before, or nothing.
        takes_tokens: way.to.has_no_accounts().await? || way.to.moved_to().await?.is_some(),
    };
    let begun = marks::begun(&way.to.grounds(), &filling).await?;
    if let Some(mark) = marked {
        // It may have been broken off while marks were changed.
        if begun.is_none() {
            return Ok(Migrated::Before(mark.to_string()));
        }
        way.finish().await?;
        return Ok(Migrated::Before(FINISHED.to_owned()));
    }
    filling.go_on(begun, accepted.with_tokens);
    let filled = [way.target.clone()];
    marks::begin(&filled, &filling).await?;
    let moving = Moving {
        overwrite: accepted.overwrite,
        tarballs: route.is_of_tarballs().then_some(&temporary),
        is_one_of_many: way.from.is_one_of_many(),
        watch,
    };
    let tokens = filling.tokens("the source");
    let moved = move_whole(way.from.place(), way.to.place(), moving, tokens).await?;
    if moved.has_moved_all() {
        way.finish().await?;
    }
    Ok(Migrated::Now(moved))
}

const FINISHED: &str =
    "everything was moved before, and the marks that were still to be changed are changed now";

/// Both ends.
struct Way {
    from: End,
    to: End,
    /// How they keep things, source first.
    arrangements: (Arrangement, Arrangement),
    /// What of the source is marked at the end.
    source: Ground,
    /// What is being filled.
    target: Ground,
}

impl Way {
    async fn open(source: Config, target: Config) -> Result<Self, RegistryError> {
        let arrangements = (Arrangement::of(&source), Arrangement::of(&target));
        let from = Box::pin(Backends::connect(&source)).await?;
        let from = End::source(source, from).await?;
        marks::require_whole(&from.grounds(), arrangements.0.has_database).await?;
        let to = Box::pin(Backends::connect(&target)).await?;
        let to = End::target(target, to).await?;
        let (spot, _) = arrangements.0.moved_to(arrangements.1);
        let source = ground(&from, &to, spot)?;
        let target = ground(&to, &from, arrangements.1.filled_from(arrangements.0))?;
        Ok(Self {
            from,
            to,
            arrangements,
            source,
            target,
        })
    }

    /// The mark of the source, if all of it was moved to this very target before. Fails where it was moved
    /// elsewhere: what it has is of before, and tokens that were revoked since would be good again.
    async fn source_mark(&self) -> Result<Option<Mark>, RegistryError> {
        let Some(mark) = self.from.moved_to().await? else {
            return Ok(None);
        };
        let (_, destination) = self.arrangements.0.moved_to(self.arrangements.1);
        if !mark.leads_to(destination, &self.target).await? {
            return Err(mark.refusal());
        }
        Ok(Some(mark))
    }

    /// Makes the target the newest, and nothing else. Can be run again where it was broken off.
    async fn finish(&self) -> Result<(), RegistryError> {
        for change in self.arrangements.0.changes(self.arrangements.1) {
            match change {
                Change::Set(spot, destination) => {
                    let to = match destination {
                        Destination::Postgres => ground(&self.to, &self.from, Spot::Database)?,
                        _ => self.target.clone(),
                    };
                    let marked = ground(&self.from, &self.to, spot)?;
                    marks::set(&marked, destination, &to).await?;
                }
                Change::Remove(spot, destination) => {
                    let marked = ground(&self.to, &self.from, spot)?;
                    marks::remove(&marked, destination).await?;
                }
            }
            crash_point("mark-changed");
        }
        marks::end(std::slice::from_ref(&self.target)).await
    }
}

/// What is meant, of two ends.
fn ground(one: &End, other: &End, spot: Spot) -> Result<Ground, RegistryError> {
    let found = one.ground(spot).or_else(|| other.ground(spot));
    found.ok_or_else(|| RegistryError::internal(format!("neither end has a {spot:?}")))
}
