//! What clients want audited: read as far as it is sent on, and no more of it than real projects
//! have.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

use indexmap::IndexMap;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{error::RegistryError, models::PackageName};

/// Different names. The largest projects have some 10,000.
const MAX_NAMES: usize = 50_000;
/// Packages in a tree, or names of the newer form, each as often as it stands there.
const MAX_PACKAGES: usize = 100_000;
/// What packages want of others, or versions in the newer form. Packages want some seven others.
const MAX_RANGES: usize = 300_000;
/// The longest version, and range, that is sent on.
const MAX_TEXT: usize = 256;

/// How much has been read.
#[derive(Debug, Default)]
struct Counts {
    packages: usize,
    ranges: usize,
    is_too_much: bool,
}

impl Counts {
    fn check<E: serde::de::Error>(&mut self, count: usize, limit: usize) -> Result<(), E> {
        self.is_too_much |= count > limit;
        if self.is_too_much {
            return Err(E::custom("it is too much"));
        }
        Ok(())
    }

    fn package<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.packages += 1;
        self.check(self.packages, MAX_PACKAGES)
    }

    fn range<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.ranges += 1;
        self.check(self.ranges, MAX_RANGES)
    }
}

fn too_much() -> RegistryError {
    RegistryError::TooMuch {
        message: format!(
            "the audit is about more than {MAX_NAMES} names, {MAX_PACKAGES} packages or \
             {MAX_RANGES} ranges; audit parts of the project"
        ),
    }
}

/// Why it was not read to its end.
fn refusal(counts: &Counts, error: &serde_json::Error) -> RegistryError {
    if counts.is_too_much {
        return too_much();
    }
    RegistryError::bad_request(format!("what is to be audited is not valid: {error}"))
}

/// Methods of a visitor that takes whatever is no object and no list for nothing.
macro_rules! scalars_are_nothing {
    () => {
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("any value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
}

fn skip_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<(), A::Error> {
    while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// A text, if it is one.
#[derive(Debug, Default)]
struct Text(Option<Box<str>>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Self(Some(text))),
            Scalar::Flag(_) | Scalar::Other => Ok(Self(None)),
        }
    }
}

/// Whether something is so, if it says.
#[derive(Debug, Default)]
struct Flag(Option<bool>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Flag(flag) => Ok(Self(Some(flag))),
            Scalar::Text(_) | Scalar::Other => Ok(Self(None)),
        }
    }
}

enum Scalar {
    Text(Box<str>),
    Flag(bool),
    Other,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("any value")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.into()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Scalar, A::Error> {
                skip_list(list).map(|()| Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Scalar, A::Error> {
                skip_object(object).map(|()| Scalar::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A project, or a package in the tree of the older form; only the fields that are sent on.
#[derive(Debug, Default)]
pub(super) struct Node {
    version: Text,
    integrity: Text,
    dev: Flag,
    optional: Flag,
    bundled: Flag,
    /// Names and ranges; npm writes `true` where it means all of `dependencies`.
    requires: Option<IndexMap<String, Text>>,
    pub(super) dependencies: IndexMap<String, Self>,
}

impl Node {
    /// Reads what a client sent.
    pub(super) fn parse(json: &[u8]) -> Result<Self, RegistryError> {
        let mut counts = Counts::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let node = NodeSeed(&mut counts).deserialize(&mut reader);
        let node = node.and_then(|node| reader.end().map(|()| node));
        node.map_err(|error| refusal(&counts, &error))
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.version.0.as_deref()
    }

    pub(super) fn integrity(&self) -> Option<&str> {
        self.integrity.0.as_deref()
    }

    /// What it is, by the name of the field.
    pub(super) fn flags(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let flags = [
            ("dev", &self.dev),
            ("optional", &self.optional),
            ("bundled", &self.bundled),
        ];
        flags
            .into_iter()
            .filter_map(|(key, flag)| Some((key, flag.0?)))
    }

    /// Names and ranges of what it wants, if it says.
    pub(super) fn requires(&self) -> Option<impl Iterator<Item = (&String, &str)>> {
        let requires = self.requires.as_ref()?.iter();
        Some(requires.map(|(name, range)| (name, range.0.as_deref().unwrap_or_default())))
    }

    /// The names of all packages in it that can be packages here.
    pub(super) fn names(&self) -> Result<BTreeSet<PackageName>, RegistryError> {
        let mut names = HashSet::new();
        if self.has_projects() {
            let projects = self.dependencies.values();
            projects.for_each(|project| project.collect_names(&mut names));
        } else {
            self.collect_names(&mut names);
        }
        if names.len() > MAX_NAMES {
            return Err(too_much());
        }
        let names = names.into_iter();
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    fn collect_names<'a>(&'a self, names: &mut HashSet<&'a str>) {
        let requires = self.requires.iter().flatten();
        names.extend(requires.map(|(name, _)| name.as_str()));
        for (name, node) in &self.dependencies {
            names.insert(name);
            node.collect_names(names);
        }
    }

    /// Whether all at the root are projects.
    pub(super) fn has_projects(&self) -> bool {
        self.dependencies
            .contains_key(super::audit_tree::ROOT_PROJECT)
    }
}

struct NodeSeed<'a>(&'a mut Counts);

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let Self(counts) = self;
        counts.package()?;
        let mut node = Node::default();
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "version" => node.version = fields.next_value()?,
                "integrity" => node.integrity = fields.next_value()?,
                "dev" => node.dev = fields.next_value()?,
                "optional" => node.optional = fields.next_value()?,
                "bundled" => node.bundled = fields.next_value()?,
                "requires" => node.requires = fields.next_value_seed(RangesSeed(counts))?,
                "dependencies" => node.dependencies = fields.next_value_seed(NodesSeed(counts))?,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(node)
    }
}

struct NodesSeed<'a>(&'a mut Counts);

impl<'de> DeserializeSeed<'de> for NodesSeed<'_> {
    type Value = IndexMap<String, Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NodesSeed<'_> {
    type Value = IndexMap<String, Node>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut nodes = IndexMap::new();
        while let Some(name) = members.next_key()? {
            nodes.insert(name, members.next_value_seed(NodeSeed(self.0))?);
        }
        Ok(nodes)
    }
}

