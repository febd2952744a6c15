//! [`Scanner`]: reads the document of a `PUT` piece by piece and takes the attachments out of it.

use std::{collections::HashSet, io, mem};

use super::{
    data::{DataDecoder, Progress, find_end},
    error::BodyError,
};

/// Longest key whose text matters: names of attachments, even with every character escaped.
const MAX_KEY_BYTES: usize = 4096;

/// What a document may cost.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimits {
    /// Bytes of the document that are not attachment data.
    pub metadata_bytes: usize,
    /// Levels of objects and arrays.
    pub depth: usize,
    /// Attachments with data.
    pub attachments: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            metadata_bytes: 16 * 1024 * 1024,
            depth: 128,
            attachments: 8,
        }
    }
}

/// Takes the decoded attachments. Calls come as `begin`, any number of `bytes`, `end`, for one
/// attachment after the other; after an error of the scanner none follows.
///
/// An error of a method means that storage failed, never that the client sent something wrong.
pub trait AttachmentSink {
    /// Begins the attachment with this key.
    fn begin(&mut self, name: &str) -> io::Result<()>;
    /// Takes the next decoded bytes.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Ends the attachment.
    fn end(&mut self) -> io::Result<()>;
}

/// An attachment whose data went to the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedAttachment {
    /// Its key in `_attachments`.
    pub name: String,
    /// Length of the decoded data.
    pub length: u64,
}

/// Whether the attachment with this key is a provenance bundle, which is text and not base64.
pub(super) fn is_bundle(name: &str) -> bool {
    name.strip_suffix(".sigstore").is_some()
}

/// The document without the data of its attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedBody {
    /// The document byte for byte, except that each `data` is the empty string. Not parsed yet.
    pub metadata: Vec<u8>,
    /// The attachments that had data, in the order of the document.
    pub attachments: Vec<ReceivedAttachment>,
}

/// An incremental scanner that finds `_attachments.<name>.data` and copies all else.
///
/// It follows the structure of valid JSON and does not check it: replacing a string by another
/// keeps valid JSON valid and invalid JSON invalid, so the parser of the metadata has the last
/// word. Memory is the metadata and a block of a few KiB.
pub struct Scanner {
    limits: ScanLimits,
    metadata: Vec<u8>,
    stack: Vec<Container>,
    state: State,
    /// The next string in the innermost object is a key.
    expects_key: bool,
    key: Key,
    has_attachments: bool,
    has_data: bool,
    name: String,
    names: HashSet<String>,
    received: Vec<ReceivedAttachment>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    /// The document.
    Root,
    /// The value of `_attachments`.
    Attachments,
    /// A value in `_attachments`.
    Attachment,
    /// Any other object.
    Object,
}

/// What the last key of the innermost object means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Attachments,
    Data,
    Other,
}

enum State {
    Structure,
    Text(Text),
    Data(DataDecoder),
    Ended,
    Failed,
}

/// A string that is copied; `captured` is a key whose text matters, with its first quote.
struct Text {
    is_key: bool,
    is_escaped: bool,
    captured: Option<Vec<u8>>,
}

impl Scanner {
    /// Returns a scanner at the start of a document.
    pub fn new(limits: ScanLimits) -> Self {
        Self {
            limits,
            metadata: Vec::new(),
            stack: Vec::new(),
            state: State::Structure,
            expects_key: false,
            key: Key::Other,
            has_attachments: false,
            has_data: false,
            name: String::new(),
            names: HashSet::new(),
            received: Vec::new(),
        }
    }

    /// Takes the next bytes of the document. After an error every further call is an error.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl AttachmentSink) -> Result<(), BodyError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = match mem::replace(&mut self.state, State::Failed) {
                State::Structure => self.structure(rest, sink)?,
                State::Text(text) => self.text(text, rest)?,
                State::Data(decoder) => self.data(decoder, rest, sink)?,
                State::Ended => self.after_the_end(rest)?,
                State::Failed => return Err(BodyError::Syntax),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Bytes of the document that are kept so far.
    pub fn kept(&self) -> usize {
        self.metadata.len()
    }

    /// Returns what was collected, if the document is complete.
    pub fn finish(self) -> Result<ScannedBody, BodyError> {
        match self.state {
            State::Ended => Ok(ScannedBody {
                metadata: self.metadata,
                attachments: self.received,
            }),
            State::Failed => Err(BodyError::Syntax),
            _ => Err(BodyError::Truncated),
        }
    }

    /// Goes on outside of strings, up to the next quote or the end of the document.
    fn structure(
        &mut self,
        rest: &[u8],
        sink: &mut impl AttachmentSink,
    ) -> Result<usize, BodyError> {
        let mut next = State::Structure;
        let mut used = 0;
        for &byte in rest {
            used += 1;
            match byte {
                b'"' => {
                    next = self.open_string(sink)?;
                    break;
                }
                b'{' | b'[' => self.open(byte)?,
                b'}' | b']' => {
                    self.close(byte)?;
                    if self.stack.is_empty() {
                        next = State::Ended;
                        break;
                    }
                }
                b',' => {
                    self.expects_key = self.stack.last() != Some(&Container::Array);
                }
                b' ' | b'\t' | b'\r' | b'\n' | b':' => (),
                _ => self.check_value()?,
            }
        }
        self.keep(rest.get(..used).unwrap_or_default())?;
        self.state = next;
        Ok(used)
    }

