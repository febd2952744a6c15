//! [`Index`]: everything that was published here, in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use parking_lot::RwLock;

use super::{Query, SearchEntry, SearchHit, folded::Folded};
use crate::models::{PackageName, Visibility};

/// Which of the hits to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Hits to pass over.
    pub from: usize,
    /// Hits to return at most.
    pub size: usize,
}

impl Window {
    /// All hits.
    pub const ALL: Self = Self {
        from: 0,
        size: usize::MAX,
    };
}

/// What a query found.
#[derive(Debug, Default)]
pub struct Found {
    /// The hits in the window, best first.
    pub hits: Vec<SearchHit>,
    /// How many there are in all.
    pub total: usize,
}

/// Everything that was published here, by name.
#[derive(Debug, Default)]
pub struct Index {
    rows: RwLock<BTreeMap<String, Row>>,
}

#[derive(Debug)]
struct Row {
    folded: Folded,
    sight: Sight,
    entry: Arc<SearchEntry>,
}

/// What decides who sees a package, where nothing more needs to be known.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// [`SearchEntry::rule`].
    pub rule: Option<usize>,
    /// Whether the package itself lets in whomever the rule lets in.
    pub is_public: bool,
}

impl Index {
    /// Adds a package, or replaces what was known of it.
    pub fn upsert(&self, entry: SearchEntry) {
        let key = entry.name.as_str().to_owned();
        let folded = Folded::of(&entry);
        let sight = Sight {
            rule: entry.rule,
            is_public: entry.restrictions.visibility == Visibility::Public,
        };
        let row = Row {
            folded,
            sight,
            entry: Arc::new(entry),
        };
        self.rows.write().insert(key, row);
    }

    /// Forgets a package.
    pub fn remove(&self, name: &PackageName) {
        self.rows.write().remove(name.as_str());
    }

    /// What is known of a package.
    pub fn get(&self, name: &PackageName) -> Option<Arc<SearchEntry>> {
        let rows = self.rows.read();
        Some(Arc::clone(&rows.get(name.as_str())?.entry))
    }

    /// Whether a package is in it.
    pub fn contains(&self, name: &PackageName) -> bool {
        self.rows.read().contains_key(name.as_str())
    }

    /// The packages that `query` finds and that are `visible`, best first, by name where they fit
    /// equally well.
    pub fn search(
        &self,
        query: &Query,
        window: Window,
        visible: impl Fn(Sight, &SearchEntry) -> bool,
    ) -> Found {
        let matcher = query.matcher();
        let rows = self.rows.read();
        let found = rows.values().filter_map(|row| {
            let score = matcher.score(&row.entry, &row.folded)?;
            visible(row.sight, &row.entry).then_some((score, &row.entry))
        });
        // The place among all that are found is the order of names.
        let found = found.enumerate();
        let mut found: Vec<(f64, usize, &Arc<SearchEntry>)> = found
            .map(|(place, (score, entry))| (score, place, entry))
            .collect();
        let total = found.len();
        let best_first = |one: &(f64, usize, _), other: &(f64, usize, _)| {
            other.0.total_cmp(&one.0).then(one.1.cmp(&other.1))
        };
        // What comes after the window need not be in order.
        let end = window.from.saturating_add(window.size);
        if end < total {
            found.select_nth_unstable_by(end, best_first);
            found.truncate(end);
        }
        found.sort_unstable_by(best_first);
        let in_window = found.iter().skip(window.from);
        let hits = in_window.map(|&(score, _, entry)| SearchHit {
            entry: Arc::clone(entry),
            score,
        });
        Found {
            hits: hits.collect(),
            total,
        }
    }

    /// All packages whose names come after `name`, by name.
    pub fn after(&self, name: &str) -> Vec<Arc<SearchEntry>> {
        let rows = self.rows.read();
        let range = rows.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        range.map(|(_, row)| Arc::clone(&row.entry)).collect()
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
            dependencies: Vec::new(),
            restrictions: crate::models::Restrictions::default(),
            rule: None,
        }
    }

    fn index() -> Index {
        let index = Index::default();
        index.upsert(entry("left-pad", "pads a string", &["string"]));
        index.upsert(entry("@acme/pad", "Pads", &["left", "Ink", "", "a b\nc"]));
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
        let found = index().search(&Query::parse(text), Window::ALL, |_, _| true);
        let names: Vec<&str> = found
            .hits
            .iter()
            .map(|hit| hit.entry.name.as_str())
            .collect();
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
    fn a_window_is_a_part_of_all() {
        let (index, query) = (index(), Query::parse("pad"));
        let names = |window| {
            let found = index.search(&query, window, |_, _| true);
            assert_eq!(found.total, 4);
            let names = found.hits.iter().map(|hit| hit.entry.name.to_string());
            names.collect::<Vec<_>>()
        };
        let all = names(Window::ALL);
        for from in 0..6 {
            for size in 0..6 {
                let part: Vec<_> = all.iter().skip(from).take(size).cloned().collect();
                assert_eq!(names(Window { from, size }), part, "{from} {size}");
            }
        }
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
    fn fields_are_looked_at_one_by_one() {
        // No word reaches from one field into the next, and a keyword is only found whole.
        check("pad\u{0}pads", &[]);
        check("in", &["padding", "left-pad"]);
        check("ink", &["@acme/pad"]);
        check("acme/", &["@acme/pad"]);
        check("keywords:ink", &["@acme/pad"]);
        check("keywords:c", &[]);
        check("c @acme/pad", &["@acme/pad"]);
        check("\"\" left", &["left-pad", "@acme/pad"]);
    }

    #[test]
    fn a_window_counts_only_what_is_visible() {
        let window = Window { from: 1, size: 1 };
        let visible = |_, entry: &SearchEntry| entry.name.as_str() != "padding";
        let found = index().search(&Query::parse("pad"), window, visible);
        assert_eq!(found.total, 3);
        let names = found.hits.iter().map(|hit| hit.entry.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["left-pad"]);
        let beyond = Window { from: 9, size: 9 };
        let found = index().search(&Query::default(), beyond, |_, _| true);
        assert_eq!((found.hits.len(), found.total), (0, 4));
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
            index().search(&Query::parse(&text), Window::ALL, |_, _| true);
        }
    }
}
