//! [`BodyError`]: why the document of a `PUT` cannot be read.

use std::io;

use crate::error::RegistryError;

/// Why the document of a `PUT` cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is not one JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// It is not JSON.
    #[error("the body is not valid JSON")]
    Syntax,
    /// It is not JSON, as the parser found.
    #[error("the body is not valid JSON (line {}, column {})", .0.line(), .0.column())]
    Json(#[source] serde_json::Error),
    /// It ends too early.
    #[error("the body ends before the document does")]
    Truncated,
    /// Objects and arrays are nested too deeply.
    #[error("the body is nested more than {0} levels deep")]
    TooDeep(usize),
    /// What is not attachment data does not fit into the limit.
    #[error("the metadata in the body is larger than {0} bytes")]
    MetadataTooLarge(usize),
    /// A key that decides about attachments is there twice.
    #[error("the key `{0}` is in the body twice")]
    DuplicateKey(String),
    /// There are more attachments with data than any client sends.
    #[error("the body has more than {0} attachments")]
    TooManyAttachments(usize),
    /// The name of an attachment is longer than any client's.
    #[error("the name of an attachment is too long")]
    AttachmentNameTooLong,
    /// `data` is there and no string.
    #[error("the data of attachment `{0}` is not a string")]
    DataNotText(String),
    /// `data` is not standard, padded base64.
    #[error("the data of attachment `{0}` is not valid base64")]
    Base64(String),
    /// `data` of a bundle is not a JSON string.
    #[error("the data of attachment `{0}` is not valid text")]
    BundleText(String),
    /// A bundle is larger than any signing service makes them.
    #[error("attachment `{0}` is larger than {1} bytes")]
    BundleTooLarge(String, usize),
    /// A known field has another type than the protocol says.
    #[error("`{field}` in the body must be {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// Decoded bytes cannot be kept; not the client's fault.
    #[error("attachment data cannot be kept")]
    Sink(#[source] io::Error),
}

impl From<BodyError> for RegistryError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Sink(source) => storage_failure(source),
            BodyError::MetadataTooLarge(limit) => Self::PayloadTooLarge {
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            },
            other => Self::bad_request(other.to_string()),
        }
    }
}

/// The error for a failed read or write of a temporary blob.
pub(in crate::registry) fn storage_failure(source: io::Error) -> RegistryError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            RegistryError::StorageFull(source.into())
        }
        _ => RegistryError::StorageUnavailable(source.into()),
    }
}
