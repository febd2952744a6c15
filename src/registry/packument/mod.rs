//! [`Packument`]: a package document, parsed no deeper than needed; versions stay the bytes they
//! were.

mod edit;
mod members;
mod merge;
mod render;
mod sidebar;
mod taking;
mod version;

use std::fmt;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

pub use edit::{Hosted, Tombstone};
pub use merge::merge;
pub use render::{
    ATTESTATIONS_PATH, Form, Ours, Signing, View, render, render_pieces, render_version, signature,
};
pub use sidebar::render_sidebar;
pub use taking::{Digests, Taken, Took, taken_version};
pub use version::Dist;

use crate::models::{Timestamp, Version, without_build};

/// Top-level fields of the document, a version or a `dist`, each as raw JSON.
type Fields = IndexMap<String, Bytes>;

/// A package document. Every value is a slice of the bytes that it was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packument {
    fields: Fields,
    versions: Fields,
    dist_tags: IndexMap<String, String>,
    time: Fields,
}

impl Packument {
    /// Indexes `json`. Of a key that stands twice the last one counts, as in JavaScript. Versions
    /// that are not objects and dist-tags that are not strings are left out: documents of
    /// twenty years have both.
    pub fn parse(json: &Bytes) -> Result<Self, serde_json::Error> {
        let Shell {
            fields,
            versions,
            dist_tags,
            time,
        } = serde_json::from_slice(json)?;
        let slice = |raw: &RawValue| json.slice_ref(raw.get().as_bytes());
        let sliced = |(key, raw): (String, &RawValue)| (key, slice(raw));
        let versions = versions.0.into_iter().map(sliced);
        let tags = dist_tags.0.into_iter();
        Ok(Self {
            fields: fields.into_iter().map(sliced).collect(),
            versions: versions.filter(|(_, raw)| raw.starts_with(b"{")).collect(),
            dist_tags: tags
                .filter_map(|(tag, raw)| Some((tag, text_of(&slice(raw))?)))
                .collect(),
            time: time.0.into_iter().map(sliced).collect(),
        })
    }

    /// The raw manifest of exactly this version.
    pub fn version(&self, version: &str) -> Option<&Bytes> {
        self.versions.get(version)
    }

    /// The version that `key` means: itself, or the one that the dist-tag of this name points at.
    pub fn resolve<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        if self.versions.contains_key(key) {
            return Some(key);
        }
        let version = self.dist_tags.get(key)?;
        self.versions.contains_key(version).then_some(version)
    }

    /// The versions in the order of the document.
    pub fn versions(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.versions
            .iter()
            .map(|(version, raw)| (version.as_str(), raw))
    }

    /// The dist-tags in the order of the document.
    pub fn dist_tags(&self) -> &IndexMap<String, String> {
        &self.dist_tags
    }

    /// A top-level field as raw JSON.
    pub fn field(&self, key: &str) -> Option<&Bytes> {
        self.fields.get(key)
    }

    /// A top-level field that is a string.
    pub fn text(&self, key: &str) -> Option<String> {
        text_of(self.fields.get(key)?)
    }

    /// The version that is `version` but for its build metadata.
    pub fn same_version(&self, version: &Version) -> Option<&str> {
        let mut known = self.versions.keys().map(String::as_str);
        known.find(|known| without_build(known) == version.without_build())
    }

    /// When `version` was published.
    pub fn published(&self, version: &str) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(&text_of(self.time.get(version)?)?)
    }

    /// The newest of all entries of `time`: what was published last cannot be newer than the
    /// document.
    pub fn modified(&self) -> Option<Timestamp> {
        let times = self.time.values().filter_map(text_of);
        times
            .filter_map(|time| Timestamp::parse_rfc3339(&time))
            .max()
    }

    /// The names of the maintainers, whether they stand as objects or as strings.
    pub fn maintainers(&self) -> Vec<String> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Maintainer {
            Name(String),
            Object { name: String },
        }
        let raw = self.fields.get("maintainers");
        let parsed = raw.and_then(|raw| serde_json::from_slice::<Vec<Maintainer>>(raw).ok());
        parsed
            .unwrap_or_default()
            .into_iter()
            .map(|maintainer| match maintainer {
                Maintainer::Name(name) | Maintainer::Object { name } => name,
            })
            .collect()
    }
}

