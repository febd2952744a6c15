//! [`Hosted`]: a manifest that was published here, with the typed edits that change it. Each
//! touches what it names and copies everything else verbatim.

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Dist, Fields, Packument, parse_fields, quoted, text_of, write_object};
use crate::{
    lifecycle::random_hex,
    models::{
        Origin, PackageName, Restrictions, Tag, TarballName, Timestamp, Username, Version,
        without_build,
    },
};

const OWN_FIELD: &str = "_rustaccio";

/// What is left of something that was unpublished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// When it was removed.
    pub at: Timestamp,
    /// Who removed it.
    pub by: String,
    /// The integrity that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<String>,
}

/// What only we keep in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Own {
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub(super) tombstones: IndexMap<String, Tombstone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<Tombstone>,
    /// Versions that were rebuilt from their tarballs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recovered: Vec<String>,
    /// Who may use the package, as far as it says so itself.
    #[serde(skip_serializing_if = "Restrictions::is_empty")]
    restrictions: Restrictions,
    /// Provenance bundles by version, as they were sent.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    provenance: IndexMap<String, String>,
}

/// A hosted package's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosted {
    pub(super) packument: Packument,
    pub(super) own: Own,
}

impl Hosted {
    /// An empty manifest of a name that is published for the first time.
    pub fn new(name: &PackageName, origin: Origin, now: Timestamp) -> Self {
        let mut packument = Packument::default();
        for key in ["_id", "name"] {
            packument
                .fields
                .insert(key.to_owned(), quoted(name.as_str()));
        }
        packument.fields.insert("_rev".to_owned(), quoted("0-0"));
        packument
            .fields
            .insert("users".to_owned(), Bytes::from_static(b"{}"));
        packument
            .fields
            .insert("_attachments".to_owned(), Bytes::from_static(b"{}"));
        for key in ["created", "modified"] {
            packument
                .time
                .insert(key.to_owned(), quoted(&now.to_string()));
        }
        let own = Own {
            origin: Some(origin),
            ..Own::default()
        };
        Self { packument, own }
    }

    /// Reads a stored manifest.
    pub fn parse(json: &Bytes) -> Result<Self, serde_json::Error> {
        let mut packument = Packument::parse(json)?;
        let own = match packument.fields.shift_remove(OWN_FIELD) {
            Some(raw) => serde_json::from_slice(&raw)?,
            None => Own::default(),
        };
        Ok(Self { packument, own })
    }

    /// The manifest as it is stored.
    pub fn to_json(&self) -> Bytes {
        let mut fields = self.packument.fields.clone();
        let object = |members: &Fields| {
            let mut out = Vec::new();
            write_object(
                &mut out,
                members.iter().map(|(key, raw)| (key.as_str(), &raw[..])),
            );
            Bytes::from(out)
        };
        fields.insert("versions".to_owned(), object(&self.packument.versions));
        fields.insert("dist-tags".to_owned(), to_raw(&self.packument.dist_tags));
        fields.insert("time".to_owned(), object(&self.packument.time));
        fields.insert(OWN_FIELD.to_owned(), to_raw(&self.own));
        object(&fields)
    }

    /// The document inside.
    pub fn packument(&self) -> &Packument {
        &self.packument
    }

    /// Whose the name is. Older data does not say: what was mixed with an upstream is an
    /// override, everything else was born here.
    pub fn origin(&self) -> Origin {
        self.own.origin.unwrap_or_else(|| {
            let is_mixed = |key: &str| {
                self.packument
                    .field(key)
                    .is_some_and(|raw| raw.len() > 2 && raw.starts_with(b"{"))
            };
            if is_mixed("_uplinks") || is_mixed("_distfiles") {
                Origin::Override
            } else {
                Origin::Local
            }
        })
    }

    /// Whether the whole package was unpublished, or never had a version.
    pub fn is_gone(&self) -> bool {
        self.packument.versions.is_empty()
    }

    /// What is left of an unpublished version.
    pub fn tombstone(&self, version: &str) -> Option<&Tombstone> {
        self.own.tombstones.get(version)
    }

    /// Whether `version`, whatever its build metadata, was unpublished.
    pub fn was_unpublished(&self, version: &Version) -> bool {
        let mut removed = self.own.tombstones.keys();
        removed.any(|removed| without_build(removed) == version.without_build())
    }

