//! [`Sidecar`]: Verdaccio's one file of a package, in which what was published here and what uplinks
//! say of the name are mixed, read no deeper than needed.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::members::{Members, members_of, object, quoted, text};
use crate::{
    config::VerdaccioFolder,
    models::{Origin, PackageName, TarballName, Version},
};

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
/// What only we know of a package.
const OWN: &str = "_rustaccio";
/// In it, whose the name is.
const ORIGIN: &str = "origin";
/// Members of `time` that are of the whole package.
pub(super) const OF_PACKAGE: [&str; 2] = ["created", "modified"];

/// What Verdaccio's list says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// It is hosted.
    Listed,
    /// It is not.
    Unlisted,
    /// The list is lost.
    Unknown,
}

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
    version: Option<Value>,
}

/// Where a file comes from.
#[derive(Default, Deserialize)]
struct DistFile {
    #[serde(default)]
    registry: Option<Value>,
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
    /// Reads the file; fails where it is no JSON object, or says something twice.
    pub(super) fn parse(json: &Bytes) -> Result<Self, serde_json::Error> {
        Ok(Self {
            fields: members_of(json)?,
            json: json.clone(),
        })
    }

    /// Fails where a field that says what is hosted is there and is not what it should be: a version
    /// that is not seen would count as unpublished.
    pub(super) fn require_whole(&self) -> Result<(), serde_json::Error> {
        for field in [VERSIONS, ATTACHMENTS, DISTFILES] {
            if let Some(raw) = self.fields.get(field) {
                members_of(raw)?;
            }
        }
        Ok(())
    }

    /// Whether a file beside it says that it was published here.
    pub(super) fn has_uploads(&self) -> bool {
        let attachments = self.members(ATTACHMENTS);
        attachments.values().any(|raw| published(raw).is_some())
    }

    /// Whose the name is: as it says itself, if it does.
    pub(super) fn origin(&self) -> Option<Origin> {
        let own = members_of(self.fields.get(OWN)?).ok()?;
        serde_json::from_slice(own.get(ORIGIN)?).ok()
    }

    /// Whose the name is by what else is in the file: one that uplinks know is an override.
    pub(super) fn deduced_origin(&self) -> Origin {
        if self.is_mixed() {
            Origin::Override
        } else {
            Origin::Local
        }
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

    /// The versions that were published here: what says so itself, and in a file of a name that is
    /// listed also what did not come from an uplink. Not everything that was published says so: very old
    /// attachments have no version, and attachments were lost.
    pub(super) fn hosted(
        &self,
        name: &PackageName,
        listing: Listing,
        uplinks: &BTreeSet<String>,
    ) -> HashSet<String> {
        let is_mixed = self.is_mixed();
        let attachments = self.members(ATTACHMENTS);
        let published = attachments.values().filter_map(published);
        let mut published: HashSet<String> = published.collect();
        let is_listed = listing == Listing::Listed;
        let is_plain = !is_mixed && listing != Listing::Unlisted;
        if published.is_empty() && !is_listed && !is_plain {
            // Most of what is cached. Its versions are not looked at.
            return published;
        }
        let versions = self.versions();
        if is_listed && !is_mixed {
            return versions.into_keys().collect();
        }
        published.retain(|version| versions.contains_key(version));
        if is_listed || is_plain {
            let distfiles = self.members(DISTFILES);
            let came_from_uplink = |version: &str, raw: &Bytes| {
                let dist = dist_of(raw);
                let file = dist.file(name, version);
                file.is_some_and(|file| distfiles.contains_key(file.as_str()))
                    || dist.is_at(uplinks)
            };
            let own = versions
                .iter()
                .filter(|(version, raw)| !came_from_uplink(version, raw));
            published.extend(own.map(|(version, _)| version.clone()));
        }
        published
    }

    /// The manifest of what was published here, under a name of this `origin`.
    pub(super) fn view(&self, hosted: &HashSet<String>, origin: Origin) -> Bytes {
        let is_mixed = self.is_mixed();
        let is_plain = |raw: &Bytes| raw.starts_with(b"\"");
        if !is_mixed
            && origin == Origin::Local
            && self.members(TAGS).values().all(is_plain)
            && self.origin().is_none_or(|known| known == origin)
        {
            return self.json.clone();
        }
        let mut fields = self.fields.clone();
        let mut tags = self.tags();
        if is_mixed {
            tags.retain(|_, version| hosted.contains(version));
            let mut versions = self.versions();
            versions.retain(|version, _| hosted.contains(version));
            if origin == Origin::Local
                && !tags.contains_key(LATEST)
                && let Some(latest) = latest_of(&versions)
            {
                // Verdaccio has given it to what an uplink has of the same name.
                tags.insert(LATEST.to_owned(), latest);
            }
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
        set_origin(&mut fields, origin);
        object(&fields)
    }

    /// The files beside it that came from uplinks, or would.
    pub(super) fn downloaded(&self, hosted: &HashSet<String>) -> HashSet<String> {
        let attachments = self.members(ATTACHMENTS);
        let is_hosted = |file: &String| {
            let raw = attachments.get(file);
            raw.and_then(published)
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

/// The version that an attachment says was published.
fn published(raw: &Bytes) -> Option<String> {
    let attachment: Attachment = serde_json::from_slice(raw).ok()?;
    attachment.version?.as_str().map(str::to_owned)
}

/// The version that a raw tag means.
fn tagged(raw: &Bytes) -> Option<String> {
    match serde_json::from_slice(raw).ok()? {
        Value::String(version) => Some(version),
        Value::Array(versions) => {
            let mut versions = versions.into_iter().rev();
            versions.find_map(|version| version.as_str().map(str::to_owned))
        }
        _ => None,
    }
}

impl DistOf {
    /// The file of the tarball.
    pub(super) fn file(&self, name: &PackageName, version: &str) -> Option<TarballName> {
        TarballName::at(self.tarball.as_deref()?, name, version)
    }

    /// Whether the tarball is at one of these hosts.
    fn is_at(&self, hosts: &BTreeSet<String>) -> bool {
        let url = self.tarball.as_deref().map(Url::parse);
        let host = url.and_then(Result::ok);
        let host = host.as_ref().and_then(VerdaccioFolder::host_of);
        host.is_some_and(|host| hosts.contains(&host))
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
    dist_of(raw).file(name, version)
}

/// Lets the manifest of these `fields` say whose the name is.
pub(super) fn set_origin(fields: &mut Members, origin: Origin) {
    let mut own = match fields.get(OWN).map(members_of) {
        Some(Ok(own)) => own,
        Some(Err(_)) | None => Members::new(),
    };
    let origin = serde_json::to_string(&origin).unwrap_or_default();
    own.insert(ORIGIN.to_owned(), origin.into());
    fields.insert(OWN.to_owned(), object(&own));
}
