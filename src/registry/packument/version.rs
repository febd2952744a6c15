//! What we look at inside a version: its `dist` and its install scripts.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{Fields, parse_fields, text_of};
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
    pub fn of(version: &Bytes) -> Option<Self> {
        let dist = parse_fields(parse_fields(version).ok()?.get("dist")?).ok()?;
        let text = |key: &str| dist.get(key).and_then(text_of);
        let integrity_text = text("integrity");
        let integrity = integrity_text.as_ref().and_then(|text| text.parse().ok());
        let integrity = integrity.or_else(|| Integrity::from_shasum(&text("shasum")?).ok());
        let signatures: Vec<IgnoredAny> = dist
            .get("signatures")
            .and_then(|raw| serde_json::from_slice(raw).ok())
            .unwrap_or_default();
        Some(Self {
            tarball: text("tarball")?,
            // Clients that find no other take the shasum for the integrity.
            integrity_text: integrity_text.or_else(|| integrity.as_ref().map(ToString::to_string)),
            integrity,
            is_signed: !signatures.is_empty(),
        })
    }

    /// The file name under which the tarball is served here: the last segment of its address, or
    /// the conventional one where that is not the name of a tarball.
    pub fn file(&self, name: &PackageName, version: &str) -> Option<TarballName> {
        let path = self.tarball.split(['?', '#']).next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
        let own = decoded.rsplit('/').next().unwrap_or_default();
        own.parse()
            .or_else(|_| format!("{}-{version}.tgz", name.base()).parse())
            .ok()
    }
}

/// Whether the version needs `hasInstallScript` and lacks it: clients do not send it, and the
/// abbreviated form has no `scripts` to see it from.
pub(super) fn lacks_install_script_mark(fields: &Fields) -> bool {
    if fields.contains_key("hasInstallScript") {
        return false;
    }
    let scripts = fields.get("scripts").and_then(|raw| parse_fields(raw).ok());
    scripts.is_some_and(|scripts| {
        ["preinstall", "install", "postinstall"]
            .iter()
            .any(|name| scripts.contains_key(*name))
    })
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
            Dist::of(&Bytes::from(version)).unwrap().is_signed
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
