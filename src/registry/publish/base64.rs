//! [`Base64Decoder`]: strict standard base64 that arrives in pieces.

use std::mem;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{error::BodyError, scanner::AttachmentSink};

/// Characters that are decoded at once; a multiple of four.
const BLOCK: usize = 32 * 1024;

/// Decodes padded standard base64; memory is one block whatever the length of the text.
pub(super) struct Base64Decoder {
    /// Fewer than four characters that wait for the rest of their group.
    group: Vec<u8>,
    is_padded: bool,
    decoded: Vec<u8>,
    length: u64,
}

/// Why decoding stopped.
pub(super) enum DecodeError {
    /// The text is not base64.
    Text,
    /// The sink refused.
    Sink(BodyError),
}

impl Base64Decoder {
    pub(super) fn new() -> Self {
        Self {
            group: Vec::with_capacity(4),
            is_padded: false,
            decoded: vec![0; BLOCK / 4 * 3],
            length: 0,
        }
    }

    /// Decodes as many whole groups as there are, and gives them to `sink`.
    pub(super) fn push(
        &mut self,
        text: &[u8],
        sink: &mut impl AttachmentSink,
    ) -> Result<(), DecodeError> {
        let mut text = text;
        if !self.group.is_empty() {
            let (head, tail) = text.split_at(text.len().min(4 - self.group.len()));
            self.group.extend_from_slice(head);
            text = tail;
            if self.group.len() < 4 {
                return Ok(());
            }
            let group = mem::take(&mut self.group);
            self.decode(&group, sink)?;
        }
        let (groups, tail) = text.split_at(text.len() / 4 * 4);
        for block in groups.chunks(BLOCK) {
            self.decode(block, sink)?;
        }
        self.group.extend_from_slice(tail);
        Ok(())
    }

    /// Returns the number of decoded bytes, if the text was complete.
    pub(super) fn finish(&self) -> Result<u64, DecodeError> {
        if self.group.is_empty() {
            Ok(self.length)
        } else {
            Err(DecodeError::Text)
        }
    }

    /// Decodes whole groups; nothing may follow a padded one.
    fn decode(&mut self, block: &[u8], sink: &mut impl AttachmentSink) -> Result<(), DecodeError> {
        if self.is_padded {
            return Err(DecodeError::Text);
        }
        let count = STANDARD
            .decode_slice(block, &mut self.decoded)
            .map_err(|_| DecodeError::Text)?;
        self.is_padded = block.last() == Some(&b'=');
        self.length = self
            .length
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        let bytes = self.decoded.get(..count).unwrap_or_default();
        sink.bytes(bytes)
            .map_err(|error| DecodeError::Sink(BodyError::Sink(error)))
    }
}
