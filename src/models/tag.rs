//! [`Tag`]: a dist-tag such as `latest`.

use std::{fmt, str::FromStr, sync::Arc};

const MAX_LENGTH: usize = 214;

/// A dist-tag that can be set: not empty, no control character, no separator, and not readable as
/// a version range (npm would never find a tag `1` or `v1.2`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// The text is not usable as a dist-tag.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid tag `{0}`: a dist-tag is a word that is not a version or a range")]
pub struct InvalidTag(String);

impl Tag {
    /// `latest`, the tag that an install without a version asks for.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = !text.is_empty()
            && text.len() <= MAX_LENGTH
            && !text.starts_with('.')
            && text
                .chars()
                .all(|c| !c.is_control() && !c.is_whitespace() && !"/\\?#%\"<>".contains(c));
        if is_word && nodejs_semver::Range::parse(text).is_err() {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTag(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, ok: bool) {
        assert_eq!(text.parse::<Tag>().is_ok(), ok, "{text:?}");
    }

    #[test]
    fn words_are_tags() {
        for text in [
            "latest",
            "next-11",
            "beta.1",
            "__proto__",
            "constructor",
            "größe",
        ] {
            check(text, true);
        }
    }

    #[test]
    fn ranges_and_paths_are_not() {
        for text in [
            "", "1", "v1.2", "*", "x", "^1.0.0", ">=1 <2", "..", "a/b", "a\0", "a b",
        ] {
            check(text, false);
        }
    }
}
