//! What a page shows of a package, and packages by the time of their last change.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Document, Registry, Rendering,
    packument::{Form, Ours, Packument, View, render_sidebar, render_version},
    publish::archive::{ArchiveLimits, inspect},
};
use crate::{
    error::RegistryError,
    lifecycle::compute,
    models::{BaseUrl, Caller, PackageName, TarballName, Timestamp, UplinkName},
    search::{Found, Query, SearchEntry, Window},
};

/// The largest tarball in which a README is looked for, in bytes.
const MAX_TARBALL: u64 = 8 * 1024 * 1024;

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

    /// `name` as Verdaccio's pages read it: the document, with the version `wanted` as `latest`, or the newest where
    /// there is no such version. `dress` gives that one what only such pages read.
    #[tracing::instrument(name = "registry.sidebar", skip_all, fields(package.name = %name))]
    pub async fn sidebar(
        &self,
        caller: &Caller,
        name: &PackageName,
        wanted: Option<&str>,
        base: &BaseUrl,
        dress: impl FnOnce(&mut Map<String, Value>) + Send + 'static,
    ) -> Result<Document, RegistryError> {
        let found = self.visible(caller, name).await?;
        let shown = Arc::clone(&found.document);
        let packument = &shown.packument;
        let exact = wanted.filter(|version| packument.version(version).is_some());
        let newest = || packument.versions().last().map(|(version, _)| version);
        let version = exact.or_else(|| packument.resolve("latest"));
        let version = version.or_else(newest);
        let version = version
            .ok_or_else(RegistryError::no_such_package)?
            .to_owned();
        let (name, base) = (name.clone(), base.clone());
        // Pages are few: what they get is not kept, and would push out what clients get.
        let work = move || {
            let view = View {
                name: &name,
                base: &base,
                signing: None,
                ours: &shown.ours,
            };
            let packument = &shown.packument;
            let latest = packument.version(&version).map_or_else(
                || b"{}".to_vec(),
                |raw| {
                    let rendered = render_version(raw, &version, view);
                    dressed(rendered, dress)
                },
            );
            let body = render_sidebar(packument, &latest, view);
            Rendering::new(body.into(), Form::Full.content_type(), packument.modified())
        };
        let rendering = compute(work).await;
        Ok(Document {
            rendering: rendering.map_err(RegistryError::internal)?,
            is_hosted: found.document.is_hosted(),
            is_stale: found.is_stale,
            depends_on_checks: false,
        })
    }

    /// The README in the tarball `file` that was published here; `None` where there is none, or it takes longer to
    /// read than a page waits. Whoever asks may read `name`.
    #[tracing::instrument(name = "registry.readme", skip_all, fields(package.name = %name))]
    pub async fn readme_in_tarball(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<String>, RegistryError> {
        let Some(blob) = self.store.blobs().open(name, file).await? else {
            return Ok(None);
        };
        if blob.length > MAX_TARBALL {
            return Ok(None);
        }
        let bytes = blob.into_bytes().await?;
        let limits = ArchiveLimits {
            unpacked_bytes: 16 * MAX_TARBALL,
            ..ArchiveLimits::default()
        };
        let facts = compute(move || inspect(&*bytes, limits)).await;
        let facts = facts.map_err(RegistryError::internal)?;
        Ok(facts.ok().and_then(|facts| facts.readme))
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

/// A version with what `dress` gives it; as it is where it cannot be read as a whole.
fn dressed(version: Vec<u8>, dress: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let Ok(mut fields) = serde_json::from_slice(&version) else {
        return version;
    };
    dress(&mut fields);
    serde_json::to_vec(&fields).unwrap_or(version)
}
