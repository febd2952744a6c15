//! By which route a request goes, what is counted of requests, and where Prometheus reads it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::MethodRouter,
};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use tracing::Span;

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
    /// Where they are counted, if they are.
    requests: Option<Arc<Requests>>,
    patterns: Vec<String>,
    numbers: matchit::Router<usize>,
    are_traced: bool,
}

/// A request, from its beginning on. One that is dropped before it ended is counted as aborted.
pub(super) struct Counted<'a> {
    started: Instant,
    begun: Option<Begun<'a>>,
}

struct Begun<'a> {
    by_route: &'a ByRoute,
    route: Option<usize>,
    under_way: Option<UnderWay<'a>>,
}

impl Counting {
    fn of(patterns: Vec<&'static str>, state: &WebState) -> Self {
        let mut patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        patterns.push(state.settings.metrics.path.clone());
        let requests = state.metrics.requests(|| patterns.clone());
        let are_traced = state.settings.are_traced;
        if requests.is_none() && !are_traced && !state.events.are_told() {
            return Self(None);
        }
        let mut numbers = matchit::Router::new();
        for (number, pattern) in patterns.iter().enumerate() {
            // The router has taken all of them; only the path of the metrics may be one of theirs.
            let _ = numbers.insert(pattern, number);
        }
        Self(Some(Arc::new(ByRoute {
            requests,
            patterns,
            numbers,
            are_traced,
        })))
    }

    /// The pattern of the route that `path` meets, if there is one and somebody is told.
    pub(super) fn pattern_of(&self, path: &str) -> Option<Arc<str>> {
        let by_route = self.0.as_deref()?;
        let number = *by_route.numbers.at(path).ok()?.value;
        by_route.patterns.get(number).map(|it| it.as_str().into())
    }

    /// A request begins.
    pub(super) fn begin(&self, method: &Method) -> Counted<'_> {
        let by_route = self.0.as_deref();
        let begun = by_route.map(|by_route| Begun {
            by_route,
            route: None,
            under_way: by_route.requests.as_deref().map(|it| it.begin(method)),
        });
        Counted {
            started: Instant::now(),
            begun,
        }
    }
}

impl Counted<'_> {
    /// The request is for this path. Within its span, before anything else is.
    pub(super) fn meets(&mut self, path: &str, method: &Method) {
        let Some(begun) = &mut self.begun else {
            return;
        };
        if begun.under_way.is_none() && !begun.by_route.are_traced {
            return;
        }
        let met = begun.by_route.numbers.at(path);
        begun.route = met.ok().map(|met| *met.value);
        if begun.by_route.are_traced {
            begun.by_route.name_span(begun.route, method);
        }
    }

    /// The request was answered. Within its span. Returns how long that took.
    pub(super) fn ended(mut self, status: StatusCode) -> Duration {
        let took = self.started.elapsed();
        let Some(begun) = self.begun.take() else {
            return took;
        };
        if let Some(under_way) = begun.under_way {
            under_way.ended(begun.route, status, took);
        }
        if begun.by_route.are_traced {
            let span = Span::current();
            span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                span.record("otel.status_code", "error");
            }
        }
        took
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take()
            && let Some(under_way) = begun.under_way
        {
            under_way.aborted(begun.route, self.started.elapsed());
        }
    }
}

impl ByRoute {
    /// Calls the present span what the conventions of OpenTelemetry say.
    fn name_span(&self, route: Option<usize>, method: &Method) {
        let span = Span::current();
        let pattern = route.and_then(|route| self.patterns.get(route));
        let name = pattern.map_or_else(|| method.to_string(), |it| format!("{method} {it}"));
        span.record("otel.name", name);
        span.record("otel.kind", "server");
        if let Some(pattern) = pattern {
            span.record("http.route", pattern);
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
        state.administration.require_to_look(&credentials.caller)?;
    }
    state.registry.tell_breakers();
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