struct RangesSeed<'a>(&'a mut Counts);

impl<'de> DeserializeSeed<'de> for RangesSeed<'_> {
    type Value = Option<IndexMap<String, Text>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RangesSeed<'_> {
    type Value = Option<IndexMap<String, Text>>;

    scalars_are_nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        skip_list(list).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut ranges = IndexMap::new();
        while let Some((name, range)) = members.next_entry()? {
            self.0.range()?;
            ranges.insert(name, range);
        }
        Ok(Some(ranges))
    }
}

/// Versions by name: a question of the newer form.
#[derive(Debug)]
pub(super) struct Versions(pub(super) BTreeMap<PackageName, Vec<Box<str>>>);

impl Versions {
    /// Reads what a client sent. What is no version names an address or a folder, and is left out.
    pub(super) fn parse(json: &[u8]) -> Result<Self, RegistryError> {
        let mut counts = Counts::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let versions = reader.deserialize_map(VersionsSeed(&mut counts));
        let versions = versions.and_then(|versions| reader.end().map(|()| versions));
        versions.map(Self).map_err(|error| refusal(&counts, &error))
    }

    /// How many versions there are.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

struct VersionsSeed<'a>(&'a mut Counts);

impl<'de> Visitor<'de> for VersionsSeed<'_> {
    type Value = BTreeMap<PackageName, Vec<Box<str>>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let Self(counts) = self;
        let mut all = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            counts.package()?;
            let versions = members.next_value_seed(ListSeed(counts))?;
            if let (Ok(name), false) = (name.parse(), versions.is_empty()) {
                all.insert(name, versions);
                counts.check(all.len(), MAX_NAMES)?;
            }
        }
        Ok(all)
    }
}

struct ListSeed<'a>(&'a mut Counts);

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<Box<str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<Box<str>>;

    scalars_are_nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut versions = Vec::new();
        while let Some(Text(text)) = list.next_element()? {
            self.0.range()?;
            versions.extend(text.filter(|text| is_version(text)));
        }
        Ok(versions)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        skip_object(object).map(|()| Vec::new())
    }
}

/// Whether `text` is a version and nothing else.
pub(super) fn is_version(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    text.len() <= MAX_TEXT
        && text.bytes().all(is_plain)
        && nodejs_semver::Version::parse(text).is_ok()
}

/// Whether `text` is a range of versions and nothing else.
pub(super) fn is_range(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+ ^~<>=|*".contains(&byte);
    text.len() <= MAX_TEXT
        && text.bytes().all(is_plain)
        && nodejs_semver::Range::parse(text).is_ok()
}
