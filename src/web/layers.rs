//! What happens around every handler: request id, span, time limit, identity, security headers.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::{OriginalUri, Request},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, request::Parts, uri::PathAndQuery};
use tower::{Service, ServiceExt as _};
use tracing::{Instrument as _, field::Empty};

use super::{
    error::Error,
    extract::{Credentials, PublicPrefix, base_of, identify, unidentified},
    governed::{admit, tell},
    login,
    metrics::{Counting, metrics_for},
    normalize::canonical_path,
    recorded::{Wanted, recorded},
    redact::redacted,
    state::WebState,
    verdaccio,
    watched::watched,
};
use crate::{
    auth::CredentialProblem,
    error::RegistryError,
    events::{Attempt, Event},
    lifecycle::{Circle, Errand, Hops, RequestId},
    models::{AskedBy, BaseUrl},
    telemetry::continue_trace,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static(RequestId::HEADER);
const HOPS: HeaderName = HeaderName::from_static(Hops::HEADER);
const NPM_AUTH_TYPE: HeaderName = HeaderName::from_static("npm-auth-type");
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

/// The routes, and what happens around each of them.
#[derive(Clone, Debug)]
pub struct Around {
    state: WebState,
    routes: Router,
    counting: Counting,
}

impl Around {
    pub(super) fn new(state: WebState, routes: Router, counting: Counting) -> Self {
        Self {
            state,
            routes,
            counting,
        }
    }
}

impl Service<Request> for Around {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(around(self.clone(), request))
    }
}

/// Names and logs the request, brings its path into one form, finds out who is calling, and turns
/// a panic into a 500. One function and not a layer for each: every read passes here.
async fn around(around: Around, mut request: Request) -> Result<Response, Infallible> {
    let Around {
        state,
        routes,
        counting,
    } = around;
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = &*redacted(request.uri().path()),
        request.id = %id,
        // Told only where spans are sent.
        otel.name = Empty,
        otel.kind = Empty,
        otel.status_code = Empty,
        http.route = Empty,
        http.response.status_code = Empty,
    );
    continue_trace(&span, request.headers());
    let work = async {
        let mut counted = counting.begin(request.method());
        let mut response = match prepare(&state, &mut request) {
            Ok(Prepared { hops, sent_path }) => {
                counted.meets(request.uri().path(), request.method());
                let handle = |request| {
                    let wanted = Wanted::of(&request, &counting);
                    let (own, own_id) = (state.clone(), Arc::clone(&id));
                    let handled = identified(own, routes, request, sent_path, own_id);
                    // In a box, because it is large and handed on several times.
                    let handled = unless_it_panics(Box::pin(handled));
                    let errand = Errand {
                        hops,
                        request: RequestId::new(Arc::clone(&id)),
                    };
                    errand.scope(recorded(&state, wanted, handled))
                };
                watched(&state.settings, request, handle).await
            }
            Err(error) => error.into_response(),
        };
        let status = response.status();
        let took = counted.ended(status);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(status = status.as_u16(), milliseconds, "answered");
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(X_REQUEST_ID, id);
        }
        for (name, value) in SECURITY_HEADERS {
            headers.entry(name).or_insert(value);
        }
        response
    };
    Ok(work.instrument(span).await)
}

/// What is known of a request before anybody is asked about it.
struct Prepared {
    /// What it came through, this registry included.
    hops: Hops,
    /// The path as the client sent it, without the prefix; `None`: as it is now.
    sent_path: Option<String>,
}

/// Brings the request into its form.
fn prepare(state: &WebState, request: &mut Request) -> Result<Prepared, Error> {
    let hops = request.headers().get(HOPS);
    let hops = hops.and_then(|hops| hops.to_str().ok());
    let hops =
        Hops::arrived(hops, &state.settings.instance).map_err(|Circle| RegistryError::Circle)?;
    let sent_path = normalize(state, request)?;
    Ok(Prepared { hops, sent_path })
}

fn unless_it_panics(work: impl Future<Output = Response>) -> impl Future<Output = Response> {
    let caught = AssertUnwindSafe(work).catch_unwind();
    caught.map(|done| {
        let panicked = || Error(RegistryError::internal("a handler panicked")).into_response();
        done.unwrap_or_else(|_| panicked())
    })
}