    /// Leaves a tombstone of a version of which nothing can be told any more.
    pub fn mark_lost(&mut self, version: &Version, by: &str, now: Timestamp) {
        let tombstone = Tombstone {
            at: now,
            by: by.to_owned(),
            integrity: None,
        };
        let version = version.as_str().to_owned();
        self.own.tombstones.insert(version, tombstone);
    }

    /// Notes that `version` was rebuilt from its tarball.
    pub fn mark_recovered(&mut self, version: &Version) {
        self.own.recovered.push(version.as_str().to_owned());
    }

    /// Whether `version` was rebuilt from its tarball, and may lack what its publisher sent.
    pub fn is_recovered(&self, version: &str) -> bool {
        self.own.recovered.iter().any(|known| known == version)
    }

    /// Whether any version was rebuilt from its tarball.
    pub fn has_recovered(&self) -> bool {
        !self.own.recovered.is_empty()
    }

    /// The provenance bundle that was published with `version`.
    pub fn provenance(&self, version: &str) -> Option<&str> {
        self.own.provenance.get(version).map(String::as_str)
    }

    /// Keeps a provenance bundle, which may go with the next version that is added.
    pub fn set_provenance(&mut self, version: &Version, bundle: String) {
        let version = version.as_str().to_owned();
        self.own.provenance.insert(version, bundle);
    }

    /// Who may use the package, as far as it says so itself.
    pub fn restrictions(&self) -> &Restrictions {
        &self.own.restrictions
    }

    /// Changes who may use the package.
    pub fn restrict(&mut self, restrictions: Restrictions, now: Timestamp) {
        self.own.restrictions = restrictions;
        self.touch(now);
    }

    /// The revision that clients send back.
    pub fn rev(&self) -> String {
        self.packument.text("_rev").unwrap_or_default()
    }

    /// The files of all versions.
    pub fn files(&self, name: &PackageName) -> Vec<TarballName> {
        let versions = self.packument.versions.iter();
        versions
            .filter_map(|(version, raw)| Dist::of(raw)?.file(name, version))
            .collect()
    }

    /// The versions whose tarball is `file`.
    pub fn versions_of(&self, name: &PackageName, file: &TarballName) -> Vec<String> {
        let versions = self.packument.versions.iter();
        versions
            .filter(|(version, raw)| {
                let own = Dist::of(raw).and_then(|dist| dist.file(name, version));
                own.as_ref() == Some(file)
            })
            .map(|(version, _)| version.clone())
            .collect()
    }

    /// Adds a version with its dist-tags. The first version of a name born here becomes `latest`
    /// too.
    pub fn add_version(
        &mut self,
        version: &Version,
        file: &TarballName,
        manifest: Bytes,
        tags: &[Tag],
        now: Timestamp,
    ) {
        self.own.tombstones.shift_remove(version.as_str());
        self.own.removed = None;
        self.packument
            .versions
            .insert(version.as_str().to_owned(), manifest);
        let text = version.as_str().to_owned();
        for tag in tags {
            self.packument
                .dist_tags
                .insert(tag.as_str().to_owned(), text.clone());
        }
        if self.origin() == Origin::Local {
            let latest = self.packument.dist_tags.entry("latest".to_owned());
            latest.or_insert_with(|| text.clone());
        }
        self.packument
            .time
            .insert(text.clone(), quoted(&now.to_string()));
        let stub = to_raw(&serde_json::json!({ "version": text }));
        self.edit_object("_attachments", |files| {
            files.insert(file.as_str().to_owned(), stub);
        });
        self.touch(now);
    }

    /// Removes a version, its tags and its entry in `time`, and leaves a tombstone. `latest` moves
    /// to the highest version that is left.
    pub fn remove_version(&mut self, version: &str, by: &str, now: Timestamp) -> bool {
        let Some(raw) = self.packument.versions.shift_remove(version) else {
            return false;
        };
        let integrity = Dist::of(&raw)
            .and_then(|dist| dist.integrity)
            .map(|i| i.to_string());
        let tombstone = Tombstone {
            at: now,
            by: by.to_owned(),
            integrity,
        };
        self.own.tombstones.insert(version.to_owned(), tombstone);
        self.own.recovered.retain(|known| known != version);
        self.own.provenance.shift_remove(version);
        self.packument.time.shift_remove(version);
        self.packument
            .dist_tags
            .retain(|_, tagged| tagged != version);
        self.edit_object("_attachments", |files| {
            files.retain(|_, stub| {
                let stub = parse_fields(stub).ok();
                stub.and_then(|stub| text_of(stub.get("version")?))
                    .as_deref()
                    != Some(version)
            });
        });
        self.repair_latest();
        self.touch(now);
        true
    }