/// A document as it is read, in one pass.
#[derive(Default)]
struct Shell<'a> {
    fields: IndexMap<String, &'a RawValue>,
    versions: Object<'a>,
    dist_tags: Object<'a>,
    time: Object<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Shell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShellVisitor;

        impl<'de> Visitor<'de> for ShellVisitor {
            type Value = Shell<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a package document")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shell<'de>, A::Error> {
                let mut shell = Shell::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "versions" => shell.versions = map.next_value()?,
                        "dist-tags" => shell.dist_tags = map.next_value()?,
                        "time" => shell.time = map.next_value()?,
                        _ => {
                            let value = map.next_value()?;
                            shell.fields.insert(key, value);
                        }
                    }
                }
                Ok(shell)
            }
        }

        deserializer.deserialize_map(ShellVisitor)
    }
}

/// The members of a value that should be an object; none where it is something else.
#[derive(Default)]
struct Object<'a>(IndexMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = IndexMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    members.insert(key, value);
                }
                Ok(Object(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Object<'de>, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object::default())
            }

            fn visit_unit<E>(self) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }
        }

        deserializer.deserialize_any(ObjectVisitor)
    }
}

/// The members of a JSON object, each as a slice of `json`.
fn parse_fields(json: &Bytes) -> Result<Fields, serde_json::Error> {
    let fields: IndexMap<String, &RawValue> = serde_json::from_slice(json)?;
    let slice = |raw: &RawValue| json.slice_ref(raw.get().as_bytes());
    Ok(fields
        .into_iter()
        .map(|(key, raw)| (key, slice(raw)))
        .collect())
}

/// The value of a raw JSON string; `None` for anything else.
fn text_of(raw: &Bytes) -> Option<String> {
    serde_json::from_slice(raw).ok()
}

/// Raw JSON of a string.
fn quoted(text: &str) -> Bytes {
    serde_json::Value::from(text).to_string().into()
}

/// Writes `text` as a JSON string.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(&quoted(text));
    }
}

/// Writes one member after those that are there.
fn write_member(out: &mut Vec<u8>, key: &str, raw: &[u8]) {
    write_key(out, key);
    out.extend_from_slice(raw);
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_text(out, key);
    out.push(b':');
}

/// Writes an object of raw members.
fn write_object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a str, &'a [u8])>) {
    out.push(b'{');
    for (key, raw) in members {
        write_member(out, key, raw);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stay_byte_for_byte() {
        let json = Bytes::from_static(
            br#"{"name":"x","versions":{"1.0.0":{"n":1.10,"u":"\u00e9"},"2.0.0":7},
            "dist-tags":{"latest":"1.0.0","odd":["1.0.0"]},"a\u0062":1,"ab":2}"#,
        );
        let packument = Packument::parse(&json).unwrap();
        assert_eq!(
            packument.version("1.0.0").unwrap(),
            r#"{"n":1.10,"u":"\u00e9"}"#
        );
        assert_eq!(packument.resolve("latest"), Some("1.0.0"));
        assert_eq!(packument.resolve("odd"), None);
        assert_eq!(packument.version("2.0.0"), None);
        assert_eq!(packument.field("ab").unwrap(), "2");
    }

    #[test]
    fn hostile_documents_are_errors_and_names_are_only_names() {
        for json in ["", "[]", "{", "7", r#"{"versions":{"1":{}}"#, "\u{0}"] {
            assert!(Packument::parse(&Bytes::from(json)).is_err(), "{json:?}");
        }
        let json = Bytes::from(
            r#"{"__proto__":1,"versions":{"constructor":{}},"time":{"__proto__":"x"}}"#,
        );
        let packument = Packument::parse(&json).unwrap();
        assert_eq!(packument.version("constructor").unwrap(), "{}");
        assert_eq!(packument.modified(), None);
        let deep = format!("{{\"a\":{}}}", "[".repeat(100_000));
        assert!(Packument::parse(&Bytes::from(deep)).is_err());
    }
}
