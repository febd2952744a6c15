//! [`Version`]: a semantic version that keeps its text; [`VersionKey`]: any key of `versions`.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

const MAX_LENGTH: usize = 256;

/// A strict semantic version (no `v`, no spaces), compared as npm compares.
#[derive(Clone, Debug)]
pub struct Version {
    text: Arc<str>,
    parsed: nodejs_semver::Version,
}

/// The text is not a strict semantic version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid version `{0}`")]
pub struct InvalidVersion(String);

impl Version {
    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The version without its build metadata, which does not make it another one.
    pub fn without_build(&self) -> &str {
        without_build(&self.text)
    }

    /// Whether it has a pre-release part, as `1.0.0-beta.1` does.
    pub fn is_prerelease(&self) -> bool {
        self.parsed.is_prerelease()
    }
}

/// `version` without the build metadata at its end.
pub fn without_build(version: &str) -> &str {
    version
        .split_once('+')
        .map_or(version, |(version, _)| version)
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion(text.chars().take(80).collect());
        if text.len() > MAX_LENGTH || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid());
        }
        let parsed = nodejs_semver::Version::parse(text).map_err(|_| invalid())?;
        // The library is as lenient as `semver.parse(…, {loose: true})`; what it normalised is not
        // what was written, and two spellings of one version must not both exist.
        if parsed.to_string() != text {
            return Err(invalid());
        }
        Ok(Self {
            text: text.into(),
            parsed,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Precedence first; texts that differ in build metadata only are ordered by text.
impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parsed
            .cmp(&other.parsed)
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Version {}

impl std::hash::Hash for Version {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What a client writes where a version or a dist-tag may stand: `/:package/:this`.
///
/// Bounded and without separators or controls, but not necessarily a semantic version: old
/// upstream documents have keys that are not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionKey(Arc<str>);

impl VersionKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VersionKey {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = !text.is_empty()
            && text.len() <= MAX_LENGTH
            && text.chars().all(|c| !c.is_control() && !"/\\".contains(c));
        if is_plain {
            Ok(Self(text.into()))
        } else {
            Err(InvalidVersion(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_versions_parse() {
        for (text, ok) in [
            ("1.0.0", true),
            ("1.0.0-beta.1+build.5", true),
            ("0.0.0-0", true),
            ("v1.0.0", false),
            (" 1.0.0", false),
            ("1.0", false),
            ("1.0.0-01", false),
            ("01.0.0", false),
            ("1.0.0/../x", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Version>().is_ok(), ok, "{text:?}");
        }
    }

    #[test]
    fn order_is_npms() {
        let parse = |text: &str| text.parse::<Version>().unwrap();
        assert!(parse("1.0.0-beta.9") < parse("1.0.0-beta.10"));
        assert!(parse("1.0.0-rc.1") < parse("1.0.0"));
        assert!(parse("1.9.0") < parse("1.10.0"));
        assert_ne!(parse("1.0.0+a"), parse("1.0.0+b"));
        assert_eq!(parse("1.0.0-x.1+b").without_build(), "1.0.0-x.1");
    }
}
