//! What happens around every handler: request id, span, time limit, identity, security headers.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{OriginalUri, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, request::Parts, uri::PathAndQuery};
use tracing::Instrument as _;

use super::{
    error::Error,
    extract::{Credentials, PublicPrefix, base_of, identify},
    login,
    normalize::canonical_path,
    redact::redacted,
    state::WebState,
    watched::watched,
};
use crate::{
    auth::AskedBy,
    error::RegistryError,
    lifecycle::{Circle, Hops},
    models::BaseUrl,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NPM_NOTICE: HeaderName = HeaderName::from_static("npm-notice");
const MAX_REQUEST_ID: usize = 128;

/// What browsers are told about every answer; none of them is a page.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        http::header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        http::header::X_FRAME_OPTIONS,
        HeaderValue::from_static("deny"),
    ),
    (
        http::header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        http::header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// Names a request in logs, answers and calls to other services.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// The path as the client sent it, without the prefix.
#[derive(Clone, Debug)]
struct SentPath(Arc<str>);

/// The outermost layer: names and logs the request, brings its path into one form, turns a panic
/// into a 500.
pub(super) async fn around(
    State(state): State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = &*redacted(request.uri().path()),
        request.id = %id,
    );
    let work = async {
        let mut response = match prepare(&state, &mut request) {
            Ok(hops) => {
                let handle = |request| hops.scope(handle(next, request));
                watched(&state.settings, request, handle).await
            }
            Err(error) => error.into_response(),
        };
        let status = response.status().as_u16();
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(status, milliseconds, "answered");
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(X_REQUEST_ID, id);
        }
        for (name, value) in SECURITY_HEADERS {
            headers.entry(name).or_insert(value);
        }
        response
    };
    work.instrument(span).await
}

/// Brings the request into its form. What it came through, this registry included.
fn prepare(state: &WebState, request: &mut Request) -> Result<Hops, Error> {
    let hops = request.headers().get(Hops::HEADER);
    let hops = hops.and_then(|hops| hops.to_str().ok());
    let hops =
        Hops::arrived(hops, &state.settings.instance).map_err(|Circle| RegistryError::Circle)?;
    normalize(state, request)?;
    Ok(hops)
}

async fn handle(next: Next, request: Request) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Error(RegistryError::internal("a handler panicked")).into_response(),
    }
}

/// Finds out who is calling, and tells clients whose credentials do not count why.
pub(super) async fn identity(
    State(state): State<WebState>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.extensions.get::<SentPath>().cloned();
    let path = path.as_ref().map_or("", |path| &path.0);
    let credentials = match identify(&parts, &state, path).await {
        Ok(credentials) => credentials,
        Err(error) => return Error(error).into_response(),
    };
    let notice = credentials.problem.map(|problem| problem.to_string());
    let browser = Browser::of(&parts, &state, &credentials);
    parts.extensions.insert::<Credentials>(credentials);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let (Some(browser), Some(challenge)) = (browser, response.extensions_mut().remove()) {
        let Browser { base, asked_by } = browser;
        response = login::offer_browser(&state, response, challenge, &base, asked_by);
    }
    if let Some(notice) = notice.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(NPM_NOTICE, notice);
    }
    response
}

/// What a page for a second factor needs to know of the request that was challenged.
struct Browser {
    base: BaseUrl,
    asked_by: AskedBy,
}

impl Browser {
    /// `None` where no second factor can be asked for, or the client has no browser.
    fn of(parts: &Parts, state: &WebState, credentials: &Credentials) -> Option<Self> {
        let is_login = parts.uri.path().starts_with("/-/user/");
        let has_factor = credentials.caller.second_factor.mode.is_some();
        let has_browser = parts
            .headers
            .get("npm-auth-type")
            .is_none_or(|value| value != "legacy");
        let is_possible = state.settings.web_login && has_browser && (is_login || has_factor);
        is_possible.then(|| {
            let base = base_of(parts, state).ok()?;
            let asked_by = login::asked_by(&parts.headers, &credentials.caller);
            Some(Self { base, asked_by })
        })?
    }
}

/// Kept if it is short and printable: it goes into logs and headers.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let sent = headers
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID)
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()));
    match sent {
        Some(id) => id.into(),
        None => uuid::Uuid::new_v4().to_string().into(),
    }
}

/// Takes the prefix off the path and makes the rest canonical.
fn normalize(state: &WebState, request: &mut Request) -> Result<(), Error> {
    let path = request.uri().path();
    let nested_in = request
        .extensions()
        .get::<OriginalUri>()
        .and_then(|original| original.0.path().strip_suffix(path.trim_end_matches('/')))
        .map(|prefix| prefix.trim_end_matches('/').to_owned())
        .unwrap_or_default();
    let own = state.settings.url_prefix.as_str();
    // A router that is nested at the prefix has had it taken off already.
    let (rest, prefix) = if nested_in.is_empty() || nested_in != own {
        let rest = strip_prefix(path, own).ok_or_else(|| RegistryError::not_found("not found"))?;
        (rest, format!("{nested_in}{own}"))
    } else {
        (path, nested_in)
    };
    let sent = SentPath(rest.into());
    let mut path =
        canonical_path(rest).map_err(|error| RegistryError::bad_request(error.to_string()))?;
    if let Some(query) = request.uri().query() {
        path.push('?');
        path.push_str(query);
    }
    let path: PathAndQuery = path
        .parse()
        .map_err(|_| RegistryError::bad_request("invalid path"))?;
    *request.uri_mut() = Uri::from(path);
    request.extensions_mut().insert(PublicPrefix(prefix));
    request.extensions_mut().insert(sent);
    Ok(())
}

fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.chars().next() {
        None => Some("/"),
        Some('/') => Some(rest),
        Some(_) => None,
    }
}
