//! Compressing rendered documents: once for each state of a document, so a good level is cheap.

use std::io::{self, Write as _};

use bytes::Bytes;

use crate::models::ContentCoding;

/// Documents beyond this many bytes are compressed faster and a little worse.
const LARGE: usize = 1024 * 1024;

/// `body` in `coding`. Blocks for milliseconds where the body is large.
pub(super) fn compress(body: &Bytes, coding: ContentCoding) -> io::Result<Bytes> {
    let is_large = body.len() > LARGE;
    let room = || Vec::with_capacity(body.len() / 4);
    let compressed = match coding {
        ContentCoding::Identity => return Ok(body.clone()),
        ContentCoding::Gzip => {
            let level = flate2::Compression::new(if is_large { 4 } else { 6 });
            let mut encoder = flate2::write::GzEncoder::new(room(), level);
            encoder.write_all(body)?;
            encoder.finish()?
        }
        ContentCoding::Brotli => {
            let quality = if is_large { 3 } else { 5 };
            let mut encoder = brotli::CompressorWriter::new(room(), 64 * 1024, quality, 20);
            encoder.write_all(body)?;
            encoder.flush()?;
            encoder.into_inner()
        }
        ContentCoding::Zstd => zstd::bulk::compress(body, 3)?,
    };
    Ok(compressed.into())
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
                let compressed = compress(&body, coding).unwrap();
                prop_assert_eq!(decompress(&compressed, coding), &body[..]);
            }
        }
    }
}
