//! What a page shows of a package, and packages by the time of their last change.

use std::sync::Arc;

use super::{
    Registry,
    packument::{Ours, Packument},
};
use crate::{
    error::RegistryError,
    models::{Caller, PackageName, Timestamp, UplinkName},
    search::{Found, Query, SearchEntry, Window},
};

/// A package as a page shows it: parsed, and where it comes from.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Everything that is known of it, ours and upstream's.
    pub packument: Arc<Packument>,
    /// Which versions were published here.
    pub ours: Ours,
    /// Where the others come from.
    pub uplink: Option<UplinkName>,
    /// When that was last asked.
    pub refreshed: Option<Timestamp>,
    /// Whether upstream could not be asked whether it is still current.
    pub is_stale: bool,
}

impl Registry {
    /// `name` as `caller` may see it.
    #[tracing::instrument(name = "registry.shown", skip_all, fields(package.name = %name))]
    pub async fn shown(&self, caller: &Caller, name: &PackageName) -> Result<Shown, RegistryError> {
        let found = self.visible(caller, name).await?;
        let document = &found.document;
        let uplink = document.uplink().cloned();
        let refreshed = uplink
            .as_ref()
            .and_then(|uplink| self.documents.refreshed(name, uplink));
        Ok(Shown {
            packument: Arc::clone(&document.packument),
            ours: document.ours.clone(),
            uplink,
            refreshed,
            is_stale: found.is_stale,
        })
    }

    /// What was published here that `caller` may read, by its last change.
    #[tracing::instrument(name = "registry.newest", skip_all)]
    pub async fn newest(&self, caller: &Caller, window: Window) -> Result<Found, RegistryError> {
        self.indexed().await;
        self.find_here(caller, &Query::newest(), window).await
    }

    /// What was published here that `caller` may read and that depends on `name`, as `latest` says; `most` at the
    /// most.
    #[tracing::instrument(name = "registry.dependents", skip_all, fields(package.name = %name))]
    pub async fn dependents(
        &self,
        caller: &Caller,
        name: &PackageName,
        most: usize,
    ) -> Result<Vec<Arc<SearchEntry>>, RegistryError> {
        self.indexed().await;
        let window = Window {
            from: 0,
            size: most,
        };
        let query = Query::depending_on(name);
        let found = self.find_here(caller, &query, window).await?;
        Ok(found.hits.into_iter().map(|hit| hit.entry).collect())
    }
}
