//! What we look at inside a version: its `dist` and its install scripts.

use std::borrow::Cow;

use super::members::{Members, member, text};
use crate::models::{Integrity, PackageName, TarballName};

/// Where a version's tarball is and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dist {
    /// The address that the document gives.
    pub tarball: String,
    /// The expected integrity; `None` where the document has none that can be checked.
    pub integrity: Option<Integrity>,
    /// The integrity as text, which signatures are made of.
    pub integrity_text: Option<String>,
    /// Whether a registry has signed it.
    pub is_signed: bool,
}

impl Dist {
    /// Reads the `dist` of a raw version; `None` where there is no tarball.
    pub fn of(version: &[u8]) -> Option<Self> {
        Self::read(member(version, "dist")?)
    }

    /// Reads a raw `dist`; `None` where there is no tarball.
    pub(super) fn read(dist: &[u8]) -> Option<Self> {
        let text = |key: &str| text(member(dist, key)?);
        let integrity_text = text("integrity");
        let integrity = integrity_text.as_ref().and_then(|text| text.parse().ok());
        let integrity = integrity.or_else(|| Integrity::from_shasum(&text("shasum")?).ok());
        Some(Self {
            tarball: text("tarball")?.into_owned(),
            // Clients that find no other take the shasum for the integrity.
            integrity_text: integrity_text
                .map(Cow::into_owned)
                .or_else(|| integrity.as_ref().map(ToString::to_string)),
            integrity,
            is_signed: member(dist, "signatures").is_some_and(has_items),
        })
    }

    /// Whether the raw version names its tarball and no registry has signed it.
    pub fn is_unsigned(version: &[u8]) -> bool {
        let Some(dist) = member(version, "dist") else {
            return false;
        };
        member(dist, "tarball").and_then(text).is_some()
            && !member(dist, "signatures").is_some_and(has_items)
    }

    /// The file name under which the tarball is served here: the last segment of its address, or
    /// the conventional one where that is not the name of a tarball.
    pub fn file(&self, name: &PackageName, version: &str) -> Option<TarballName> {
        TarballName::at(&self.tarball, name, version)
    }
}

/// Whether a raw value is an array that is not empty.
fn has_items(raw: &[u8]) -> bool {
    let inner = raw.strip_prefix(b"[").unwrap_or(b"]");
    inner.trim_ascii_start().first() != Some(&b']')
}

/// Whether raw `scripts` have one that an install runs.
pub(super) fn has_install_script(scripts: &[u8]) -> bool {
    Members::of(scripts)
        .any(|script| matches!(&*script.key, "preinstall" | "install" | "postinstall"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tarball: &str, file: &str) {
        let dist = Dist {
            tarball: tarball.to_owned(),
            integrity: None,
            integrity_text: None,
            is_signed: false,
        };
        let found = dist.file(&"@s/n".parse().unwrap(), "1.0.0").unwrap();
        assert_eq!(found.as_str(), file, "{tarball}");
    }

    #[test]
    fn signatures_are_read_however_they_are_written() {
        let is_signed = |signatures: &str| {
            let version = format!(r#"{{"dist":{{"tarball":"x","signatures":{signatures}}}}}"#);
            Dist::of(version.as_bytes()).unwrap().is_signed
        };
        for signed in [
            r#"[{"keyid":"k","sig":"s"}]"#,
            " [\n { \"sig\": 1 } , {} ] ",
            "[null]",
        ] {
            assert!(is_signed(signed), "{signed}");
        }
        for none in ["[]", " [ ] ", "null", "{}", r#""[{""#] {
            assert!(!is_signed(none), "{none}");
        }
    }

    #[test]
    fn files_have_safe_names() {
        check("https://r.example/@s/n/-/n-1.0.0.tgz", "n-1.0.0.tgz");
        check(
            "https://r.example/@s/n/-/@s%2fn-1.0.0.tgz?x=/y",
            "n-1.0.0.tgz",
        );
        check(
            "https://r.example/download/@s/n/1.0.0/abcdef",
            "n-1.0.0.tgz",
        );
        check("https://r.example/..%2f..%2fetc.tgz", "etc.tgz");
        check("", "n-1.0.0.tgz");
    }
}
