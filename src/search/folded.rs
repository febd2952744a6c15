//! [`Folded`]: what searches look at of an entry, in lower case once for all of them.

use super::SearchEntry;

/// Between the fields. White space, which no word of a query has.
const BETWEEN: char = '\n';

/// The searched fields of an entry in lower case, in one piece: thousands of entries are looked at
/// for a search, and each further place in memory costs more than comparing its letters.
#[derive(Debug)]
pub(super) struct Folded {
    /// Name, description and keywords, each after the other: whatever holds a word has it here
    /// too, so that one look rules out most entries.
    all: Box<str>,
    name_length: usize,
    base_start: usize,
    description_end: usize,
    /// Whether it should not be used any more.
    pub(super) is_deprecated: bool,
}

impl Folded {
    pub(super) fn of(entry: &SearchEntry) -> Self {
        let name = entry.name.as_str().to_lowercase();
        let base = entry.name.base().to_lowercase();
        let (name_length, base_start) = (name.len(), name.len() - base.len());
        let mut all = name;
        all.push(BETWEEN);
        all.push_str(&entry.description.to_lowercase());
        let description_end = all.len();
        // One with a line break is no word that anybody could ask for.
        let keywords = entry.keywords.iter();
        for keyword in keywords.filter(|keyword| !keyword.contains(BETWEEN)) {
            all.push(BETWEEN);
            all.push_str(&keyword.to_lowercase());
        }
        Self {
            all: all.into(),
            name_length,
            base_start,
            description_end,
            is_deprecated: entry.deprecated.is_some(),
        }
    }

    /// Every text that a word may be found in.
    pub(super) fn all(&self) -> &[u8] {
        self.all.as_bytes()
    }

    pub(super) fn name(&self) -> &str {
        self.part(0, self.name_length)
    }

    /// The name without its scope.
    pub(super) fn base(&self) -> &str {
        self.part(self.base_start, self.name_length)
    }

    pub(super) fn description(&self) -> &str {
        self.part(self.name_length + 1, self.description_end)
    }

    pub(super) fn keywords(&self) -> impl Iterator<Item = &str> {
        let keywords = self.all.get(self.description_end..).unwrap_or_default();
        // What stands before the first break is nothing.
        keywords.split(BETWEEN).skip(1)
    }

    fn part(&self, start: usize, end: usize) -> &str {
        self.all.get(start..end).unwrap_or_default()
    }
}
