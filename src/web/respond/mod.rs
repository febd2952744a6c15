//! Answers: JSON, documents with validators, tarballs with ranges.

mod coding;
mod conditional;
mod range;
mod tarball;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

pub(super) use coding::choose_coding;
use conditional::is_unchanged;
pub(super) use tarball::tarball;

use crate::{
    error::RegistryError,
    registry::{Document, Rendering},
};

/// How many headers a document has, with those that every answer gets.
const MOST_HEADERS: usize = 16;
/// For what must be asked again each time.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
/// For anonymous reads of names that are not ours: everybody gets the same.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=60");
/// For answers with a secret in them.
const SECRET: HeaderValue = HeaderValue::from_static("no-cache, no-store");
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");
const VARY: HeaderValue = HeaderValue::from_static("accept, accept-encoding");
/// Where those who check signatures get more.
const VARY_FOR_CHECKS: HeaderValue =
    HeaderValue::from_static("accept, accept-encoding, npm-command, user-agent");
/// RFC 7234, section 5.5.1.
const STALE: HeaderValue =
    HeaderValue::from_static("110 rustaccio \"the uplink does not answer; this may be old\"");

/// `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, PRIVATE),
    ];
    match serde_json::to_vec(value) {
        Ok(body) => (status, headers, body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A body that is JSON already.
pub(super) fn raw_json(body: Bytes) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, PRIVATE),
    ];
    (headers, Body::from(body)).into_response()
}

/// Text that is shown as it is.
pub(super) fn text(body: String) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, PRIVATE),
    ];
    (headers, body).into_response()
}

/// A body that becomes JSON while it is sent. Where it fails in the middle, the connection breaks:
/// nobody may take it for whole.
pub(super) fn growing_json(
    body: impl Stream<Item = Result<Bytes, RegistryError>> + Send + 'static,
) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, SECRET),
        // nginx would keep it until it is whole.
        (UNBUFFERED, HeaderValue::from_static("no")),
    ];
    let body = body.inspect_err(|error| {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "an answer is broken off"
        );
    });
    (headers, Body::from_stream(body)).into_response()
}

/// `value` as JSON that nobody may keep.
pub(super) fn secret_json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = json(status, value);
    response.headers_mut().insert(header::CACHE_CONTROL, SECRET);
    response
}

/// A packument or a version, or 304 where the client has it already.
pub(super) fn document(request: &HeaderMap, is_anonymous: bool, document: Document) -> Response {
    let Document {
        rendering,
        is_hosted,
        is_stale,
        depends_on_checks,
    } = document;
    let mut headers = HeaderMap::with_capacity(MOST_HEADERS);
    headers.insert(
        header::CACHE_CONTROL,
        if is_hosted || !is_anonymous {
            PRIVATE
        } else {
            PUBLIC
        },
    );
    let vary = if depends_on_checks {
        VARY_FOR_CHECKS
    } else {
        VARY
    };
    headers.insert(header::VARY, vary);
    insert(&mut headers, header::ETAG, &rendering.etag);
    if let Some(modified) = &rendering.last_modified {
        insert(&mut headers, header::LAST_MODIFIED, modified);
    }
    if is_stale {
        headers.insert(header::WARNING, STALE);
    }
    if is_unchanged(request, Some(&rendering.etag), rendering.modified) {
        return with_headers(StatusCode::NOT_MODIFIED, headers, Body::empty());
    }
    let Rendering {
        body,
        coding,
        content_type,
        ..
    } = rendering;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(token) = coding.token() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(token));
    }
    with_headers(StatusCode::OK, headers, Body::from(body))
}

/// Whether the client has what `etag` names.
pub(super) fn has(request: &HeaderMap, etag: &str) -> bool {
    is_unchanged(request, Some(etag), None)
}

/// A response with just these headers, which are not copied.
fn with_headers(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Reads the conditions of a request as a fuzzer wants it.
pub(super) fn check_conditions(request: &HeaderMap) {
    let _ = is_unchanged(request, Some("\"a\""), None);
    let _ = conditional::allows_part(request, Some("\"a\""));
}

/// Reads the range of a request as a fuzzer wants it: a part is inside the body.
pub(super) fn check_range(request: &HeaderMap, length: u64) {
    if let range::Wanted::Part(part) = range::parse_range(request, length) {
        assert!(part.start < part.end && part.end <= length);
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
