//! Whether the server is there, and ready.

use axum::{
    extract::{FromRequestParts as _, Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{
    error::Error,
    extract::{Base, Query},
    pages::{self, Visit},
    respond,
    state::WebState,
};

/// `GET /`: the first page for browsers, and for others where they are.
pub(super) async fn root(
    State(state): State<WebState>,
    Base(base): Base,
    query: Query,
    request: Request,
) -> Result<Response, Error> {
    let accept = request.headers().get(header::ACCEPT);
    let wants_page = accept.is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let mut response = if wants_page && state.settings.has_pages {
        let (mut parts, _) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, &state).await?;
        pages::home(visit, query).await
    } else {
        let body = json!({ "name": "rustaccio", "registry": format!("{base}/") });
        respond::json(StatusCode::OK, &body)
    };
    let varies = HeaderValue::from_static("accept");
    response.headers_mut().append(header::VARY, varies);
    Ok(response)
}

pub(super) async fn ping() -> Response {
    respond::json(StatusCode::OK, &json!({}))
}

/// The process answers.
pub(super) async fn live() -> Response {
    respond::json(StatusCode::OK, &json!({ "status": "live" }))
}

/// Storage answers, and the server is not about to stop.
pub(super) async fn ready(State(state): State<WebState>) -> Result<Response, Error> {
    if state.lifecycle.is_shutting_down() {
        let body = json!({ "status": "stopping" });
        return Ok(respond::json(StatusCode::SERVICE_UNAVAILABLE, &body));
    }
    state.registry.check_storage().await?;
    Ok(respond::json(StatusCode::OK, &json!({ "status": "ready" })))
}
