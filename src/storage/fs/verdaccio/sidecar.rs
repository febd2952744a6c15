//! [`Sidecar`]: Verdaccio's one file of a package, in which what was published here and what uplinks
//! say of the name are mixed, read no deeper than needed.

use std::collections::HashSet;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::models::{PackageName, TarballName, Version};

/// Members of an object, each as the bytes that it was.
pub(super) type Members = IndexMap<String, Bytes>;

pub(super) const VERSIONS: &str = "versions";
pub(super) const TAGS: &str = "dist-tags";
const LATEST: &str = "latest";
pub(super) const TIME: &str = "time";
/// When uplinks were asked, by their names.
pub(super) const UPLINKS: &str = "_uplinks";
/// Where what is not hosted comes from, by file.
pub(super) const DISTFILES: &str = "_distfiles";
/// What lies beside the file: what was published and what was downloaded.
pub(super) const ATTACHMENTS: &str = "_attachments";
/// Members of `time` that are of the whole package.
pub(super) const OF_PACKAGE: [&str; 2] = ["created", "modified"];

/// What a sidecar says.
#[derive(Clone, Debug)]
pub(super) struct Sidecar {
    json: Bytes,
    pub(super) fields: Members,
}

/// What an attachment says of a file.
#[derive(Default, Deserialize)]
struct Attachment {
    /// Only what was published here has one.
    #[serde(default)]
    version: Option<serde_json::Value>,
}

/// Where a file comes from.
#[derive(Default, Deserialize)]
struct DistFile {
    #[serde(default)]
    registry: Option<serde_json::Value>,
}

/// What is known of the questions to one uplink.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// When it last answered, in milliseconds.
    #[serde(default)]
    pub(super) fetched: Option<f64>,
}

/// The tarball of a version.
#[derive(Default, Deserialize)]
pub(super) struct DistOf {
    #[serde(default)]
    pub(super) tarball: Option<String>,
    #[serde(default)]
    pub(super) shasum: Option<String>,
}

impl Sidecar {
    /// Reads the file; fails where it is no JSON object.
    pub(super) fn parse(json: &Bytes) -> Result<Self, serde_json::Error> {
        Ok(Self {
            fields: members_of(json)?,
            json: json.clone(),
        })
    }

    /// The members of a field that should be an object; none where it is something else.
    pub(super) fn members(&self, field: &str) -> Members {
        let raw = self.fields.get(field);
        raw.and_then(|raw| members_of(raw).ok()).unwrap_or_default()
    }

    /// The versions. What is no object is none.
    pub(super) fn versions(&self) -> Members {
        let mut versions = self.members(VERSIONS);
        versions.retain(|_, raw| raw.starts_with(b"{"));
        versions
    }

    /// The dist-tags. Of a tag that had several versions once, the last one counts.
    pub(super) fn tags(&self) -> IndexMap<String, String> {
        let tags = self.members(TAGS).into_iter();
        tags.filter_map(|(tag, raw)| Some((tag, tagged(&raw)?)))
            .collect()
    }

    /// Whether anything in it came from an uplink.
    pub(super) fn is_mixed(&self) -> bool {
        !self.members(UPLINKS).is_empty() || !self.members(DISTFILES).is_empty()
    }

    /// The versions that were published here. It counts what the file says of itself, and where it says
    /// nothing whether the name is `listed`.
    pub(super) fn hosted(&self, name: &PackageName, is_listed: bool) -> HashSet<String> {
        let is_mixed = self.is_mixed();
        let attachments = self.members(ATTACHMENTS);
        let published = attachments.values().filter_map(|raw| published(raw));
        let mut published: HashSet<String> = published.collect();
        if is_mixed && !is_listed && published.is_empty() {
            // Most of what is cached. Its versions are not looked at.
            return published;
        }
        let versions = self.versions();
        if !is_mixed {
            return versions.into_keys().collect();
        }
        published.retain(|version| versions.contains_key(version));
        if !is_listed {
            return published;
        }
        // Very old files do not say which version an upload was of; what was downloaded has an origin.
        let distfiles = self.members(DISTFILES);
        let is_unnamed = |file: &str| {
            let raw = attachments.get(file);
            !distfiles.contains_key(file) && raw.is_some_and(|raw| self::published(raw).is_none())
        };
        if attachments.keys().any(|file| is_unnamed(file)) {
            let uploaded = versions.iter().filter(|(version, raw)| {
                file_of(name, version, raw).is_some_and(|file| is_unnamed(file.as_str()))
            });
            published.extend(uploaded.map(|(version, _)| version.clone()));
        }
        published
    }

    /// The manifest of what was published here.
    pub(super) fn view(&self, hosted: &HashSet<String>) -> Bytes {
        let is_mixed = self.is_mixed();
        let is_plain = |raw: &Bytes| raw.starts_with(b"\"");
        if !is_mixed && self.members(TAGS).values().all(is_plain) {
            return self.json.clone();
        }
        let mut fields = self.fields.clone();
        let mut tags = self.tags();
        if is_mixed {
            tags.retain(|_, version| hosted.contains(version));
            let mut versions = self.versions();
            versions.retain(|version, _| hosted.contains(version));
            let mut time = self.members(TIME);
            time.retain(|key, _| hosted.contains(key) || OF_PACKAGE.contains(&key.as_str()));
            let mut attachments = self.members(ATTACHMENTS);
            let downloaded = self.downloaded(hosted);
            attachments.retain(|file, _| !downloaded.contains(file));
            for (field, members) in [
                (VERSIONS, versions),
                (TIME, time),
                (ATTACHMENTS, attachments),
            ] {
                if fields.contains_key(field) {
                    fields.insert(field.to_owned(), object(&members));
                }
            }
            // That uplinks know the name is said by what is left, in a fraction of the space.
            if !self.members(UPLINKS).is_empty() {
                fields.shift_remove(DISTFILES);
            }
        }
        fields.insert(TAGS.to_owned(), object(&quoted(tags)));
        object(&fields)
    }

