//! `/-/v1/search` and `/-/all`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    error::Error,
    extract::{Query, Visitor},
    respond,
    state::WebState,
};
use crate::search::Window;

/// Hits on a page, as npm asks for by default, and at most.
const PAGE: usize = 20;
const MAX_PAGE: usize = 250;

pub(super) async fn search(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    query: Query,
) -> Result<Response, Error> {
    let number = |key: &str, default| {
        query
            .get(key)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let window = Window {
        from: number("from", 0),
        size: number("size", PAGE).min(MAX_PAGE),
    };
    let text = query.get("text").unwrap_or_default();
    let page = state.registry.search(&caller, text, window).await?;
    Ok(respond::json(StatusCode::OK, &page))
}

/// `/-/all` and `/-/all/since`: the names after `since` or `startkey`.
pub(super) async fn all(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    query: Query,
) -> Result<Response, Error> {
    let after = query.get("since").or_else(|| query.get("startkey"));
    let packages = state
        .registry
        .all(&caller, after.unwrap_or_default())
        .await?;
    let body: Map<String, Value> = packages
        .iter()
        .map(|entry| {
            let value = json!({ "name": entry.name.as_str(), "version": entry.version });
            (entry.name.as_str().to_owned(), value)
        })
        .collect();
    Ok(respond::json(StatusCode::OK, &body))
}
