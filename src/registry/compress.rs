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
    if coding == ContentCoding::Identity {
        return Ok(body.clone());
    }
    let mut compressor = Compressor::new(coding, effort, body.len())?;
    compressor.write(body)?;
    compressor.finish()
}

/// Compresses what is written to it. Blocks for milliseconds where that is much.
pub(super) enum Compressor {
    Identity(Vec<u8>),
    Gzip(Gzip),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    /// Nothing is written yet, and `about` so many bytes will be.
    pub(super) fn new(coding: ContentCoding, effort: Effort, about: usize) -> io::Result<Self> {
        let level = |quick, thorough| match effort {
            Effort::Quick => quick,
            Effort::Thorough => thorough,
        };
        // Measured on packuments of 0.3 to 5 MB: the quick levels take a third of the time of the
        // usual ones and give a seventh more bytes; what lies beyond the thorough ones gains nothing.
        Ok(match coding {
            ContentCoding::Identity => Self::Identity(Vec::new()),
            ContentCoding::Gzip => Self::Gzip(Gzip::new(effort)),
            ContentCoding::Brotli => {
                let quality = level(1, 6);
                let encoder = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, quality, 20);
                Self::Brotli(Box::new(encoder))
            }
            ContentCoding::Zstd => {
                let level = i32::try_from(level(1, 6)).unwrap_or(1);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                // It would be as large as for the largest of bodies.
                encoder.window_log(about.max(1).ilog2().saturating_add(1).clamp(10, 20))?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(out) => out.write_all(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// All of it, compressed, in no more memory than it needs.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        let mut out = match self {
            Self::Identity(out) => out,
            Self::Gzip(gzip) => gzip.finish()?,
            Self::Brotli(mut encoder) => {
                encoder.flush()?;
                encoder.into_inner()
            }
            Self::Zstd(encoder) => encoder.finish()?,
        };
        out.shrink_to_fit();
        Ok(out.into())
    }
}

/// Quick compressors that were used before: to make one takes as long as a small body does. Not
/// more than there are processors, see [`compute`](crate::lifecycle::compute).
static QUICK: Mutex<Vec<Compress>> = Mutex::new(Vec::new());
const MAX_QUICK: usize = 8;
/// What RFC 1951 allows at most.
const WINDOW_BITS: u8 = 15;

/// A gzip stream.
pub(super) struct Gzip {
    compressor: Compress,
    effort: Effort,
    out: Vec<u8>,
}

impl Gzip {
    fn new(effort: Effort) -> Self {
        let level = match effort {
            Effort::Quick => Compression::new(2),
            Effort::Thorough => Compression::new(8),
        };
        let used = (effort == Effort::Quick)
            .then(|| QUICK.lock().pop())
            .flatten();
        Self {
            compressor: used.unwrap_or_else(|| Compress::new_gzip(level, WINDOW_BITS)),
            effort,
            out: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.run(bytes, FlushCompress::None)
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.run(&[], FlushCompress::Finish)?;
        if self.effort == Effort::Quick {
            self.compressor.reset();
            let mut quick = QUICK.lock();
            if quick.len() < MAX_QUICK {
                quick.push(self.compressor);
            }
        }
        Ok(self.out)
    }

    fn run(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.out.reserve(bytes.len() / 8 + 1024);
            let before = self.compressor.total_in();
            let status = self
                .compressor
                .compress_vec(bytes, &mut self.out, flush)
                .map_err(io::Error::other)?;
            let read = usize::try_from(self.compressor.total_in() - before);
            let read = read.map_err(io::Error::other)?;
            bytes = bytes.get(read..).unwrap_or_default();
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty(),
            };
            if is_done {
                return Ok(());
            }
        }
    }
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
