//! [`Index`]: everything that was published here, in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use parking_lot::RwLock;

use super::{Query, SearchEntry, SearchHit};
use crate::models::PackageName;

/// Which of the hits to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Hits to pass over.
    pub from: usize,
    /// Hits to return at most.
    pub size: usize,
}

/// Everything that was published here, by name.
#[derive(Debug, Default)]
pub struct Index {
    entries: RwLock<BTreeMap<String, Arc<SearchEntry>>>,
}

impl Index {
    /// Adds a package, or replaces what was known of it.
    pub fn upsert(&self, entry: SearchEntry) {
        let key = entry.name.as_str().to_owned();
        self.entries.write().insert(key, Arc::new(entry));
    }

    /// Forgets a package.
    pub fn remove(&self, name: &PackageName) {
        self.entries.write().remove(name.as_str());
    }

    /// Whether a package is in it.
    pub fn contains(&self, name: &PackageName) -> bool {
        self.entries.read().contains_key(name.as_str())
    }

    /// All packages that `query` finds, best first, by name where they fit equally well.
    pub fn search(&self, query: &Query) -> Vec<SearchHit> {
        let entries = self.entries.read();
        let mut hits: Vec<SearchHit> = entries
            .values()
            .filter_map(|entry| {
                let score = query.score(entry)?;
                let entry = Arc::clone(entry);
                Some(SearchHit { entry, score })
            })
            .collect();
        hits.sort_by(|one, other| other.score.total_cmp(&one.score));
        hits
    }

    /// All packages whose names come after `name`, by name.
    pub fn after(&self, name: &str) -> Vec<Arc<SearchEntry>> {
        let entries = self.entries.read();
        let range = entries.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        range.map(|(_, entry)| Arc::clone(entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry(name: &str, description: &str, keywords: &[&str]) -> SearchEntry {
        SearchEntry {
            name: name.parse().unwrap(),
            version: "1.0.0".to_owned(),
            description: description.to_owned(),
            keywords: keywords.iter().map(ToString::to_string).collect(),
            date: None,
            author: json!("Ada <ada@x.example>"),
            publisher: json!({}),
            maintainers: json!([{ "name": "bob", "email": "" }]),
            license: json!("MIT"),
            links: Vec::new(),
            deprecated: None,
            owners: vec!["bob".to_owned()],
            starred_by: Vec::new(),
            restrictions: crate::models::Restrictions::default(),
        }
    }

    fn index() -> Index {
        let index = Index::default();
        index.upsert(entry("left-pad", "pads a string", &["string"]));
        index.upsert(entry("@acme/pad", "Pads", &["left", "Ink"]));
        index.upsert(entry("padding", "", &[]));
        index.upsert(SearchEntry {
            deprecated: Some("no".to_owned()),
            version: "0.1.0".to_owned(),
            ..entry("old-pad", "", &[])
        });
        index
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let hits = index().search(&Query::parse(text));
        let names: Vec<&str> = hits.iter().map(|hit| hit.entry.name.as_str()).collect();
        assert_eq!(names, expected, "{text}");
    }

    #[test]
    fn words_are_found_in_names_first() {
        check("pad", &["@acme/pad", "padding", "left-pad", "old-pad"]);
        check("PAD string", &["left-pad"]);
        check("nothing", &[]);
        check("", &["@acme/pad", "left-pad", "padding", "old-pad"]);
    }

    #[test]
    fn qualifiers_narrow() {
        check("scope:acme", &["@acme/pad"]);
        check("keywords:left,string", &["@acme/pad", "left-pad"]);
        check("keywords:-left pad", &["padding", "left-pad", "old-pad"]);
        check(
            "author:ada pad not:deprecated",
            &["@acme/pad", "padding", "left-pad"],
        );
        check("maintainer:bob is:unstable", &["old-pad"]);
        check("maintainer:eve", &[]);
        check("boost-exact:false padding", &["padding"]);
        check("not:insecure is:insecure is: padding", &["padding"]);
        check("what:ever", &[]);
    }

    #[test]
    fn names_after_another() {
        let names = |after: &str| -> Vec<String> {
            let entries = index().after(after);
            entries.iter().map(|entry| entry.name.to_string()).collect()
        };
        assert_eq!(names("left-pad"), ["old-pad", "padding"]);
        assert_eq!(names("").len(), 4);
        let index = index();
        index.remove(&"padding".parse().unwrap());
        assert_eq!(index.after("").len(), 3);
    }

    proptest! {
        #[test]
        fn any_text_can_be_searched(text in "\\PC{0,80}") {
            index().search(&Query::parse(&text));
        }
    }
}