/// Finds out who is calling, and tells clients whose credentials do not count why.
async fn identified(
    state: WebState,
    routes: Router,
    request: Request,
    sent_path: Option<String>,
    id: Arc<str>,
) -> Response {
    let state = &state;
    let (mut parts, body) = request.into_parts();
    let path = sent_path.as_deref().unwrap_or(parts.uri.path());
    let credentials = match identify(&parts, state, path, Arc::clone(&id)).await {
        Ok(credentials) => credentials,
        Err(error) => {
            if let Some(attempt) = Attempt::current() {
                attempt.note_caller(&unidentified(&parts, state, path, id));
            }
            return Error(error).into_response();
        }
    };
    if let Some(attempt) = Attempt::current() {
        attempt.note_caller(&credentials.caller);
    }
    let notice = credentials.problem.map(|problem| problem.to_string());
    let browser = Browser::of(&parts, state, &credentials);
    if let Some(metrics) = metrics_for(state, &parts, &credentials) {
        tell_guess(state, &credentials);
        return metrics;
    }
    parts.extensions.insert::<Credentials>(credentials);
    let told = match admit(state, &parts).await {
        Ok(told) => told,
        Err(refusal) => return noticed(*refusal, notice),
    };
    if notice.is_some()
        && let Some(credentials) = parts.extensions.get()
    {
        tell_guess(state, credentials);
    }
    let routed = routes.oneshot(Request::from_parts(parts, body)).await;
    let mut response = routed.unwrap_or_else(|never| match never {});
    tell(told, response.headers_mut());
    if let (Some(browser), Some(challenge)) = (browser, response.extensions_mut().remove()) {
        let Browser { base, asked_by } = *browser;
        response = {
            // In a box: few are challenged, and room for it would be made for every request.
            let offered = login::offer_browser(state, response, challenge, &base, asked_by);
            Box::pin(offered).await
        };
    }
    noticed(response, notice)
}

/// Tells of a wrong password, of a request that limits let through.
fn tell_guess(state: &WebState, credentials: &Credentials) {
    if credentials.problem == Some(CredentialProblem::WrongPassword) {
        let (user, code) = (None, "AUTH_UNAUTHORIZED");
        let event = Event::LoginFailed { user, code };
        state.events.tell(&credentials.caller, None, &event);
    }
}

/// `response`, which npm shows with a `notice` if there is one.
fn noticed(mut response: Response, notice: Option<String>) -> Response {
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
    /// `None` where no second factor can be asked for, or the client has no browser. In a box: it is
    /// kept until there is an answer, and most requests have none.
    fn of(parts: &Parts, state: &WebState, credentials: &Credentials) -> Option<Box<Self>> {
        let is_login = || {
            let path = parts.uri.path();
            path.starts_with("/-/user/") || path == verdaccio::LOGIN
        };
        let has_factor = credentials.caller.second_factor.mode.is_some();
        let has_browser = || {
            let kind = parts.headers.get(NPM_AUTH_TYPE);
            kind.is_none_or(|kind| kind != "legacy")
        };
        let is_possible = state.settings.web_login && (has_factor || is_login()) && has_browser();
        is_possible.then(|| {
            let base = base_of(parts, state).ok()?;
            let asked_by = login::asked_by(&parts.headers, &credentials.caller);
            Some(Box::new(Self { base, asked_by }))
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
        None => {
            // It need not be secret, so that it costs no call of the system.
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            let mut text = uuid::Uuid::encode_buffer();
            (&*id.hyphenated().encode_lower(&mut text)).into()
        }
    }
}

/// Takes the prefix off the path and makes the rest canonical. Returns the rest as it was, if it
/// was another.
fn normalize(state: &WebState, request: &mut Request) -> Result<Option<String>, Error> {
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
    let canonical =
        canonical_path(rest).map_err(|error| RegistryError::bad_request(error.to_string()))?;
    let sent = (rest != path || canonical != rest).then(|| rest.to_owned());
    if canonical != path {
        let mut path = canonical.into_owned();
        if let Some(query) = request.uri().query() {
            path.push('?');
            path.push_str(query);
        }
        let path: PathAndQuery = path
            .parse()
            .map_err(|_| RegistryError::bad_request("invalid path"))?;
        *request.uri_mut() = Uri::from(path);
    }
    if !prefix.is_empty() {
        request.extensions_mut().insert(PublicPrefix(prefix));
    }
    Ok(sent)
}

fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.chars().next() {
        None => Some("/"),
        Some('/') => Some(rest),
        Some(_) => None,
    }
}
