//! [`ContentCoding`]: how a body is compressed on the wire.

use serde::{Deserialize, Serialize};

/// A content coding (RFC 9110, section 8.4.1) that bodies are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentCoding {
    /// As it is.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl ContentCoding {
    /// Whether it is none.
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// The name in `Content-Encoding`; `None` for identity, which is not named.
    pub fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }
}
