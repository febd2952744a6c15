//! Warming the cache with what lockfiles name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use url::Url;

use super::{build_state, import::direct_uplink};
use crate::{
    config::{Config, UplinkAuth},
    error::RegistryError,
    lifecycle::{SharedClock, SystemClock},
    lockfile::Locked,
    models::{PackageName, Version},
    registry::{import::Source, mirror::Mirrored},
    storage::FolderClaim,
};

/// How long what is written behind the scenes may take at the end.
const GRACE: Duration = Duration::from_secs(60);

/// What is to be at hand.
pub(crate) struct Mirroring {
    /// What lockfiles name.
    pub(crate) locked: Vec<Locked>,
    /// A registry that runs, with what it is asked with; `None` for the one of the settings, which does
    /// not run.
    pub(crate) through: Option<(Url, Option<UplinkAuth>)>,
    /// How many packages are worked on at a time.
    pub(crate) jobs: usize,
}

/// Hears what was done so far, and how many packages there are.
pub(crate) type WatchMirror<'w> = &'w (dyn Fn(&Mirrored, usize) + Sync);

/// Has everything at hand.
pub(crate) async fn mirror(
    config: &Config,
    mirroring: Mirroring,
    watch: WatchMirror<'_>,
) -> Result<Mirrored, RegistryError> {
    let mut packages = BTreeMap::<PackageName, Vec<Version>>::new();
    for locked in mirroring.locked {
        packages
            .entry(locked.name)
            .or_default()
            .push(locked.version);
    }
    for versions in packages.values_mut() {
        versions.sort();
        versions.dedup();
    }
    let jobs = mirroring.jobs.max(1);
    let all = packages.len();
    let mut mirrored = Mirrored::default();
    let mut take = |one: Mirrored| {
        mirrored.add(one);
        watch(&mirrored, all);
    };
    if let Some((url, auth)) = mirroring.through {
        let clock: SharedClock = Arc::new(SystemClock);
        let source = Source::new(direct_uplink(config, &url, auth, &clock)?, jobs);
        let source = &source;
        let warmed = stream::iter(&packages).map(|(name, versions)| source.warm(name, versions));
        let mut warmed = warmed.buffer_unordered(jobs);
        while let Some(one) = warmed.next().await {
            take(one);
        }
        drop(warmed);
        return Ok(mirrored);
    }
    let folder = config.storage.data_dir.clone();
    if FolderClaim::is_taken(folder).await? {
        return Err(RegistryError::Settings {
            message:
                "a registry runs on this data folder; name its address with --registry, and it \
                      warms its own cache"
                    .to_owned(),
        });
    }
    let state = build_state(config, None).await?;
    let registry = &state.web.registry;
    let warmed = stream::iter(&packages).map(|(name, versions)| registry.warm(name, versions));
    let mut warmed = warmed.buffer_unordered(jobs);
    while let Some(one) = warmed.next().await {
        take(one);
    }
    drop(warmed);
    // Small tarballs are kept behind the scenes.
    let lifecycle = state.lifecycle().clone();
    lifecycle.begin_shutdown();
    if !lifecycle.drain(GRACE).await {
        let text = "the cache did not take everything in time; run this again".to_owned();
        mirrored.failures.push(text);
    }
    Ok(mirrored)
}
