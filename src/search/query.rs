//! [`Query`]: the text that people type, with npm's qualifiers.

use memchr::memmem::Finder;

use crate::models::{PackageName, Timestamp};

use super::{SearchEntry, entry::SearchHit, folded::Folded};

/// Longest text that is looked at, in characters, and most words of it.
const MAX_CHARACTERS: usize = 1000;
const MAX_WORDS: usize = 30;

/// A search: words that must all be found, and qualifiers that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    words: Vec<String>,
    conditions: Vec<Condition>,
    /// Whether what changed last comes first.
    by_date: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Author(String),
    Maintainer(String),
    Scope(String),
    /// Any of these.
    Keywords(Vec<String>),
    /// None of these.
    WithoutKeywords(Vec<String>),
    Is(Quality, bool),
    DependsOn(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    Deprecated,
    Unstable,
}

impl Query {
    /// Reads what was typed. Qualifiers that are not known are words like others.
    pub fn parse(text: &str) -> Self {
        let text: String = text.chars().take(MAX_CHARACTERS).collect();
        let mut query = Self::default();
        for word in text.split_whitespace().take(MAX_WORDS) {
            match condition(word) {
                Some(condition) => query.conditions.push(condition),
                None if is_ignored(word) => {}
                None => query.words.push(word.trim_matches('"').to_lowercase()),
            }
        }
        query
    }

    /// Everything, what changed last first.
    pub fn newest() -> Self {
        Self {
            by_date: true,
            ..Self::default()
        }
    }

    /// What depends on `name`, by name.
    pub fn depending_on(name: &PackageName) -> Self {
        Self {
            conditions: vec![Condition::DependsOn(name.as_str().to_owned())],
            ..Self::default()
        }
    }

    /// Ready to look at many entries.
    pub(super) fn matcher(&self) -> Matcher<'_> {
        Matcher {
            query: self,
            finders: self.words.iter().map(Finder::new).collect(),
        }
    }
}

/// A query that is looked for in one entry after another.
pub(super) struct Matcher<'q> {
    query: &'q Query,
    finders: Vec<Finder<'q>>,
}

impl Matcher<'_> {
    /// How well `entry` fits, whose text in lower case is `folded`; `None` where it does not.
    pub(super) fn score(&self, entry: &SearchEntry, folded: &Folded) -> Option<f64> {
        let mut finders = self.finders.iter();
        if !finders.all(|finder| finder.find(folded.all()).is_some()) {
            return None;
        }
        let mut conditions = self.query.conditions.iter();
        if !conditions.all(|condition| condition.holds(entry, folded)) {
            return None;
        }
        if self.query.by_date {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds are few enough")]
            let date = entry.date.map_or(0, Timestamp::unix_millis) as f64;
            return Some(date);
        }
        let (name, base) = (folded.name(), folded.base());
        let mut score = 0.0;
        for word in &self.query.words {
            let word = word.as_str();
            score += if name == word || base == word {
                100.0
            } else if name.starts_with(word) || base.starts_with(word) {
                20.0
            } else if name.contains(word) {
                10.0
            } else if folded.keywords().any(|keyword| keyword == word) {
                5.0
            } else if folded.description().contains(word) {
                1.0
            } else {
                return None;
            };
        }
        let score = if self.query.words.is_empty() {
            1.0
        } else {
            score
        };
        Some(if folded.is_deprecated {
            score / 10.0
        } else {
            score
        })
    }
}

/// Qualifiers that only change an order that we do not have, or are about what we do not know,
/// such as `not:insecure`.
fn is_ignored(word: &str) -> bool {
    [
        "is:",
        "not:",
        "boost-exact:",
        "quality-weight:",
        "popularity-weight:",
        "maintenance-weight:",
    ]
    .iter()
    .any(|qualifier| word.starts_with(qualifier))
}

fn condition(word: &str) -> Option<Condition> {
    let (qualifier, value) = word.split_once(':')?;
    let value = value.trim_matches('"');
    if value.is_empty() {
        return None;
    }
    let list = |text: &str| -> Vec<String> {
        text.split([',', '+'])
            .filter(|keyword| !keyword.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    let quality = || match value {
        "deprecated" => Some(Quality::Deprecated),
        "unstable" => Some(Quality::Unstable),
        _ => None,
    };
    Some(match qualifier {
        "author" => Condition::Author(value.to_owned()),
        "maintainer" => Condition::Maintainer(value.to_owned()),
        "scope" => Condition::Scope(value.trim_start_matches('@').to_lowercase()),
        "keywords" => match value.strip_prefix('-') {
            Some(rest) => Condition::WithoutKeywords(list(rest)),
            None => Condition::Keywords(list(value)),
        },
        "is" => Condition::Is(quality()?, true),
        "not" => Condition::Is(quality()?, false),
        _ => return None,
    })
}

impl Condition {
    fn holds(&self, entry: &SearchEntry, folded: &Folded) -> bool {
        let has_any = |wanted: &[String]| {
            let mut keywords = folded.keywords();
            keywords.any(|keyword| wanted.iter().any(|wanted| wanted == keyword))
        };
        match self {
            Self::Author(name) => SearchHit::has_person(&entry.author, name),
            Self::Maintainer(name) => SearchHit::has_person(&entry.maintainers, name),
            Self::Scope(scope) => entry
                .name
                .scope()
                .is_some_and(|own| own.trim_start_matches('@').eq_ignore_ascii_case(scope)),
            Self::Keywords(keywords) => has_any(keywords),
            Self::WithoutKeywords(keywords) => !has_any(keywords),
            Self::Is(Quality::Deprecated, wanted) => folded.is_deprecated == *wanted,
            Self::Is(Quality::Unstable, wanted) => entry.version.starts_with("0.") == *wanted,
            Self::DependsOn(name) => entry.dependencies.binary_search(name).is_ok(),
        }
    }
}
