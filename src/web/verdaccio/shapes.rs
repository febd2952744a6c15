//! Packages and people in the shape that Verdaccio's pages read.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    models::{BaseUrl, TarballName, Timestamp},
    search::SearchEntry,
};

/// The picture of everybody: nobody else is asked for one, and told who is looked at.
const AVATAR: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
                      %3Cpath d='M4 0a2 2 0 0 1 0 4a4 4 0 0 1 4 4H0a4 4 0 0 1 4-4a2 2 0 0 1 0-4'/%3E%3C/svg%3E";
/// Who has written what does not say so.
const NOBODY: &str = "Anonymous";

/// A package in a list: the manifest of its newest version, as far as the index knows it.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    name: &'a str,
    version: &'a str,
    description: &'a str,
    keywords: &'a [String],
    author: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    license: &'a Value,
    maintainers: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bugs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated: Option<&'a str>,
    #[serde(rename = "_id")]
    id: String,
    dist: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    users: Map<String, Value>,
}

impl<'a> Row<'a> {
    pub(super) fn of(entry: &'a SearchEntry, base: &BaseUrl) -> Self {
        let link = |wanted: &str| {
            let mut links = entry.links.iter();
            let found = links.find(|(kind, _)| *kind == wanted);
            found.map(|(_, address)| address.as_str())
        };
        let (name, version) = (entry.name.as_str(), entry.version.as_str());
        let tarball = TarballName::at("", &entry.name, version);
        let tarball = tarball.filter(|_| !version.is_empty());
        let stars = entry.starred_by.iter();
        Self {
            name,
            version,
            description: &entry.description,
            keywords: &entry.keywords,
            author: person(&entry.author),
            license: &entry.license,
            maintainers: &entry.maintainers,
            homepage: link("homepage"),
            repository: link("repository").map(|url| json!({ "type": "git", "url": url })),
            bugs: link("bugs").map(|url| json!({ "url": url })),
            deprecated: entry.deprecated.as_deref(),
            id: format!("{name}@{version}"),
            dist: match tarball {
                Some(file) => json!({ "tarball": format!("{base}/{name}/-/{file}") }),
                None => json!({}),
            },
            time: entry.date,
            users: stars.map(|name| (name.clone(), true.into())).collect(),
        }
    }
}

/// `who`, as one was published, with everything that a page reads of somebody.
fn person(who: &Value) -> Value {
    let mut person = json!({ "name": NOBODY, "email": "", "url": "" });
    match who {
        Value::String(name) => person["name"] = name.as_str().into(),
        Value::Object(fields) => {
            for (key, value) in fields {
                person[key] = value.clone();
            }
        }
        _ => {}
    }
    person["avatar"] = AVATAR.into();
    person
}

/// All of `people`, who may be one or a list.
fn all_of(people: &Value) -> Value {
    match people {
        Value::Array(list) => list.iter().map(person).collect(),
        Value::Null => json!([]),
        one => json!([person(one)]),
    }
}

/// Gives a version what a page reads of it besides.
pub(super) fn dress(version: &mut Map<String, Value>) {
    let author = person(version.get("author").unwrap_or(&Value::Null));
    version.insert("author".to_owned(), author);
    for key in ["contributors", "maintainers"] {
        let people = all_of(version.get(key).unwrap_or(&Value::Null));
        version.insert(key.to_owned(), people);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_have_all_that_is_read_of_them() {
        let of = |who| {
            let person = person(&who);
            let text = |key: &str| person[key].as_str().unwrap().to_owned();
            assert_eq!(text("avatar"), AVATAR);
            [text("name"), text("email"), text("url")]
        };
        assert_eq!(of(json!(null)), [NOBODY, "", ""]);
        assert_eq!(of(json!(7)), [NOBODY, "", ""]);
        assert_eq!(of(json!("Ada")), ["Ada", "", ""]);
        let ada =
            json!({ "name": "Ada", "email": "a@x.example", "avatar": "https://evil.example/" });
        assert_eq!(of(ada), ["Ada", "a@x.example", ""]);
    }

    #[test]
    fn a_version_without_people_has_empty_lists() {
        let mut version = Map::new();
        dress(&mut version);
        assert_eq!(version["contributors"], json!([]));
        version.insert("contributors".to_owned(), json!("Ada"));
        version.insert("maintainers".to_owned(), json!(["bob", { "name": "eve" }]));
        dress(&mut version);
        assert_eq!(version["contributors"][0]["name"], "Ada");
        assert_eq!(version["maintainers"][0]["name"], "bob");
        assert_eq!(version["maintainers"][1]["name"], "eve");
    }
}
