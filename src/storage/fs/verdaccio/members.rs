//! The members of JSON objects, each as the bytes that it was.

use std::fmt;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{
    Deserializer as _,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Members of an object, in their order.
pub(super) type Members = IndexMap<String, Bytes>;

/// The members of a JSON object, each as a slice of `json`. One that is there twice is an error: who
/// reads the first of them and who reads the last would see two objects.
pub(super) fn members_of(json: &Bytes) -> Result<Members, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let members = reader.deserialize_map(Once)?;
    reader.end()?;
    let slice = |raw: &RawValue| json.slice_ref(raw.get().as_bytes());
    let members = members.into_iter().map(|(key, raw)| (key, slice(raw)));
    Ok(members.collect())
}

/// An object with each member once.
struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = IndexMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = IndexMap::new();
        while let Some((key, raw)) = map.next_entry::<String, &RawValue>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!("`{key}` is there twice")));
            }
            members.insert(key, raw);
        }
        Ok(members)
    }
}

/// A JSON string.
pub(super) fn text(text: &str) -> Bytes {
    serde_json::Value::from(text).to_string().into()
}

/// Members that are strings.
pub(super) fn quoted(members: IndexMap<String, String>) -> Members {
    let members = members.into_iter();
    members.map(|(key, value)| (key, text(&value))).collect()
}

/// A JSON object of `members`.
pub(super) fn object(members: &Members) -> Bytes {
    let length = members.iter().map(|(key, raw)| key.len() + raw.len() + 4);
    let mut out = Vec::with_capacity(length.sum::<usize>() + 2);
    out.push(b'{');
    for (key, raw) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&text(key));
        out.push(b':');
        out.extend_from_slice(raw);
    }
    out.push(b'}');
    out.into()
}
