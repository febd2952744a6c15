//! Whether the server is there, and ready.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{error::Error, extract::Base, respond, state::WebState};

/// `GET /`: something to see for people who try the address.
pub(super) async fn root(Base(base): Base) -> Response {
    let body = json!({ "name": "rustaccio", "registry": format!("{base}/") });
    respond::json(StatusCode::OK, &body)
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
