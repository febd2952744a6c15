//! `/-/verdaccio/data/…`: lists from the index, and what a page of a package shows.

use axum::{extract::State, response::Response};
use http::HeaderMap;

use super::shapes::{Row, dress};
use crate::{
    error::RegistryError,
    lifecycle::compute,
    models::{BaseUrl, Caller, PackageName},
    search::{Found, Window},
    web::{
        error::Error,
        extract::{Base, Package, PathText, Query, VersionText, Visitor, unless_hidden},
        respond,
        state::WebState,
    },
};

/// How many packages are listed: those that changed last.
const MAX_LISTED: usize = 10_000;
/// How many a search finds.
const MAX_FOUND: usize = 20;
/// What stands for a README where there is none.
const NO_README: &str = "ERROR: No README data found!";

/// `GET /-/verdaccio/data/packages`: what was published here, by name.
pub(in crate::web) async fn packages(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    Base(base): Base,
) -> Result<Response, Error> {
    let window = Window {
        from: 0,
        size: MAX_LISTED,
    };
    let mut found = state.registry.newest(&caller, window).await?;
    let hits = &mut found.hits;
    hits.sort_by(|one, other| one.entry.name.as_str().cmp(other.entry.name.as_str()));
    listed(found, base).await
}

/// `GET /-/verdaccio/data/search/:text`: what fits best of what was published here.
pub(in crate::web) async fn search(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    Base(base): Base,
    PathText(text): PathText,
) -> Result<Response, Error> {
    let window = Window {
        from: 0,
        size: MAX_FOUND,
    };
    let found = state.registry.search_hosted(&caller, &text, window).await?;
    listed(found, base).await
}

async fn listed(found: Found, base: BaseUrl) -> Result<Response, Error> {
    let write = move || {
        let rows = found.hits.iter().map(|hit| Row::of(&hit.entry, &base));
        serde_json::to_vec(&rows.collect::<Vec<_>>())
    };
    let body = compute(write).await.map_err(RegistryError::internal)?;
    let body = body.map_err(RegistryError::internal)?;
    Ok(respond::raw_json(body.into()))
}

/// `GET /-/verdaccio/data/package/readme/:package`
pub(in crate::web) async fn readme(
    State(state): State<WebState>,
    visitor: Visitor,
    Package(name): Package,
) -> Result<Response, Error> {
    readme_text(&state, visitor, &name, None).await
}

/// `GET /-/verdaccio/data/package/readme/:package/:version`
pub(in crate::web) async fn readme_of_version(
    State(state): State<WebState>,
    visitor: Visitor,
    Package(name): Package,
    VersionText(version): VersionText,
) -> Result<Response, Error> {
    readme_text(&state, visitor, &name, Some(version.as_str())).await
}

async fn readme_text(
    state: &WebState,
    Visitor { caller, problem }: Visitor,
    name: &PackageName,
    version: Option<&str>,
) -> Result<Response, Error> {
    let readme = readme_for(state, &caller, name, version).await;
    let readme = readme.map_err(|error| unless_hidden(problem, name, error))?;
    let readme = readme.filter(|text| !text.is_empty());
    Ok(respond::text(
        readme.unwrap_or_else(|| NO_README.to_owned()),
    ))
}

/// That of `version` where it has one of its own, else that of the package.
async fn readme_for(
    state: &WebState,
    caller: &Caller,
    name: &PackageName,
    version: Option<&str>,
) -> Result<Option<String>, RegistryError> {
    #[derive(serde::Deserialize)]
    struct Own {
        readme: String,
    }
    let shown = state.registry.shown(caller, name).await?;
    let packument = &shown.packument;
    let own = match version {
        None => None,
        Some(version) => {
            let known = packument.resolve(version);
            let raw = known.and_then(|version| packument.version(version));
            let raw = raw.ok_or_else(|| RegistryError::no_such_version(version))?;
            let own: Option<Own> = serde_json::from_slice(raw).ok();
            own.map(|own| own.readme).filter(|text| !text.is_empty())
        }
    };
    Ok(own.or_else(|| packument.text("readme")))
}

/// `GET /-/verdaccio/data/sidebar/:package?v=…`: the document, with one version as `latest`.
pub(in crate::web) async fn sidebar(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Base(base): Base,
    headers: HeaderMap,
    Package(name): Package,
    query: Query,
) -> Result<Response, Error> {
    let sidebar = state
        .registry
        .sidebar(&caller, &name, query.get("v"), &base, dress);
    let document = sidebar
        .await
        .map_err(|error| unless_hidden(problem, &name, error))?;
    Ok(respond::document(&headers, caller.is_anonymous(), document))
}
