//! Ways for benchmarks into the reading of requests. No part of the interface.

use std::borrow::Cow;

use super::normalize;

/// The one form of `path`, if it has one.
pub fn canonical_path(path: &str) -> Option<Cow<'_, str>> {
    normalize::canonical_path(path).ok()
}
