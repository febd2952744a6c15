//! Compressing rendered documents: quickly for whoever asks first, well for those after.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use parking_lot::Mutex;

use crate::models::ContentCoding;

/// How much work a body is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Somebody waits, and nobody else may ever ask.
    Quick,
    /// Many will read it.
    Thorough,
}

/// `body` in `coding`. Blocks for milliseconds where the body is large.
pub(super) fn compress(body: &Bytes, coding: ContentCoding, effort: Effort) -> io::Result<Bytes> {
    let level = |quick, thorough| match effort {
        Effort::Quick => quick,
        Effort::Thorough => thorough,
    };
    let room = || Vec::with_capacity(body.len() / 4);
    // Measured on packuments of 0.3 to 5 MB: the quick levels take a third of the time of the usual
    // ones and give a tenth more bytes; what lies beyond the thorough ones gains nothing.
    let compressed = match coding {
        ContentCoding::Identity => return Ok(body.clone()),
        ContentCoding::Gzip => gzip(body, effort)?,
        ContentCoding::Brotli => {
            let quality = level(1, 6);
            let mut encoder = brotli::CompressorWriter::new(room(), 64 * 1024, quality, 20);
            encoder.write_all(body)?;
            encoder.flush()?;
            encoder.into_inner()
        }
        ContentCoding::Zstd => {
            let level = i32::try_from(level(1, 6)).unwrap_or(1);
            zstd::bulk::compress(body, level)?
        }
    };
    Ok(compressed.into())
}

/// Quick compressors that were used before: to make one takes as long as a small body does. Not
/// more than there are processors, see [`compute`](crate::lifecycle::compute).
static QUICK: Mutex<Vec<Compress>> = Mutex::new(Vec::new());
const MAX_QUICK: usize = 8;
/// What RFC 1951 allows at most.
const WINDOW_BITS: u8 = 15;

fn gzip(body: &[u8], effort: Effort) -> io::Result<Vec<u8>> {
    let level = match effort {
        Effort::Quick => Compression::new(2),
        Effort::Thorough => Compression::new(8),
    };
    let used = (effort == Effort::Quick)
        .then(|| QUICK.lock().pop())
        .flatten();
    let mut compressor = used.unwrap_or_else(|| Compress::new_gzip(level, WINDOW_BITS));
    let mut out = Vec::with_capacity(body.len() / 4 + 1024);
    loop {
        let read = usize::try_from(compressor.total_in()).map_err(io::Error::other)?;
        let rest = body.get(read..).unwrap_or_default();
        let status = compressor.compress_vec(rest, &mut out, FlushCompress::Finish);
        match status.map_err(io::Error::other)? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => out.reserve(body.len() / 4 + 1024),
        }
    }
    if effort == Effort::Quick {
        compressor.reset();
        let mut quick = QUICK.lock();
        if quick.len() < MAX_QUICK {
            quick.push(compressor);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn decompress(body: &[u8], coding: ContentCoding) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            ContentCoding::Identity => out.extend_from_slice(body),
            ContentCoding::Gzip => {
                flate2::read::GzDecoder::new(body)
                    .read_to_end(&mut out)
                    .unwrap();
            }
            ContentCoding::Brotli => {
                brotli::Decompressor::new(body, 4096)
                    .read_to_end(&mut out)
                    .unwrap();
            }
            ContentCoding::Zstd => out = zstd::stream::decode_all(body).unwrap(),
        }
        out
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(body in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let body = Bytes::from(body);
            for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Brotli, ContentCoding::Zstd] {
                for effort in [Effort::Quick, Effort::Thorough] {
                    let compressed = compress(&body, coding, effort).unwrap();
                    prop_assert_eq!(decompress(&compressed, coding), &body[..]);
                }
            }
        }
    }
}
