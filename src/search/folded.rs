//! [`Folded`]: what searches look at of an entry, in lower case once for all of them.

use super::SearchEntry;

/// The searched fields of an entry in lower case.
#[derive(Debug)]
pub(super) struct Folded {
    /// Name, description and keywords with a space after each: whatever holds a word has it here
    /// too, so that one look rules out most entries.
    all: Box<str>,
    name_length: usize,
    base_start: usize,
    description_end: usize,
    keywords: Box<[Box<str>]>,
}

impl Folded {
    pub(super) fn of(entry: &SearchEntry) -> Self {
        let name = entry.name.as_str().to_lowercase();
        let base = entry.name.base().to_lowercase();
        let keywords: Box<[Box<str>]> = entry
            .keywords
            .iter()
            .map(|keyword| keyword.to_lowercase().into())
            .collect();
        let (name_length, base_start) = (name.len(), name.len() - base.len());
        let mut all = name;
        all.push(' ');
        all.push_str(&entry.description.to_lowercase());
        let description_end = all.len();
        for keyword in &keywords {
            all.push(' ');
            all.push_str(keyword);
        }
        Self {
            all: all.into(),
            name_length,
            base_start,
            description_end,
            keywords,
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
        self.keywords.iter().map(AsRef::as_ref)
    }

    fn part(&self, start: usize, end: usize) -> &str {
        self.all.get(start..end).unwrap_or_default()
    }
}
