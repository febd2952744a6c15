//! [`DataDecoder`]: the JSON string `_attachments.<name>.data`, decoded while it arrives.

use memchr::memchr2;

use super::{
    base64::{Base64Decoder, DecodeError},
    error::BodyError,
    scanner::{AttachmentSink, is_bundle},
};

/// Largest text of a provenance bundle; real ones are some 20 KiB.
const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

/// Decodes the inside of one `data` string, from after its first quote to its last.
pub(super) struct DataDecoder {
    name: String,
    content: Content,
}

enum Content {
    /// A tarball: base64. `escape` is what has come of a JSON escape, the backslash included.
    Base64 {
        decoder: Base64Decoder,
        escape: Vec<u8>,
    },
    /// A bundle: the text itself. `raw` is a JSON string so far.
    Text { raw: Vec<u8>, is_escaped: bool },
}

/// How far the decoder came in a chunk.
pub(super) enum Progress {
    /// The whole chunk belongs to the string.
    More,
    /// The string ended; `used` bytes of the chunk, the last quote included, were its.
    Ended {
        /// Bytes of the chunk that are done.
        used: usize,
        /// Length of the decoded attachment.
        length: u64,
    },
}

impl DataDecoder {
    /// Bundles (`.sigstore`) are text, all else is base64.
    pub(super) fn new(name: String) -> Self {
        let content = if is_bundle(&name) {
            Content::Text {
                raw: vec![b'"'],
                is_escaped: false,
            }
        } else {
            Content::Base64 {
                decoder: Base64Decoder::new(),
                escape: Vec::new(),
            }
        };
        Self { name, content }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the next bytes of the document.
    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        sink: &mut impl AttachmentSink,
    ) -> Result<Progress, BodyError> {
        match &mut self.content {
            Content::Base64 { decoder, escape } => feed_base64(decoder, escape, chunk, sink)
                .map_err(|error| match error {
                    DecodeError::Text => BodyError::Base64(self.name.clone()),
                    DecodeError::Sink(error) => error,
                }),
            Content::Text { raw, is_escaped } => {
                let (used, has_ended) = find_end(chunk, is_escaped);
                raw.extend_from_slice(chunk.get(..used).unwrap_or_default());
                if raw.len() > MAX_BUNDLE_BYTES {
                    let name = self.name.clone();
                    return Err(BodyError::BundleTooLarge(name, MAX_BUNDLE_BYTES));
                }
                if !has_ended {
                    return Ok(Progress::More);
                }
                let text: String = serde_json::from_slice(raw)
                    .map_err(|_| BodyError::BundleText(self.name.clone()))?;
                sink.bytes(text.as_bytes()).map_err(BodyError::Sink)?;
                let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
                Ok(Progress::Ended { used, length })
            }
        }
    }
}

/// Returns how much of `chunk` belongs to a JSON string, its last quote included, and whether the
/// string ends there. `is_escaped` says on entry and on return whether a backslash came last.
pub(super) fn find_end(chunk: &[u8], is_escaped: &mut bool) -> (usize, bool) {
    let mut used = 0;
    while used < chunk.len() {
        if *is_escaped {
            *is_escaped = false;
            used += 1;
            continue;
        }
        let rest = chunk.get(used..).unwrap_or_default();
        let Some(at) = memchr2(b'"', b'\\', rest) else {
            break;
        };
        used += at + 1;
        if rest.get(at) == Some(&b'"') {
            return (used, true);
        }
        *is_escaped = true;
    }
    (chunk.len(), false)
}

fn feed_base64(
    decoder: &mut Base64Decoder,
    escape: &mut Vec<u8>,
    chunk: &[u8],
    sink: &mut impl AttachmentSink,
) -> Result<Progress, DecodeError> {
    let mut rest = chunk;
    while let Some((&first, tail)) = rest.split_first() {
        if !escape.is_empty() {
            escape.push(first);
            rest = tail;
            if let Some(character) = unescape(escape)? {
                escape.clear();
                decoder.push(&[character], sink)?;
            }
            continue;
        }
        let plain = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let (text, after) = rest.split_at(plain);
        decoder.push(text, sink)?;
        rest = after;
        match rest.split_first() {
            Some((b'"', tail)) => {
                let length = decoder.finish()?;
                let used = chunk.len() - tail.len();
                return Ok(Progress::Ended { used, length });
            }
            Some((&backslash, tail)) => {
                escape.push(backslash);
                rest = tail;
            }
            None => (),
        }
    }
    Ok(Progress::More)
}

/// Returns the character once the escape is complete. Only those that can be base64 are accepted.
fn unescape(escape: &[u8]) -> Result<Option<u8>, DecodeError> {
    match escape {
        [_, b'/'] => Ok(Some(b'/')),
        [_, b'u', digits @ ..] if digits.len() < 4 => Ok(None),
        [_, b'u', b'0', b'0', digits @ ..] => {
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).map_err(|_| DecodeError::Text)?;
            Ok(Some(byte[0]))
        }
        _ => Err(DecodeError::Text),
    }
}
