//! What is counted of requests, and where Prometheus reads it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::MethodRouter,
};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};

use super::{error::Error, extract::Credentials, state::WebState};
use crate::{
    error::RegistryError,
    telemetry::{METRICS_CONTENT_TYPE, Requests, UnderWay},
};

/// Routes, and their patterns in the same order.
pub(super) struct Table {
    router: Router<WebState>,
    patterns: Vec<&'static str>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            router: Router::new(),
            patterns: Vec::new(),
        }
    }

    pub(super) fn route(mut self, pattern: &'static str, methods: MethodRouter<WebState>) -> Self {
        self.patterns.push(pattern);
        self.router = self.router.route(pattern, methods);
        self
    }

    /// The routes as a router, and what counts requests by them.
    pub(super) fn finish(self, state: &WebState) -> (Router<WebState>, Counting) {
        let counting = Counting::of(self.patterns, state);
        (self.router, counting)
    }
}

/// Counts requests by the routes that they meet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Counting(Option<Arc<ByRoute>>);

#[derive(Debug)]
struct ByRoute {
    requests: Arc<Requests>,
    numbers: matchit::Router<usize>,
}

/// A request, from its beginning on.
pub(super) struct Counted<'a>(Option<(&'a ByRoute, UnderWay<'a>)>);

impl Counting {
    fn of(patterns: Vec<&'static str>, state: &WebState) -> Self {
        let mut patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        patterns.push(state.settings.metrics.path.clone());
        let requests = state.metrics.requests(|| patterns.clone());
        Self(requests.map(|requests| {
            let mut numbers = matchit::Router::new();
            for (number, pattern) in patterns.into_iter().enumerate() {
                // The router has taken all of them; only the path of the metrics may be one of theirs.
                let _ = numbers.insert(pattern, number);
            }
            Arc::new(ByRoute { requests, numbers })
        }))
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Counted<'_> {
        let counted = self.0.as_deref();
        Counted(counted.map(|counted| (counted, counted.requests.begin())))
    }
}

impl Counted<'_> {
    /// The number of the route that `path` meets. Looked up only where it is counted.
    pub(super) fn route(&self, path: &str) -> Option<usize> {
        let (counted, _) = self.0.as_ref()?;
        Some(*counted.numbers.at(path).ok()?.value)
    }

    /// The request was answered.
    pub(super) fn ended(
        self,
        route: Option<usize>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        if let Some((counted, _under_way)) = self.0 {
            counted.requests.ended(route, method, status, took);
        }
    }
}

/// The metrics, if that is what a request asks for.
pub(super) fn metrics_for(
    state: &WebState,
    parts: &Parts,
    credentials: &Credentials,
) -> Option<Response> {
    if !state.metrics.are_counted() || parts.uri.path() != state.settings.metrics.path {
        return None;
    }
    let answer = metrics(state, &parts.method, credentials);
    Some(answer.unwrap_or_else(|error| Error(error).into_response()))
}

fn metrics(
    state: &WebState,
    method: &Method,
    credentials: &Credentials,
) -> Result<Response, RegistryError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(RegistryError::MethodNotAllowed);
    }
    if state.settings.metrics.require_admin {
        if let Some(problem) = credentials.problem {
            return Err(RegistryError::unauthorized(problem.to_string()));
        }
        state.administration.require(&credentials.caller)?;
    }
    let mut response = state.metrics.to_text().into_response();
    let headers = [
        (header::CONTENT_TYPE, METRICS_CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}
