//! Importing packages of another registry.

use std::sync::Arc;

use url::{Origin as WebOrigin, Url};

use super::{Backends, unusable};
use crate::{
    config::{Config, UplinkAuth, UplinkConfig},
    error::RegistryError,
    lifecycle::{SharedClock, SystemClock},
    models::{Origin, UplinkName},
    registry::import::{Import, Imported, Names, Source, Target},
    telemetry::Metrics,
    uplink::Uplink,
};

/// What is to be imported.
pub(crate) struct Importing {
    /// The address of the other registry.
    pub(crate) from: Url,
    /// What it is asked with.
    pub(crate) auth: Option<UplinkAuth>,
    /// Which packages are meant.
    pub(crate) names: Names,
    /// Whose names new packages are.
    pub(crate) origin: Origin,
    /// How many questions are asked at a time.
    pub(crate) jobs: usize,
    /// Whether it is only said what would be done.
    pub(crate) is_dry: bool,
}

/// Hears what was done so far, and how many packages there are.
pub(crate) type WatchImport<'w> = &'w (dyn Fn(&Imported, usize) + Sync);

/// Imports packages to where the settings say. No registry may be running on the data folder, except
/// for a dry run.
pub(crate) async fn import(
    config: &Config,
    importing: Importing,
    watch: WatchImport<'_>,
) -> Result<Imported, RegistryError> {
    let opened;
    let target = if importing.is_dry {
        let backends = Box::pin(Backends::open_to_read(config)).await?;
        let (metadata, blobs) = backends.hosted_to_read(config)?;
        Target {
            metadata,
            blobs,
            temporary: None,
        }
    } else {
        let backends = Box::pin(Backends::open(config)).await?;
        opened = Box::pin(backends.open_store(config, false)).await?;
        Target {
            metadata: Arc::clone(opened.metadata()),
            blobs: Arc::clone(opened.blobs()),
            temporary: Some(opened.temporary().clone()),
        }
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let source = direct_uplink(config, &importing.from, importing.auth, &clock)?;
    let source = Source::new(source, importing.jobs);
    let (names, bad) = source.names(&importing.names).await?;
    let import = Import {
        source: &source,
        target: &target,
        origin: importing.origin,
        jobs: importing.jobs,
        clock,
        watch,
    };
    let mut imported = import.run(&names).await;
    let bad = bad.into_iter();
    let bad = bad.map(|name| format!("the source lists `{name}`, which no package can be named"));
    imported.failures.extend(bad);
    Ok(imported)
}

/// A client of the registry at `url`, with the settings of the uplink that has the same origin if there is
/// one. It is never left alone: a command does nothing else.
pub(super) fn direct_uplink(
    config: &Config,
    url: &Url,
    auth: Option<UplinkAuth>,
    clock: &SharedClock,
) -> Result<Uplink, RegistryError> {
    let mut settings = settings_of(config, url);
    if auth.is_some() {
        settings.auth = auth;
    }
    open_uplink(config, &settings, clock)
}

/// The same without any credentials.
pub(super) fn anonymous_uplink(
    config: &Config,
    url: &Url,
    clock: &SharedClock,
) -> Result<Uplink, RegistryError> {
    let mut settings = settings_of(config, url);
    settings.auth = None;
    settings.headers.clear();
    open_uplink(config, &settings, clock)
}

fn settings_of(config: &Config, url: &Url) -> UplinkConfig {
    let mut uplinks = config.uplinks.uplinks.iter().map(|(_, uplink)| uplink);
    let known = uplinks.find(|uplink| uplink.url.origin() == url.origin());
    let mut settings = known
        .cloned()
        .unwrap_or_else(|| UplinkConfig::new(url.clone()));
    settings.url = url.clone();
    settings.max_fails = 0;
    settings
}

fn open_uplink(
    config: &Config,
    settings: &UplinkConfig,
    clock: &SharedClock,
) -> Result<Uplink, RegistryError> {
    let name: UplinkName = "source".parse().map_err(RegistryError::internal)?;
    let uplinks = &config.uplinks;
    let configured = uplinks
        .uplinks
        .iter()
        .map(|(_, uplink)| uplink.url.origin());
    let further = uplinks.allowed_origins.iter().map(Url::origin);
    let allowed: Arc<[WebOrigin]> = std::iter::once(settings.url.origin())
        .chain(configured)
        .chain(further)
        .collect();
    let metrics = Metrics::default().uplink(name.as_str());
    Uplink::new(name, settings, allowed, Arc::clone(clock), metrics).map_err(unusable)
}