    /// Removes every version; the name stays ours.
    pub fn remove_all(&mut self, by: &str, now: Timestamp) {
        let versions: Vec<String> = self.packument.versions.keys().cloned().collect();
        for version in versions {
            self.remove_version(&version, by, now);
        }
        self.packument.dist_tags.clear();
        self.own.removed = Some(Tombstone {
            at: now,
            by: by.to_owned(),
            integrity: None,
        });
    }

    /// Points a dist-tag at a version that is there. Whether it is.
    pub fn set_tag(&mut self, tag: &Tag, version: &str, now: Timestamp) -> bool {
        if !self.packument.versions.contains_key(version) {
            return false;
        }
        self.packument
            .dist_tags
            .insert(tag.as_str().to_owned(), version.to_owned());
        self.touch(now);
        true
    }

    /// Removes a dist-tag; `latest` comes back as the highest version.
    pub fn remove_tag(&mut self, tag: &str, now: Timestamp) {
        if self.packument.dist_tags.shift_remove(tag).is_some() {
            self.repair_latest();
            self.touch(now);
        }
    }

    /// Sets the `deprecated` text of a version; an empty one removes it. Whether that changed
    /// anything.
    pub fn deprecate(&mut self, version: &str, text: &str, now: Timestamp) -> bool {
        let Some(raw) = self.packument.versions.get_mut(version) else {
            return false;
        };
        let Ok(mut fields) = parse_fields(raw) else {
            return false;
        };
        let before = fields
            .get("deprecated")
            .and_then(text_of)
            .unwrap_or_default();
        if before == text {
            return false;
        }
        if text.is_empty() {
            fields.shift_remove("deprecated");
        } else {
            fields.insert("deprecated".to_owned(), quoted(text));
        }
        let mut out = Vec::new();
        write_object(
            &mut out,
            fields.iter().map(|(key, raw)| (key.as_str(), &raw[..])),
        );
        *raw = out.into();
        self.touch(now);
        true
    }

    /// Adds or removes `user`'s star; nobody else's.
    pub fn star(&mut self, user: &Username, is_starred: bool, now: Timestamp) {
        self.edit_object("users", |users| {
            if is_starred {
                users.insert(user.as_str().to_owned(), Bytes::from_static(b"true"));
            } else {
                users.shift_remove(user.as_str());
            }
        });
        self.touch(now);
    }

    /// Whether `user` has starred the package.
    pub fn is_starred_by(&self, user: &Username) -> bool {
        self.starred_by().iter().any(|fan| fan == user.as_str())
    }

    /// Who has starred the package.
    pub fn starred_by(&self) -> Vec<String> {
        let users = self.packument.field("users");
        let users = users.and_then(|raw| parse_fields(raw).ok());
        let fans = users.unwrap_or_default().into_iter();
        fans.filter(|(_, raw)| raw == "true")
            .map(|(user, _)| user)
            .collect()
    }

    /// Replaces a top-level field such as `maintainers` or `readme`.
    pub fn set_field(&mut self, key: &str, raw: Bytes, now: Timestamp) {
        self.packument.fields.insert(key.to_owned(), raw);
        self.touch(now);
    }

    /// Moves to the next revision although nothing else changes: whoever read before cannot
    /// commit any more.
    pub fn touch(&mut self, now: Timestamp) {
        let rev = self.rev();
        let count = rev
            .split('-')
            .next()
            .and_then(|count| count.parse::<u64>().ok());
        let next = format!(
            "{}-{}",
            count.unwrap_or(0).saturating_add(1),
            random_hex::<16>()
        );
        self.packument
            .fields
            .insert("_rev".to_owned(), quoted(&next));
        self.packument
            .time
            .insert("modified".to_owned(), quoted(&now.to_string()));
    }

    pub(super) fn repair_latest(&mut self) {
        // An override leaves `latest` to upstream unless it was tagged so.
        if self.packument.dist_tags.contains_key("latest") || self.origin() == Origin::Override {
            return;
        }
        let versions = self.packument.versions.keys();
        let parsed = versions.filter_map(|version| version.parse::<Version>().ok());
        let highest = parsed
            .max_by(|one, other| (!one.is_prerelease(), one).cmp(&(!other.is_prerelease(), other)));
        if let Some(highest) = highest {
            let latest = highest.as_str().to_owned();
            self.packument.dist_tags.insert("latest".to_owned(), latest);
        }
    }

