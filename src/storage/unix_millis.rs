//! Times in what is stored: milliseconds since the Unix epoch.

use serde::{Deserialize as _, Deserializer, Serializer};

use crate::models::Timestamp;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(time.unix_millis())
}

/// Milliseconds, or RFC 3339 as earlier versions had it in some places.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        Millis(i64),
        Text(String),
    }
    match Either::deserialize(from)? {
        Either::Millis(milliseconds) => Ok(Timestamp::from_unix_millis(milliseconds)),
        Either::Text(text) => Timestamp::parse_rfc3339(&text)
            .ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time")),
    }
}
