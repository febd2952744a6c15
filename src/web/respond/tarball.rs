//! [`tarball`]: the bytes of a tarball, whole or in part.

use std::ops::Range;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    MOST_HEADERS,
    conditional::allows_part,
    insert,
    range::{Wanted, parse_range},
    with_headers,
};
use crate::{
    error::RegistryError,
    registry::{Tarball, TarballBytes},
    storage::Blob,
};

/// A tarball never changes: a version has one, for ever.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=31557600, immutable");
/// The address of one in a bucket does.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("private, no-store");
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
    let mut headers = HeaderMap::with_capacity(MOST_HEADERS);
    let is_private = is_hosted || !is_anonymous;
    let cache_control = if is_private { PRIVATE } else { PUBLIC };
    headers.insert(header::CACHE_CONTROL, cache_control);
    if let Some(etag) = &etag {
        insert(&mut headers, header::ETAG, etag);
    }
    if !matches!(bytes, TarballBytes::Unwanted) {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
    }
    let stored = match bytes {
        TarballBytes::Unwanted => {
            let status = StatusCode::NOT_MODIFIED;
            return Ok(with_headers(status, headers, Body::empty()));
        }
        TarballBytes::Elsewhere(address) => {
            insert(&mut headers, header::LOCATION, address.as_str());
            headers.insert(header::CACHE_CONTROL, NOT_KEPT);
            return Ok(with_headers(StatusCode::FOUND, headers, Body::empty()));
        }
        TarballBytes::Whole(bytes) => Stored::Memory(bytes),
        TarballBytes::Stored(blob) => Stored::Disk(blob),
        TarballBytes::Growing(download) => {
            if let Some(length) = download.length() {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            let body = Body::from_stream(download.into_stream());
            return Ok(with_headers(StatusCode::OK, headers, body));
        }
    };
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = stored.length();
    let wanted = if allows_part(request, etag.as_deref()) {
        parse_range(request, length)
    } else {
        Wanted::Whole
    };
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
    Ok(with_headers(status, headers, stored.into_body(part)))
}

/// A tarball of which any part can be had.
enum Stored {
    Memory(Bytes),
    Disk(Blob),
}

impl Stored {
    fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Disk(blob) => blob.length,
        }
    }

    fn into_body(self, part: Range<u64>) -> Body {
        match self {
            Self::Memory(bytes) => {
                let at = |at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Body::from(bytes.slice(at(part.start)..at(part.end)))
            }
            Self::Disk(blob) => Body::from_stream(blob.into_stream(part)),
        }
    }
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}
