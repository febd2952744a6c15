//! `npm audit` in its newer form (bulk) and its older ones (quick, full).

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Map, Value};

use super::{
    error::Error,
    extract::{Json, Visitor},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, registry::TreeAudit};

fn require_enabled(state: &WebState) -> Result<(), RegistryError> {
    if state.settings.audit {
        Ok(())
    } else {
        Err(RegistryError::not_found("audits are turned off here"))
    }
}

/// `POST /-/npm/v1/security/advisories/bulk`.
pub(super) async fn bulk(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    Json(versions): Json<BTreeMap<String, Value>>,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let advisories = state.registry.advisories(&caller, versions).await?;
    Ok(respond::json(StatusCode::OK, &advisories))
}

/// `POST /-/npm/v1/security/audits/quick`.
pub(super) async fn quick(
    state: State<WebState>,
    visitor: Visitor,
    tree: Json<Map<String, Value>>,
) -> Result<Response, Error> {
    audit(state, visitor, TreeAudit::Quick, tree).await
}

/// `POST /-/npm/v1/security/audits`.
pub(super) async fn full(
    state: State<WebState>,
    visitor: Visitor,
    tree: Json<Map<String, Value>>,
) -> Result<Response, Error> {
    audit(state, visitor, TreeAudit::Full, tree).await
}

async fn audit(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    kind: TreeAudit,
    Json(tree): Json<Map<String, Value>>,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let report = state.registry.audit(&caller, kind, tree).await?;
    Ok(respond::json(StatusCode::OK, &report))
}
