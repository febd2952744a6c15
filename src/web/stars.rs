//! Stars, as npm and pnpm add, remove and list them.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{Actor, Json, Package, PathText, Query, User, Visitor},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, models::Caller};

/// What pnpm stars; it says it twice.
#[derive(Deserialize)]
pub(super) struct Starred {
    name: Option<String>,
    package: Option<String>,
}

/// `GET /-/_view/starredByUser?key="name"`, a view of the registry's `CouchDB` times.
pub(super) async fn view(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    query: Query,
) -> Result<Response, Error> {
    let key = query.get("key").unwrap_or_default();
    let user = key.trim_matches(['"', '\'']);
    if user.is_empty() {
        return Err(RegistryError::bad_request("missing query key username").into());
    }
    let names = state.registry.starred_by(&caller, user).await?;
    let rows: Vec<Value> = names.iter().map(|name| json!({ "value": name })).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "rows": rows })))
}

/// `GET /-/user/v1/star`: one's own.
pub(super) async fn own(State(state): State<WebState>, user: User) -> Result<Response, Error> {
    list(&state, &user.caller, user.name.as_str()).await
}

/// `GET /-/user/:user/stars`, also as `/-/util/user/:user/stars`.
pub(super) async fn of_user(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    PathText(user): PathText,
) -> Result<Response, Error> {
    list(&state, &caller, &user).await
}

async fn list(state: &WebState, caller: &Caller, user: &str) -> Result<Response, Error> {
    let names = state.registry.starred_by(caller, user).await?;
    Ok(respond::json(StatusCode::OK, &names))
}

/// `PUT /-/user/v1/star`.
pub(super) async fn add(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Json(starred): Json<Starred>,
) -> Result<Response, Error> {
    set(&state, &caller, &starred, true).await
}

/// `DELETE /-/user/v1/star`.
pub(super) async fn remove(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Json(starred): Json<Starred>,
) -> Result<Response, Error> {
    set(&state, &caller, &starred, false).await
}

async fn set(
    state: &WebState,
    caller: &Caller,
    starred: &Starred,
    is_starred: bool,
) -> Result<Response, Error> {
    let name = starred.name.as_ref().or(starred.package.as_ref());
    let name = name.ok_or_else(|| RegistryError::bad_request("`name` is missing"))?;
    let name = name
        .parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    state.registry.set_star(caller, &name, is_starred).await?;
    Ok(done())
}

/// `PUT /-/user/package/:package/star`.
pub(super) async fn add_to_package(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
) -> Result<Response, Error> {
    state.registry.set_star(&caller, &name, true).await?;
    Ok(done())
}

/// `DELETE /-/user/package/:package/star`.
pub(super) async fn remove_from_package(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
) -> Result<Response, Error> {
    state.registry.set_star(&caller, &name, false).await?;
    Ok(done())
}

fn done() -> Response {
    respond::json(StatusCode::OK, &json!({ "ok": true }))
}
