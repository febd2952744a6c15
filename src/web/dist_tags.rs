//! `/-/package/:package/dist-tags`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{
    error::Error,
    extract::{Actor, Json, Package, PathText, TagName, Visitor, unless_hidden},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, models::VersionKey};

pub(super) async fn list(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
) -> Result<Response, Error> {
    let tags = state.registry.dist_tags(&caller, &name).await;
    let tags = tags.map_err(|error| unless_hidden(problem, &name, error))?;
    Ok(respond::json(StatusCode::OK, &tags))
}

pub(super) async fn set(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    TagName(tag): TagName,
    Json(version): Json<serde_json::Value>,
) -> Result<Response, Error> {
    let version = version_in(&version)?;
    state
        .registry
        .set_dist_tag(&caller, &name, tag, version)
        .await?;
    Ok(tagged())
}

pub(super) async fn remove(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    PathText(tag): PathText,
) -> Result<Response, Error> {
    state.registry.remove_dist_tag(&caller, &name, tag).await?;
    let body = json!({ "ok": "tag removed" });
    Ok(respond::json(StatusCode::CREATED, &body))
}

/// The body of a tagging: a version as a JSON string.
pub(super) fn version_in(body: &serde_json::Value) -> Result<VersionKey, RegistryError> {
    let missing = || RegistryError::bad_request("version is missing");
    body.as_str()
        .ok_or_else(missing)?
        .parse()
        .map_err(|_| missing())
}

/// What both routes for tagging answer.
pub(super) fn tagged() -> Response {
    respond::json(StatusCode::CREATED, &json!({ "ok": "package tagged" }))
}
