//! [`tarball`]: the bytes of a tarball, whole or in part.

use std::ops::Range;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    conditional::{allows_part, is_unchanged},
    insert,
    range::{Wanted, parse_range},
};
use crate::{
    error::RegistryError,
    registry::{Tarball, TarballBytes},
    storage::Blob,
};

/// A tarball never changes: a version has one, for ever.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=31557600, immutable");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, max-age=31557600, immutable");

/// `tarball`, or the part of it that `Range` wants, or 304.
pub(in crate::web) fn tarball(
    request: &HeaderMap,
    is_anonymous: bool,
    tarball: Tarball,
) -> Result<Response, RegistryError> {
    let Tarball {
        bytes,
        etag,
        is_hosted,
    } = tarball;
    let mut headers = HeaderMap::new();
    let is_private = is_hosted || !is_anonymous;
    let cache_control = if is_private { PRIVATE } else { PUBLIC };
    headers.insert(header::CACHE_CONTROL, cache_control);
    if let Some(etag) = &etag {
        insert(&mut headers, header::ETAG, etag);
    }
    if is_unchanged(request, etag.as_deref(), None) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    match bytes {
        TarballBytes::Stored(blob) => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            let wanted = if allows_part(request, etag.as_deref()) {
                parse_range(request, blob.length)
            } else {
                Wanted::Whole
            };
            stored(headers, blob, wanted)
        }
        TarballBytes::Growing(download) => {
            if let Some(length) = download.length() {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            Ok((headers, Body::from_stream(download.into_stream())).into_response())
        }
    }
}

fn stored(mut headers: HeaderMap, blob: Blob, wanted: Wanted) -> Result<Response, RegistryError> {
    let length = blob.length;
    let (status, part) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(part) => {
            let range = content_range(&part, length);
            insert(&mut headers, header::CONTENT_RANGE, &range);
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Wanted::Unsatisfiable => return Err(RegistryError::RangeNotSatisfiable { length }),
    };
    let count = part.end - part.start;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    let body = Body::from_stream(blob.into_stream(part));
    Ok((status, headers, body).into_response())
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}
