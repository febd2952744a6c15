//! Ways for benchmarks into the registry. No part of the interface.

use std::io;

use bytes::Bytes;

use super::compress;
use crate::models::ContentCoding;

/// `body` in `coding`, as it is kept.
pub fn compress(body: &Bytes, coding: ContentCoding) -> io::Result<Bytes> {
    compress::compress(body, coding)
}
