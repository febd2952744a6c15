//! Reindexing from the command line.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Backends, import::direct_uplink};
use crate::{
    config::{Config, UplinkAuth},
    error::{RegistryError, explain},
    lifecycle::{SharedClock, SystemClock},
    registry::reindex_store,
    storage::FolderClaim,
};

/// What is asked of a registry that runs.
const PATH: &str = "-/admin/reindex";

/// What reindexing came to, in the terms of `POST /-/admin/reindex`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Reindexing {
    #[serde(skip_serializing)]
    pub(crate) ok: bool,
    pub(crate) changed: bool,
    pub(crate) packages_before: usize,
    pub(crate) packages_after: usize,
    pub(crate) sidecars_synced: usize,
    /// How many manifests cannot be read; a registry that runs says it in its log alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) damaged: Option<usize>,
}

/// Reindexes what is stored; `through` the registry at an address where one runs.
pub(crate) async fn reindex(
    config: &Config,
    through: Option<(Url, Option<UplinkAuth>)>,
    watch: &(dyn Fn(usize, usize) + Sync),
) -> Result<Reindexing, RegistryError> {
    if let Some((url, auth)) = through {
        return ask(config, &url, auth).await;
    }
    if FolderClaim::is_taken(config.storage.data_dir.clone()).await? {
        return Err(RegistryError::Settings {
            message:
                "a registry runs on this data folder; name its address with --registry, and an \
                      administrator's token with --npmrc, and it reindexes what it has"
                    .to_owned(),
        });
    }
    let backends = Box::pin(Backends::open(config)).await?;
    let store = Box::pin(backends.open_store(config, false)).await?;
    let counts = Box::pin(reindex_store(&store, watch)).await?;
    Ok(Reindexing {
        ok: true,
        changed: counts.rebuilt > 0,
        packages_before: counts.before,
        packages_after: counts.after,
        sidecars_synced: counts.rebuilt,
        damaged: Some(counts.damaged),
    })
}

async fn ask(
    config: &Config,
    url: &Url,
    auth: Option<UplinkAuth>,
) -> Result<Reindexing, RegistryError> {
    let has_credentials = auth.is_some();
    let clock: SharedClock = Arc::new(SystemClock);
    let registry = direct_uplink(config, url, auth, &clock)?;
    let failed = |why: String| RegistryError::Settings {
        message: format!(
            "{url} does not reindex: {why}; it wants {}",
            if has_credentials {
                "a token of an administrator (RUSTACCIO_ADMIN_USERS) whom its rules let in"
            } else {
                "credentials of an administrator: name a file that has them with --npmrc, or set \
                 RUSTACCIO_IMPORT_TOKEN"
            }
        ),
    };
    let answer = registry.ask(PATH, &Bytes::from_static(b"{}")).await;
    let answer = answer.map_err(|error| failed(explain(&error)))?;
    let answer = answer.ok_or_else(|| failed("it does not know how".to_owned()))?;
    serde_json::from_slice(&answer).map_err(|error| failed(error.to_string()))
}
