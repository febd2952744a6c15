//! [`SearchEntry`]: what the index knows of a package.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::models::{PackageName, Restrictions, Timestamp};

/// What the index knows of a package: its newest version as `latest` says.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchEntry {
    /// The package.
    pub name: PackageName,
    /// The version that `latest` means; empty without one.
    pub version: String,
    /// Its description.
    pub description: String,
    /// Its keywords.
    pub keywords: Vec<String>,
    /// When that version was published.
    pub date: Option<Timestamp>,
    /// `author` as it was published.
    pub author: Value,
    /// Who published it.
    pub publisher: Value,
    /// `maintainers` of the package.
    pub maintainers: Value,
    /// Its licence.
    pub license: Value,
    /// Addresses that it names: `homepage`, `repository`, `bugs`.
    pub links: Vec<(&'static str, String)>,
    /// Why it should not be used any more, if so.
    pub deprecated: Option<String>,
    /// The names of its owners.
    pub owners: Vec<String>,
    /// The names of those who have starred it.
    pub starred_by: Vec<String>,
    /// The names that its newest version depends on, in order.
    pub dependencies: Vec<String>,
    /// What it says about who may use it.
    pub restrictions: Restrictions,
    /// Which rule decides about it; `None`: none lets anybody in.
    pub rule: Option<usize>,
}

/// A package that a query found.
#[derive(Clone, Debug)]
pub struct SearchHit {
    /// The package.
    pub entry: Arc<SearchEntry>,
    /// How well it fits; only the order means something.
    pub score: f64,
}

impl SearchHit {
    /// The hit as `/-/v1/search` shows it.
    pub fn to_json(&self) -> Value {
        let entry = &self.entry;
        let mut links = serde_json::Map::new();
        links.insert("npm".to_owned(), "".into());
        for (kind, address) in &entry.links {
            links.insert((*kind).to_owned(), address.as_str().into());
        }
        let mut hit = json!({
            "package": {
                "name": entry.name.as_str(),
                "scope": entry.name.scope().unwrap_or_default(),
                "version": entry.version,
                "description": entry.description,
                "keywords": entry.keywords,
                "date": entry.date,
                "links": links,
                "author": entry.author,
                "publisher": entry.publisher,
                "maintainers": entry.maintainers,
                "license": entry.license,
            },
            "score": {
                "final": self.score,
                "detail": { "quality": 1, "popularity": 1, "maintenance": 0 },
            },
            "searchScore": self.score,
            "verdaccioPkgCached": false,
            "verdaccioPrivate": true,
        });
        // What nobody has said is left out, as the public registry does.
        if let Some(package) = hit["package"].as_object_mut() {
            package.retain(|_, value| !value.is_null());
        }
        hit
    }

    /// Whether `people`, one person or a list, has one of this name or address.
    pub(super) fn has_person(people: &Value, wanted: &str) -> bool {
        match people {
            Value::Array(list) => list.iter().any(|person| Self::has_person(person, wanted)),
            Value::Object(person) => ["name", "username", "email"].iter().any(|key| {
                let value = person.get(*key).and_then(Value::as_str);
                value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
            }),
            Value::String(text) => {
                let name = text.split(['<', '(']).next().unwrap_or_default();
                name.trim().eq_ignore_ascii_case(wanted)
            }
            _ => false,
        }
    }
}
