//! Ways for benchmarks into the registry. No part of the interface.

use std::io;

use bytes::Bytes;

use super::compress::{self, Effort};
use crate::models::ContentCoding;

/// `body` in `coding`: as who asks first gets it, or as it is kept for many.
pub fn compress(body: &Bytes, coding: ContentCoding, is_for_many: bool) -> io::Result<Bytes> {
    let effort = if is_for_many {
        Effort::Thorough
    } else {
        Effort::Quick
    };
    compress::compress(body, coding, effort)
}
