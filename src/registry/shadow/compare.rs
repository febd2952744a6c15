//! What of two documents has to be alike, and what may differ.
//!
//! Two registries say many things that are about themselves: revisions, signatures, counts, addresses,
//! content types, caching. Only what changes what a client installs or shows is compared.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Shadowed;
use crate::models::{PackageName, Timestamp};

/// Fields of a version that decide what is installed and how.
const DECISIVE: [&str; 10] = [
    "dependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bin",
    "engines",
    "os",
    "cpu",
    "libc",
    "deprecated",
];

/// Which form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Full,
    Abbreviated,
}

impl Side {
    fn shown(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Abbreviated => " (abbreviated)",
        }
    }
}

/// Notes how the documents of `name` differ.
pub(super) fn compare_documents(
    name: &PackageName,
    theirs: &Value,
    ours: &Value,
    side: Side,
    shadowed: &mut Shadowed,
) {
    let form = side.shown();
    let (versions_there, versions_here) = (members(theirs, "versions"), members(ours, "versions"));
    for (version, there) in versions_there.iter().flat_map(|versions| versions.iter()) {
        let Some(here) = versions_here.and_then(|versions| versions.get(version)) else {
            shadowed.differ("versions", format!("{name}@{version}{form} is only there"));
            continue;
        };
        compare_versions(&format!("{name}@{version}{form}"), there, here, shadowed);
        if side == Side::Full {
            compare_times(name, version, theirs, ours, shadowed);
        }
    }
    for version in versions_here.iter().flat_map(|versions| versions.keys()) {
        if versions_there.is_none_or(|versions| !versions.contains_key(version)) {
            shadowed.differ("versions", format!("{name}@{version}{form} is only here"));
        }
    }
    let (tags_there, tags_here) = (members(theirs, "dist-tags"), members(ours, "dist-tags"));
    let tags: BTreeSet<&String> = [tags_there, tags_here]
        .into_iter()
        .flatten()
        .flat_map(Map::keys)
        .collect();
    for tag in tags {
        let of = |tags: Option<&Map<String, Value>>| {
            let version = tags.and_then(|tags| tags.get(tag)?.as_str());
            version.unwrap_or("nothing").to_owned()
        };
        let (there, here) = (of(tags_there), of(tags_here));
        if there != here {
            let text = format!("{name}{form}: {tag} is {there} there, {here} here");
            shadowed.differ("dist-tags", text);
        }
    }
}

/// Notes how the version `what` differs.
pub(super) fn compare_versions(what: &str, theirs: &Value, ours: &Value, shadowed: &mut Shadowed) {
    if theirs.get("version") != ours.get("version") {
        shadowed.differ("versions", format!("{what} is another version here"));
        return;
    }
    for digest in ["integrity", "shasum"] {
        let of = |version: &Value| Some(version.get("dist")?.get(digest)?.as_str()?.to_owned());
        let (there, here) = (of(theirs), of(ours));
        // One that only we know is a gain.
        if there.is_some() && there != here {
            shadowed.differ("digests", format!("{what}: dist.{digest} is another"));
        }
    }
    let (there, here) = (address(theirs), address(ours));
    if there != here {
        let text = |path: Option<String>| path.unwrap_or_else(|| "none".to_owned());
        let (there, here) = (text(there), text(here));
        shadowed.differ("addresses", format!("{what}: {there} there, {here} here"));
    }
    for field in DECISIVE {
        let of = |version: &Value| version.get(field).filter(|value| !is_empty(value)).cloned();
        if of(theirs) != of(ours) {
            let kind = if field == "deprecated" {
                "deprecations"
            } else {
                "manifests"
            };
            shadowed.differ(kind, format!("{what}: {field} is another"));
        }
    }
}

fn compare_times(
    name: &PackageName,
    version: &str,
    theirs: &Value,
    ours: &Value,
    shadowed: &mut Shadowed,
) {
    let of = |document: &Value| {
        let text = document.get("time")?.get(version)?.as_str()?;
        Timestamp::parse_rfc3339(text)
    };
    let (there, here) = (of(theirs), of(ours));
    if there.is_some() && there != here {
        shadowed.differ("times", format!("{name}@{version}"));
    }
}

fn members<'v>(document: &'v Value, key: &str) -> Option<&'v Map<String, Value>> {
    document.get(key)?.as_object()
}

/// What means the same as nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// What stands behind the name of the package in the address of a tarball: registries are below paths of
/// their own, and escape scopes in ways of their own.
fn address(version: &Value) -> Option<String> {
    let address = version.get("dist")?.get("tarball")?.as_str()?;
    let decoded = percent_encoding::percent_decode_str(address).decode_utf8_lossy();
    let path = decoded.split(['?', '#']).next().unwrap_or_default();
    let (_, file) = path.split_once("/-/")?;
    Some(file.rsplit('/').next().unwrap_or(file).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "name": "n", "_rev": "1-a",
            "dist-tags": { "latest": "1.0.0" },
            "time": { "1.0.0": "2020-01-01T00:00:00.000Z" },
            "versions": { "1.0.0": {
                "version": "1.0.0", "dependencies": { "a": "1" },
                "dist": { "tarball": "http://there/x/@s%2fn/-/n-1.0.0.tgz", "shasum": "a" }
            } }
        })
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Value), expected: &[&str]) {
        let (theirs, mut ours) = (document(), document());
        change(&mut ours);
        let mut shadowed = Shadowed::default();
        let name = "n".parse().unwrap();
        compare_documents(&name, &theirs, &ours, Side::Full, &mut shadowed);
        let kinds: Vec<&str> = shadowed.differences.keys().copied().collect();
        assert_eq!(kinds, expected, "{shadowed}");
    }

    #[test]
    fn what_is_about_a_registry_itself_may_differ() {
        check(
            |ours| {
                ours["_rev"] = "9-z".into();
                ours["time"]["1.0.0"] = "2020-01-01T00:00:00Z".into();
                let version = &mut ours["versions"]["1.0.0"];
                version["dist"] = json!({ "tarball": "http://here/@s/n/-/n-1.0.0.tgz", "shasum": "a", "integrity": "sha512-x", "signatures": [{}] });
                version["bin"] = json!({});
                version["hasInstallScript"] = true.into();
            },
            &[],
        );
    }

    #[test]
    fn what_changes_an_install_is_found() {
        check(
            |ours| ours["dist-tags"]["next"] = "1.0.0".into(),
            &["dist-tags"],
        );
        check(|ours| ours["time"] = json!({}), &["times"]);
        check(|ours| ours["versions"]["2.0.0"] = json!({}), &["versions"]);
        check(|ours| ours["versions"] = json!({}), &["versions"]);
        check(
            |ours| ours["versions"]["1.0.0"]["dist"]["shasum"] = "b".into(),
            &["digests"],
        );
        check(
            |ours| ours["versions"]["1.0.0"]["dist"]["tarball"] = "x".into(),
            &["addresses"],
        );
        check(
            |ours| ours["versions"]["1.0.0"]["deprecated"] = "old".into(),
            &["deprecations"],
        );
        check(
            |ours| ours["versions"]["1.0.0"]["dependencies"]["b"] = "1".into(),
            &["manifests"],
        );
        check(|ours| *ours = json!([]), &["dist-tags", "versions"]);
    }
}
