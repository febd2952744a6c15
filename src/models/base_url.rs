//! [`BaseUrl`]: the public address under which clients see this registry.

use std::{fmt, str::FromStr, sync::Arc};

use url::Url;

const MAX_LENGTH: usize = 512;

/// An absolute `http` or `https` URL without credentials, query, fragment or trailing slash,
/// such as `https://npm.example.org/registry`.
///
/// Invariant: it may be spliced into a JSON string as it is (no quote, backslash or control).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl(Arc<str>);

/// The text is not usable as a base URL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an absolute http(s) URL without credentials, query and fragment")]
pub struct InvalidBaseUrl(String);

impl BaseUrl {
    /// The URL without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `//host[:port][/prefix]/`, the key under which npm's configuration keeps credentials.
    pub fn nerf_dart(&self) -> String {
        let without_scheme = self.0.split_once(':').map_or("", |(_, rest)| rest);
        format!("{without_scheme}/")
    }

    /// The same host with `path` (empty, or with a leading and no trailing slash) appended.
    pub fn join(&self, path: &str) -> Result<Self, InvalidBaseUrl> {
        format!("{}{path}", self.0).parse()
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidBaseUrl(text.chars().take(80).collect());
        if text.len() > MAX_LENGTH {
            return Err(invalid());
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let normal = url.as_str().trim_end_matches('/');
        let is_spliceable = !normal
            .bytes()
            .any(|byte| !(0x21..=0x7e).contains(&byte) || b"\"\\<>".contains(&byte));
        if is_plain && is_spliceable {
            Ok(Self(normal.into()))
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let parsed = text.parse::<BaseUrl>().ok();
        assert_eq!(parsed.as_ref().map(BaseUrl::as_str), expected, "{text:?}");
    }

    #[test]
    fn normalises_what_it_accepts() {
        check("http://localhost:4873", Some("http://localhost:4873"));
        check(
            "https://NPM.example.org/pre/",
            Some("https://npm.example.org/pre"),
        );
        check("http://[::1]:4873/", Some("http://[::1]:4873"));
    }

    #[test]
    fn rejects_what_could_poison_a_document() {
        for text in [
            "",
            "npm.example.org",
            "ftp://example.org",
            "http://user:pass@example.org",
            "http://example.org/?q",
            "http://example.org/#f",
            "http://exa mple.org",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn nerf_dart_is_what_npm_uses() {
        let base: BaseUrl = "https://npm.example.org/pre".parse().unwrap();
        assert_eq!(base.nerf_dart(), "//npm.example.org/pre/");
    }
}
