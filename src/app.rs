//! [`build_router`]: a registry as an axum router, to be served alone or nested in another.

use axum::Router;

use crate::{
    lifecycle::Lifecycle,
    telemetry::Metrics,
    web::{self, WebState},
};

/// A registry that is ready to serve.
#[derive(Clone, Debug)]
pub struct AppState {
    pub(crate) web: WebState,
}

impl AppState {
    /// What is counted of the registry. Whoever serves the router counts its connections here.
    pub fn metrics(&self) -> &Metrics {
        &self.web.metrics
    }

    /// What the registry's background work belongs to. Whoever serves the router begins the
    /// shutdown through it, and then waits for it to drain.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.web.lifecycle
    }
}

/// All routes of the registry. The router may be nested in another one.
pub fn build_router(state: AppState) -> Router {
    web::router(state.web)
}
