//! What an operator does with the storage of a registry, which may be running: accounts as the registry
//! itself has them, and the trail of audit.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use super::{
    Backends,
    backends::accounts_path,
    build::{open_events, outside},
    verdaccio,
};
use crate::{
    auth::{Auth, AuthOptions},
    config::{Config, MetadataBackend, TarballBackend},
    error::RegistryError,
    events::{Attempt, Event, Events, Line},
    lifecycle::{Lifecycle, SharedClock, SystemClock},
    models::{AuthIdentity, Caller},
    storage::Leases,
    telemetry::Metrics,
};

/// Who changes something from the command line; nobody can register this name.
const OPERATOR: &str = "$operator";
/// How long those who are told may take at the end.
const GRACE: Duration = Duration::from_secs(15);

/// Who is told of what an operator does.
pub(crate) struct Told {
    events: Events,
    caller: Caller,
}

impl Told {
    /// Tells that this has happened.
    pub(crate) fn tell(&self, event: &Event) {
        self.events.tell(&self.caller, None, event);
    }
}

/// Does `work`, which wants `action`, and leaves a line in the trail of audit, whatever comes of it.
pub(crate) async fn recorded<T>(
    config: &Config,
    action: &str,
    work: impl AsyncFnOnce(&Told) -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let (lifecycle, metrics) = (Lifecycle::new(), Metrics::default());
    let clock: SharedClock = Arc::new(SystemClock);
    let identity = AuthIdentity {
        username: Some(OPERATOR.to_owned()),
        groups: Vec::new(),
    };
    let told = Told {
        events: Box::pin(open_events(config, &clock, &metrics, &lifecycle)).await?,
        caller: Caller {
            identity: Some(Arc::new(identity)),
            ..Caller::default()
        },
    };
    let attempt = Attempt::default();
    let done = Box::pin(attempt.scope(async { work(&told).await })).await;
    attempt.note_caller(&told.caller);
    let refused = done.as_ref().err();
    let refused = refused.map(|error| (error.code(), error.to_string()));
    let uid = rustix::process::getuid().as_raw();
    let line = |time| Line::of_command(time, action.to_owned(), uid, (attempt.close(), refused));
    told.events.record(line).await;
    lifecycle.begin_shutdown();
    if !lifecycle.drain(GRACE).await {
        return Err(RegistryError::Unavailable {
            message: format!(
                "it was done, and not everybody who is to be told could be in {} s; look at \
                 RUSTACCIO_AUDIT_LOG_FILE and RUSTACCIO_EVENT_HTTP_BASE_URL",
                GRACE.as_secs()
            ),
        });
    }
    done
}

/// The accounts that `config` names, as a registry has them. One may be running on them: it notices what
/// changes, at once in a folder or a database, within two seconds in a bucket.
pub(crate) async fn open_auth(config: &Config) -> Result<Auth, RegistryError> {
    require_own_folder(config)?;
    let backends = Box::pin(Backends::open(config)).await?;
    let secrets = Box::pin(backends.open_secrets(config)).await?;
    let accounts = Box::pin(backends.open_accounts(config, &Leases::none())).await?;
    let clock: SharedClock = Arc::new(SystemClock);
    Ok(Auth::new(AuthOptions {
        config: config.auth.clone(),
        reserved_names: config.admin.groups.clone(),
        accounts,
        sessions: backends.sessions(),
        secrets,
        clock,
        outside: outside(config, None, &Metrics::default())?,
        verdaccio: Box::pin(verdaccio::tokens(config)).await?,
    }))
}

/// Fails where the data folder is not there: another one is meant.
pub(crate) fn require_folder(config: &Config) -> Result<(), RegistryError> {
    if !is_in_folder(config) {
        return Ok(());
    }
    let folder = match &config.storage.verdaccio {
        Some(verdaccio) => &verdaccio.root,
        None => &config.storage.data_dir,
    };
    if folder.is_dir() {
        return Ok(());
    }
    Err(RegistryError::Settings {
        message: format!(
            "there is no data folder {}; set RUSTACCIO_DATA_DIR, or give --config, as the registry is started with",
            folder.display()
        ),
    })
}

fn is_in_folder(config: &Config) -> bool {
    config.storage.metadata == MetadataBackend::Sidecar
        && config.storage.tarballs == TarballBackend::Local
}

/// Fails for root where the files are another's: the registry could not read what root writes.
fn require_own_folder(config: &Config) -> Result<(), RegistryError> {
    if !is_in_folder(config) || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (accounts, folder) = (accounts_path(config), &config.storage.data_dir);
    let owner = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.uid());
    let owner = owner(&accounts).or_else(|| owner(folder));
    let Some(owner) = owner.filter(|owner| *owner != 0) else {
        return Ok(());
    };
    Err(RegistryError::Settings {
        message: format!(
            "{} belongs to the user {owner}, who could not read what root writes; run this as her, such as with \
             `sudo -u '#{owner}'`",
            folder.display()
        ),
    })
}
