//! What operators ask of a registry that runs.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{
    error::Error,
    extract::{Actor, Json},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, models::PackageName};

/// Which package.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    package: String,
}

/// `POST /-/admin/reindex`.
pub(super) async fn reindex(
    State(state): State<WebState>,
    Actor(caller): Actor,
) -> Result<Response, Error> {
    let answer = state.administration.reindex(&caller).await?;
    Ok(respond::growing_json(answer))
}

/// `GET /-/admin/storage-health`.
pub(super) async fn storage_health(
    State(state): State<WebState>,
    Actor(caller): Actor,
) -> Result<Response, Error> {
    let answer = state.administration.storage_health(&caller).await?;
    Ok(respond::growing_json(answer))
}

/// `POST /-/admin/policy-cache/invalidate`; its body does not matter.
pub(super) async fn invalidate_policy(
    State(state): State<WebState>,
    Actor(caller): Actor,
) -> Result<Response, Error> {
    state.administration.invalidate_decisions(&caller)?;
    let body = json!({ "ok": "policy cache invalidated" });
    Ok(respond::json(StatusCode::OK, &body))
}

/// `POST /-/admin/package-cache/invalidate`.
pub(super) async fn invalidate_package(
    State(state): State<WebState>,
    Actor(caller): Actor,
    body: Result<Json<Named>, Error>,
) -> Result<Response, Error> {
    // Whoever may not ask learns nothing about what he wrote.
    state.administration.require(&caller)?;
    let Json(Named { package }) = body?;
    let package = package.trim();
    if package.is_empty() {
        return Err(RegistryError::bad_request("package is missing").into());
    }
    let name: PackageName = package
        .parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    let invalidating = state.administration.invalidate_package(&caller, &name);
    let removed = invalidating.await?;
    let body = json!({
        "ok": "package cache invalidated",
        "package": name.as_str(),
        "removed": removed,
    });
    Ok(respond::json(StatusCode::OK, &body))
}
