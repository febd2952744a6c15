//! Ways for fuzzers into the parsers of requests. No part of the interface.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{normalize::canonical_path, respond};

/// Brings `path` into its one form; a second time must change nothing.
pub fn path(path: &str) {
    if let Ok(canonical) = canonical_path(path) {
        assert_eq!(canonical_path(&canonical), Ok(canonical.clone()));
        assert!(canonical.starts_with('/') && !canonical.contains("/../"));
    }
}

/// Reads the header `name` in every way in which it is read.
pub fn header(name: HeaderName, value: &[u8], length: u64) {
    let Ok(value) = HeaderValue::from_bytes(value) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    respond::choose_coding(&headers);
    respond::check_range(&headers, length);
    respond::check_conditions(&headers);
}
