//! `/-/package/:package/dist-tags`: all tags of a package, or one.

use std::fmt::Display;

use axum::{extract::State, response::Response};
use http::StatusCode;
use indexmap::IndexMap;
use serde_json::json;

use super::{
    error::Error,
    extract::{Actor, Json, Package, PathText, TagName, Visitor, unless_hidden},
    respond,
    state::WebState,
};
use crate::{
    error::RegistryError,
    models::{Tag, VersionKey},
};

pub(super) async fn list(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
) -> Result<Response, Error> {
    let tags = state.registry.dist_tags(&caller, &name).await;
    let tags = tags.map_err(|error| unless_hidden(problem, &name, error))?;
    Ok(respond::json(StatusCode::OK, &tags))
}

/// The version that one tag points at, as it is sent to set it.
pub(super) async fn show(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
    PathText(tag): PathText,
) -> Result<Response, Error> {
    let version = state.registry.dist_tag(&caller, &name, &tag).await;
    match version.map_err(|error| unless_hidden(problem, &name, error))? {
        Some(version) => Ok(respond::json(StatusCode::OK, &version)),
        None => {
            let tag: String = tag.chars().take(80).collect();
            Err(RegistryError::no_such_version(tag).into())
        }
    }
}

/// `PUT` of all tags: those that are not sent are removed.
pub(super) async fn replace(
    state: State<WebState>,
    caller: Actor,
    name: Package,
    tags: Json<IndexMap<String, String>>,
) -> Result<Response, Error> {
    set_all(state, caller, name, tags, true).await
}

/// `POST` of some tags: the others stay.
pub(super) async fn merge(
    state: State<WebState>,
    caller: Actor,
    name: Package,
    tags: Json<IndexMap<String, String>>,
) -> Result<Response, Error> {
    set_all(state, caller, name, tags, false).await
}

async fn set_all(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    Json(tags): Json<IndexMap<String, String>>,
    are_replaced: bool,
) -> Result<Response, Error> {
    let invalid = |error: &dyn Display| RegistryError::bad_request(error.to_string());
    let tags = tags.into_iter().map(|(tag, version)| {
        let tag: Tag = tag.parse().map_err(|error| invalid(&error))?;
        let version: VersionKey = version.parse().map_err(|error| invalid(&error))?;
        Ok((tag, version))
    });
    let tags = tags.collect::<Result<_, RegistryError>>()?;
    let registry = &state.registry;
    registry
        .set_dist_tags(&caller, &name, tags, are_replaced)
        .await?;
    Ok(tagged())
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
