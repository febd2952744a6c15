//! What `npm audit signatures` asks for: keys and attestations.

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{
    error::Error,
    extract::{PathText, Visitor, unless_hidden},
    respond,
    state::WebState,
};
use crate::error::RegistryError;

/// Keys change about once a year.
const KEYS_CACHING: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// Those that are missing may be there in a minute.
const NO_CACHING: HeaderValue = HeaderValue::from_static("no-store");

/// `GET /-/npm/v1/keys`.
pub(super) async fn keys(State(state): State<WebState>) -> Result<Response, Error> {
    let published = state.registry.signing_keys().await?;
    let mut response = respond::json(StatusCode::OK, &json!({ "keys": published.keys }));
    let caching = if published.is_partial {
        NO_CACHING
    } else {
        KEYS_CACHING
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, caching);
    Ok(response)
}

/// `GET /-/npm/v1/attestations/:package@:version`.
pub(super) async fn attestations(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    PathText(specifier): PathText,
) -> Result<Response, Error> {
    let (name, version) = specifier
        .rsplit_once('@')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| {
            RegistryError::bad_request("expected a package and a version: name@1.0.0")
        })?;
    let invalid = |error: &dyn std::fmt::Display| RegistryError::bad_request(error.to_string());
    let name = name.parse().map_err(|error| invalid(&error))?;
    let version = version.parse().map_err(|error| invalid(&error))?;
    let found = state.registry.attestations(&caller, &name, &version).await;
    let found = found.map_err(|error| match error {
        // A package that is hidden has no more of them than one that is not there.
        RegistryError::NotFound { .. } => {
            let none = RegistryError::not_found(format!("no attestations for {name}@{version}"));
            unless_hidden(problem, &name, none)
        }
        error => error,
    });
    Ok(respond::raw_json(found?))
}
