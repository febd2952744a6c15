//! `npm audit` in its newer form (bulk) and its older ones (quick, full).

use axum::{extract::State, response::Response};

use super::{
    error::Error,
    extract::{BodyReader, Visitor},
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
    BodyReader(body): BodyReader,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let advisories = state.registry.advisories(&caller, body).await?;
    Ok(respond::raw_json(advisories))
}

/// `POST /-/npm/v1/security/audits/quick`.
pub(super) async fn quick(
    state: State<WebState>,
    visitor: Visitor,
    body: BodyReader,
) -> Result<Response, Error> {
    audit(state, visitor, TreeAudit::Quick, body).await
}

/// `POST /-/npm/v1/security/audits`.
pub(super) async fn full(
    state: State<WebState>,
    visitor: Visitor,
    body: BodyReader,
) -> Result<Response, Error> {
    audit(state, visitor, TreeAudit::Full, body).await
}

async fn audit(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    kind: TreeAudit,
    BodyReader(body): BodyReader,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let report = state.registry.audit(&caller, kind, body).await?;
    Ok(respond::raw_json(report))
}
