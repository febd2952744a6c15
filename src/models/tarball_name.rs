//! [`TarballName`]: the only way a file name from the wire reaches storage.

use std::{fmt, str::FromStr, sync::Arc};

use super::{PackageName, Version};

const MAX_LENGTH: usize = 255;

/// The file name of a tarball, such as `name-1.0.0.tgz`.
///
/// Invariant: ends in `.tgz` or `.tar.gz`, at most 255 bytes of URL-safe ASCII, no separator, no
/// leading dot; so it is safe as a file name or an object key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TarballName(Arc<str>);

/// The text is not the file name of a tarball.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid tarball name `{0}`")]
pub struct InvalidTarballName(String);

impl TarballName {
    /// The one name that a version published here gets: the scope is not part of it.
    pub fn of(name: &PackageName, version: &Version) -> Result<Self, InvalidTarballName> {
        format!("{}-{version}.tgz", name.base()).parse()
    }

    /// The name under which the tarball at `address` is served here: the last segment of its address,
    /// or the conventional one where that is not the name of a tarball.
    pub fn at(address: &str, name: &PackageName, version: &str) -> Option<Self> {
        let path = address.split(['?', '#']).next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
        let own = decoded.rsplit('/').next().unwrap_or_default();
        own.parse()
            .or_else(|_| format!("{}-{version}.tgz", name.base()).parse())
            .ok()
    }

    /// The version of `name` that this file has where it has the conventional name.
    pub fn version_of(&self, name: &PackageName) -> Option<Version> {
        let rest = self.0.strip_prefix(name.base())?.strip_prefix('-')?;
        let version = rest.strip_suffix(".tgz")?.parse().ok()?;
        let is_conventional = Self::of(name, &version).is_ok_and(|own| own == *self);
        is_conventional.then_some(version)
    }

    /// The file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TarballName {
    type Err = InvalidTarballName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_archive = [".tgz", ".tar.gz"].iter().any(|end| text.ends_with(end));
        let is_safe = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!'()*+".contains(&byte));
        if is_archive && is_safe && !text.starts_with('.') && text.len() <= MAX_LENGTH {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTarballName(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for TarballName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, ok: bool) {
        assert_eq!(text.parse::<TarballName>().is_ok(), ok, "{text:?}");
    }

    #[test]
    fn accepts_what_clients_ask_for() {
        for text in [
            "a-1.0.0.tgz",
            "a-1.0.0-beta.1+b.tgz",
            "JSONStream-0.1.tar.gz",
        ] {
            check(text, true);
        }
    }

    #[test]
    fn rejects_what_could_escape_the_directory() {
        for text in [
            "",
            ".tgz",
            "..tgz",
            "a.zip",
            "../a.tgz",
            "a/b.tgz",
            "a\\b.tgz",
            "a\0.tgz",
            "é.tgz",
            "package.json",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn leaves_the_scope_out() {
        let file = TarballName::of(&"@s/n".parse().unwrap(), &"1.0.0".parse().unwrap());
        assert_eq!(file.unwrap().as_str(), "n-1.0.0.tgz");
    }
}
