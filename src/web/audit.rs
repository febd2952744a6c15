//! `npm audit` in its newer form (bulk) and its older ones (quick, full).

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::StatusCode;
use serde_json::Value;

use super::{
    error::Error,
    extract::{BodyReader, Visitor},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, registry::TreeAudit};

/// The largest question in decoded bytes. Older clients send the tree of a whole project.
const MAX_QUESTION: usize = 16 * 1024 * 1024;

fn require_enabled(state: &WebState) -> Result<(), RegistryError> {
    if state.settings.audit {
        Ok(())
    } else {
        Err(RegistryError::not_found("audits are turned off here"))
    }
}

async fn whole(BodyReader(mut pieces): BodyReader) -> Result<Bytes, RegistryError> {
    let mut body = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if body.len() + piece.len() > MAX_QUESTION {
            return Err(RegistryError::PayloadTooLarge {
                limit: u64::try_from(MAX_QUESTION).unwrap_or(u64::MAX),
            });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// `POST /-/npm/v1/security/advisories/bulk`.
pub(super) async fn bulk(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    body: BodyReader,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let versions: BTreeMap<String, Value> = serde_json::from_slice(&whole(body).await?)
        .map_err(|error| RegistryError::bad_request(format!("the body is not valid: {error}")))?;
    // Nothing is sent on but versions.
    let versions = versions.into_iter().map(|(name, versions)| {
        let versions = versions.as_array().into_iter().flatten();
        let versions = versions.filter_map(|version| Some(version.as_str()?.to_owned()));
        (name, versions.collect())
    });
    let versions = versions.collect();
    let advisories = state.registry.advisories(&caller, versions).await?;
    Ok(respond::json(StatusCode::OK, &advisories))
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
    body: BodyReader,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let tree = whole(body).await?;
    let report = state.registry.audit(&caller, kind, tree).await?;
    Ok(respond::json(StatusCode::OK, &report))
}