    pub(super) fn edit_object(&mut self, key: &str, edit: impl FnOnce(&mut Fields)) {
        let raw = self.packument.fields.get(key);
        let mut members = raw
            .and_then(|raw| parse_fields(raw).ok())
            .unwrap_or_default();
        edit(&mut members);
        let mut out = Vec::new();
        write_object(
            &mut out,
            members.iter().map(|(key, raw)| (key.as_str(), &raw[..])),
        );
        self.packument.fields.insert(key.to_owned(), out.into());
    }
}

/// Raw JSON of maps with string keys, which cannot fail to be written.
fn to_raw(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_millis(1_767_225_600_000)
    }

    fn with_versions(versions: &[&str]) -> Hosted {
        let mut hosted = Hosted::new(&"n".parse().unwrap(), Origin::Local, now());
        for version in versions {
            let manifest = format!(
                r#"{{"name":"n","version":"{version}","x":1.10,"dist":{{"tarball":"http://x/n-{version}.tgz"}}}}"#
            );
            let file = format!("n-{version}.tgz").parse().unwrap();
            hosted.add_version(
                &version.parse().unwrap(),
                &file,
                manifest.into(),
                &[],
                now(),
            );
        }
        hosted
    }

    fn again(hosted: &Hosted) -> Hosted {
        Hosted::parse(&hosted.to_json()).unwrap()
    }

    #[test]
    fn storing_and_reading_changes_nothing() {
        let hosted = with_versions(&["1.0.0", "1.1.0"]);
        assert_eq!(again(&hosted).to_json(), hosted.to_json());
        assert_eq!(again(&hosted).origin(), Origin::Local);
        assert!(hosted.rev().starts_with("2-"));
        assert_eq!(hosted.packument().resolve("latest"), Some("1.0.0"));
    }

    #[test]
    fn unpublishing_repairs_tags_and_leaves_a_tombstone() {
        let mut hosted = with_versions(&["1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"]);
        hosted.set_tag(&Tag::latest(), "1.0.0", now());
        assert!(hosted.remove_version("1.0.0", "alice", now()));
        assert!(!hosted.remove_version("1.0.0", "alice", now()));
        let hosted = again(&hosted);
        assert_eq!(hosted.packument().resolve("latest"), Some("1.10.0"));
        assert_eq!(hosted.tombstone("1.0.0").unwrap().by, "alice");
        assert!(
            !hosted
                .packument()
                .field("_attachments")
                .unwrap()
                .windows(5)
                .any(|w| w == b"1.0.0")
        );
        let mut hosted = hosted;
        hosted.remove_all("bob", now());
        assert!(again(&hosted).is_gone());
        assert!(again(&hosted).packument().dist_tags().is_empty());
    }

    #[test]
    fn deprecation_touches_nothing_else() {
        let mut hosted = with_versions(&["1.0.0"]);
        let before = hosted.packument().version("1.0.0").unwrap().clone();
        assert!(hosted.deprecate("1.0.0", "use \"2\"", now()));
        assert!(!hosted.deprecate("1.0.0", "use \"2\"", now()));
        assert!(
            hosted
                .packument()
                .version("1.0.0")
                .unwrap()
                .ends_with(br#","deprecated":"use \"2\""}"#)
        );
        assert!(hosted.deprecate("1.0.0", "", now()));
        assert_eq!(*hosted.packument().version("1.0.0").unwrap(), before);
        assert!(!hosted.deprecate("9.9.9", "x", now()));
    }

    #[test]
    fn stars_are_personal() {
        let mut hosted = with_versions(&["1.0.0"]);
        let (alice, proto) = ("alice".parse().unwrap(), "__proto__".parse().unwrap());
        hosted.star(&alice, true, now());
        hosted.star(&proto, true, now());
        hosted.star(&alice, false, now());
        assert!(!hosted.is_starred_by(&alice));
        assert!(again(&hosted).is_starred_by(&proto));
    }

    #[test]
    fn old_manifests_say_whose_they_are() {
        let parse = |json: &str| {
            Hosted::parse(&Bytes::from(json.to_owned()))
                .unwrap()
                .origin()
        };
        assert_eq!(parse(r#"{"name":"n"}"#), Origin::Local);
        assert_eq!(parse(r#"{"name":"n","_uplinks":{}}"#), Origin::Local);
        assert_eq!(
            parse(r#"{"name":"n","_distfiles":{"f":{}}}"#),
            Origin::Override
        );
    }
}