    /// The files beside it that came from uplinks, or would.
    pub(super) fn downloaded(&self, hosted: &HashSet<String>) -> HashSet<String> {
        let attachments = self.members(ATTACHMENTS);
        let is_hosted = |file: &String| {
            let raw = attachments.get(file);
            raw.and_then(|raw| published(raw))
                .is_some_and(|version| hosted.contains(&version))
        };
        let files = self.members(DISTFILES).into_keys();
        files.filter(|file| !is_hosted(file)).collect()
    }

    /// What `uplink` said of the name, as a document of its own, and when that was. `None` where
    /// nothing is known of it.
    pub(super) fn of_uplink(
        &self,
        name: &PackageName,
        uplink: &str,
        hosted: &HashSet<String>,
    ) -> Option<(Bytes, Asked)> {
        let uplinks = self.members(UPLINKS);
        let asked = serde_json::from_slice(uplinks.get(uplink)?).unwrap_or_default();
        let mut versions = self.versions();
        versions.retain(|version, _| !hosted.contains(version));
        if uplinks.len() > 1 {
            // What does not say where it comes from came from the first.
            let first = uplinks.keys().next().cloned().unwrap_or_default();
            let distfiles = self.members(DISTFILES);
            let owner = |version: &str, raw: &Bytes| {
                let file = file_of(name, version, raw)?;
                let found = distfiles.get(file.as_str())?;
                let found: DistFile = serde_json::from_slice(found).ok()?;
                found.registry?.as_str().map(str::to_owned)
            };
            versions.retain(|version, raw| {
                let owner = owner(version, raw).filter(|owner| uplinks.contains_key(owner));
                owner.as_deref().unwrap_or(&first) == uplink
            });
        }
        if versions.is_empty() {
            return None;
        }
        let mut tags = self.tags();
        tags.retain(|_, version| versions.contains_key(version));
        if !tags.contains_key(LATEST)
            && let Some(latest) = latest_of(&versions)
        {
            // What was published here has taken the tag.
            tags.insert(LATEST.to_owned(), latest);
        }
        let mut time = self.members(TIME);
        time.retain(|key, _| versions.contains_key(key) || OF_PACKAGE.contains(&key.as_str()));
        let document: Members = [
            ("name".to_owned(), text(name.as_str())),
            (TAGS.to_owned(), object(&quoted(tags))),
            (VERSIONS.to_owned(), object(&versions)),
            (TIME.to_owned(), object(&time)),
        ]
        .into_iter()
        .collect();
        Some((object(&document), asked))
    }
}

/// The highest of `versions` that is none before a release, if there is any.
fn latest_of(versions: &Members) -> Option<String> {
    let parsed = versions
        .keys()
        .filter_map(|text| text.parse::<Version>().ok());
    let (before, released): (Vec<Version>, Vec<Version>) = parsed.partition(Version::is_prerelease);
    let latest = released
        .into_iter()
        .max()
        .or_else(|| before.into_iter().max());
    latest.map(|version| version.as_str().to_owned())
}

/// The members of a JSON object, each as a slice of `json`.
pub(super) fn members_of(json: &Bytes) -> Result<Members, serde_json::Error> {
    let members: IndexMap<String, &RawValue> = serde_json::from_slice(json)?;
    let slice = |raw: &RawValue| json.slice_ref(raw.get().as_bytes());
    let members = members.into_iter().map(|(key, raw)| (key, slice(raw)));
    Ok(members.collect())
}

/// The version that an attachment says was published.
fn published(raw: &Bytes) -> Option<String> {
    let attachment: Attachment = serde_json::from_slice(raw).ok()?;
    attachment.version?.as_str().map(str::to_owned)
}

/// The version that a raw tag means.
fn tagged(raw: &Bytes) -> Option<String> {
    match serde_json::from_slice(raw).ok()? {
        serde_json::Value::String(version) => Some(version),
        serde_json::Value::Array(versions) => {
            let mut versions = versions.into_iter().rev();
            versions.find_map(|version| version.as_str().map(str::to_owned))
        }
        _ => None,
    }
}

/// The `dist` of a raw version.
pub(super) fn dist_of(version: &Bytes) -> DistOf {
    #[derive(Deserialize)]
    struct Dist {
        dist: DistOf,
    }
    serde_json::from_slice::<Dist>(version).map_or_else(|_| DistOf::default(), |found| found.dist)
}

/// The file of the tarball of a raw version.
pub(super) fn file_of(name: &PackageName, version: &str, raw: &Bytes) -> Option<TarballName> {
    TarballName::at(&dist_of(raw).tarball?, name, version)
}

/// A JSON string.
pub(super) fn text(text: &str) -> Bytes {
    serde_json::Value::from(text).to_string().into()
}

/// Members that are strings.
pub(super) fn quoted(members: IndexMap<String, String>) -> Members {
    let members = members.into_iter();
    members.map(|(key, value)| (key, text(&value))).collect()
}

/// A JSON object of `members`.
pub(super) fn object(members: &Members) -> Bytes {
    let length = members.iter().map(|(key, raw)| key.len() + raw.len() + 4);
    let mut out = Vec::with_capacity(length.sum::<usize>() + 2);
    out.push(b'{');
    for (key, raw) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&text(key));
        out.push(b':');
        out.extend_from_slice(raw);
    }
    out.push(b'}');
    out.into()
}
