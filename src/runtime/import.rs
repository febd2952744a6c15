//! Importing packages of another registry.

use std::{path::PathBuf, sync::Arc};

use futures_util::TryStreamExt as _;
use url::{Origin as WebOrigin, Url};

use super::{Backends, unusable};
use crate::{
    config::{Config, UplinkAuth, UplinkConfig, VerdaccioFolder},
    error::RegistryError,
    lifecycle::{SharedClock, SystemClock},
    models::{Origin, UplinkName, Username},
    registry::import::{Import, Imported, Names, Place, Source, Target},
    storage::{
        AccountEntry, AccountStore as _, FileAccounts, HtpasswdAccounts, Leases, verdaccio_hosting,
    },
    telemetry::Metrics,
    uplink::Uplink,
};

/// What is to be imported.
pub(crate) struct Importing {
    /// Where it comes from.
    pub(crate) from: ImportFrom,
    /// Which packages are meant.
    pub(crate) names: Names,
    /// Whose names new packages are; `None` where the source says it, else ours.
    pub(crate) origin: Option<Origin>,
    /// How many questions are asked at a time.
    pub(crate) jobs: usize,
    /// Whether it is only said what would be done.
    pub(crate) is_dry: bool,
}

/// Where packages come from.
pub(crate) enum ImportFrom {
    /// The registry at this address, with what it is asked with.
    Registry(Url, Option<UplinkAuth>),
    /// A folder that Verdaccio made, and its file of users.
    Folder(VerdaccioFolder, PathBuf),
}

/// Hears what was done so far, and how many packages there are.
pub(crate) type WatchImport<'w> = &'w (dyn Fn(&Imported, usize) + Sync);

/// Imports packages to where the settings say, and users from a folder. No registry may be running on the
/// data folder, except for a dry run.
pub(crate) async fn import(
    config: &Config,
    importing: Importing,
    watch: WatchImport<'_>,
) -> Result<Imported, RegistryError> {
    let opened;
    let backends;
    let target = if importing.is_dry {
        backends = Box::pin(Backends::open_to_read(config)).await?;
        let (metadata, blobs) = backends.hosted_to_read(config)?;
        Target {
            metadata,
            blobs,
            temporary: None,
        }
    } else {
        backends = Box::pin(Backends::open(config)).await?;
        opened = Box::pin(backends.open_store(config, false)).await?;
        Target {
            metadata: Arc::clone(opened.metadata()),
            blobs: Arc::clone(opened.blobs()),
            temporary: Some(opened.temporary().clone()),
        }
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let mut users = None;
    let source = match importing.from {
        ImportFrom::Registry(url, auth) => {
            let source = direct_uplink(config, &url, auth, &clock)?;
            Place::Registry(Box::new(Source::new(source, importing.jobs)))
        }
        ImportFrom::Folder(folder, htpasswd) => {
            require_another(config, &folder)?;
            users = Some(htpasswd);
            let data = folder.root.join(".rustaccio");
            let opening = move || verdaccio_hosting(&folder, &data, true);
            let opening = tokio::task::spawn_blocking(opening).await;
            let (metadata, blobs) = opening.map_err(RegistryError::internal)??;
            Place::Folder { metadata, blobs }
        }
    };
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
    if let Some(htpasswd) = users {
        import_users(config, &backends, htpasswd, &mut imported).await?;
    }
    Ok(imported)
}

/// A folder that is served where it is needs no import, and would be read while it is written.
fn require_another(config: &Config, folder: &VerdaccioFolder) -> Result<(), RegistryError> {
    let Some(own) = &config.storage.verdaccio else {
        return Ok(());
    };
    let same = |one: &PathBuf| one.canonicalize().ok();
    if same(&own.root) != same(&folder.root) {
        return Ok(());
    }
    Err(RegistryError::Settings {
        message: format!(
            "{} is the data folder itself, and is served as it is; to import it, give another folder \
             with RUSTACCIO_DATA_DIR",
            folder.root.display()
        ),
    })
}

/// Takes over the users of a file, with their passwords as they are. Whoever is here already stays as she
/// is.
async fn import_users(
    config: &Config,
    backends: &Backends,
    htpasswd: PathBuf,
    imported: &mut Imported,
) -> Result<(), RegistryError> {
    if !tokio::fs::try_exists(&htpasswd).await.unwrap_or_default() {
        imported.notes.push(format!(
            "there is no file of users at {}; name it with --htpasswd if there is one",
            htpasswd.display()
        ));
        return Ok(());
    }
    let nothing = FileAccounts::read(htpasswd.with_file_name(".no-accounts")).await?;
    // The cost is of new passwords, and there are none.
    let theirs = HtpasswdAccounts::open(nothing, htpasswd, 10).await?;
    let entries: Vec<AccountEntry> = theirs.entries().try_collect().await?;
    let ours = if imported.dry_run {
        backends.read_accounts(config).await?
    } else {
        backends.open_accounts(config, &Leases::none()).await?
    };
    for entry in entries {
        let AccountEntry::User(text, record) = &entry else {
            continue;
        };
        let Ok(name) = text.parse::<Username>() else {
            let text = format!("`{text}` cannot be the name of a user here");
            imported.failures.push(text);
            continue;
        };
        match ours.user(&name).await? {
            Some(own) if own.password_hash == record.password_hash => {}
            Some(_) => imported.notes.push(format!(
                "the user `{name}` is here already with another password, which stays"
            )),
            None => {
                if !imported.dry_run {
                    ours.put(entry.clone()).await?;
                }
                imported.users += 1;
            }
        }
    }
    Ok(())
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