    fn open(&mut self, byte: u8) -> Result<(), BodyError> {
        if self.stack.is_empty() && byte == b'[' {
            return Err(BodyError::NotAnObject);
        }
        if self.stack.len() >= self.limits.depth {
            return Err(BodyError::TooDeep(self.limits.depth));
        }
        let container = if self.stack.is_empty() {
            Container::Root
        } else {
            self.check_value()?;
            self.nested(byte)
        };
        self.stack.push(container);
        self.expects_key = container != Container::Array;
        self.key = Key::Other;
        Ok(())
    }

    fn nested(&self, byte: u8) -> Container {
        match self.stack.last() {
            _ if byte == b'[' => Container::Array,
            Some(Container::Root) if self.key == Key::Attachments => Container::Attachments,
            Some(Container::Attachments) => Container::Attachment,
            _ => Container::Object,
        }
    }

    fn close(&mut self, byte: u8) -> Result<(), BodyError> {
        let Some(container) = self.stack.pop() else {
            return Err(BodyError::NotAnObject);
        };
        if (container == Container::Array) != (byte == b']') {
            return Err(BodyError::Syntax);
        }
        self.expects_key = false;
        self.key = Key::Other;
        Ok(())
    }

    /// Refuses a value that is no string where only a string may be.
    fn check_value(&self) -> Result<(), BodyError> {
        match self.stack.last() {
            None => Err(BodyError::NotAnObject),
            Some(Container::Attachment) if self.key == Key::Data => {
                Err(BodyError::DataNotText(self.name.clone()))
            }
            Some(_) => Ok(()),
        }
    }

    fn open_string(&mut self, sink: &mut impl AttachmentSink) -> Result<State, BodyError> {
        let Some(container) = self.stack.last().copied() else {
            return Err(BodyError::NotAnObject);
        };
        let is_data =
            !self.expects_key && container == Container::Attachment && self.key == Key::Data;
        if is_data {
            if self.received.len() >= self.limits.attachments {
                return Err(BodyError::TooManyAttachments(self.limits.attachments));
            }
            self.key = Key::Other;
            sink.begin(&self.name).map_err(BodyError::Sink)?;
            return Ok(State::Data(DataDecoder::new(self.name.clone())));
        }
        let is_watched = matches!(
            container,
            Container::Root | Container::Attachments | Container::Attachment
        );
        Ok(State::Text(Text {
            is_key: self.expects_key,
            is_escaped: false,
            captured: (self.expects_key && is_watched).then(|| vec![b'"']),
        }))
    }

    /// Goes on in a string that is copied.
    fn text(&mut self, mut text: Text, rest: &[u8]) -> Result<usize, BodyError> {
        let (used, has_ended) = find_end(rest, &mut text.is_escaped);
        let piece = rest.get(..used).unwrap_or_default();
        self.keep(piece)?;
        if let Some(captured) = &mut text.captured {
            // One byte beyond the limit is enough to know that the key is too long.
            let room = (MAX_KEY_BYTES + 1).saturating_sub(captured.len());
            captured.extend(piece.iter().take(room));
        }
        if !has_ended {
            self.state = State::Text(text);
            return Ok(used);
        }
        if text.is_key {
            self.expects_key = false;
            self.key = Key::Other;
        }
        if let Some(captured) = text.captured {
            self.take_key(&captured)?;
        }
        self.state = State::Structure;
        Ok(used)
    }

    /// Finds out what a key of one of the watched objects means.
    fn take_key(&mut self, quoted: &[u8]) -> Result<(), BodyError> {
        let container = self.stack.last();
        if quoted.len() > MAX_KEY_BYTES {
            return match container {
                Some(Container::Attachments) => Err(BodyError::AttachmentNameTooLong),
                _ => Ok(()),
            };
        }
        let key: String = serde_json::from_slice(quoted).map_err(|_| BodyError::Syntax)?;
        match container {
            Some(Container::Root) if key == "_attachments" => {
                if mem::replace(&mut self.has_attachments, true) {
                    return Err(BodyError::DuplicateKey(key));
                }
                self.key = Key::Attachments;
            }
            Some(Container::Attachments) => {
                if !self.names.insert(key.clone()) {
                    return Err(BodyError::DuplicateKey(key));
                }
                self.name = key;
                self.has_data = false;
            }
            Some(Container::Attachment) if key == "data" => {
                if mem::replace(&mut self.has_data, true) {
                    return Err(BodyError::DuplicateKey(key));
                }
                self.key = Key::Data;
            }
            _ => (),
        }
        Ok(())
    }

    /// Goes on in the data of an attachment; only its last quote is copied.
    fn data(
        &mut self,
        mut decoder: DataDecoder,
        rest: &[u8],
        sink: &mut impl AttachmentSink,
    ) -> Result<usize, BodyError> {
        let Progress::Ended { used, length } = decoder.feed(rest, sink)? else {
            self.state = State::Data(decoder);
            return Ok(rest.len());
        };
        sink.end().map_err(BodyError::Sink)?;
        self.keep(b"\"")?;
        self.received.push(ReceivedAttachment {
            name: decoder.name().to_owned(),
            length,
        });
        self.state = State::Structure;
        Ok(used)
    }

    /// Only white space may follow the document; it is not kept.
    fn after_the_end(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        if rest.iter().all(|byte| b" \t\r\n".contains(byte)) {
            self.state = State::Ended;
            Ok(rest.len())
        } else {
            Err(BodyError::Syntax)
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        if self.metadata.len().saturating_add(bytes.len()) > self.limits.metadata_bytes {
            return Err(BodyError::MetadataTooLarge(self.limits.metadata_bytes));
        }
        self.metadata.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
