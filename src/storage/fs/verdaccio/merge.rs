//! Writing a sidecar: what is hosted is new, what belongs to uplinks stays as it was.

use std::collections::HashSet;

use bytes::Bytes;
use indexmap::IndexMap;

use super::{
    members::{Members, members_of, object, quoted, text},
    sidecar::{
        ATTACHMENTS, DISTFILES, OF_PACKAGE, Sidecar, TAGS, TIME, UPLINKS, VERSIONS, dist_of,
        set_origin,
    },
};
use crate::{
    lifecycle::random_hex,
    models::{Origin, PackageName, TarballName},
};

/// What of a file belongs to uplinks.
#[derive(Default)]
struct Carried {
    versions: Members,
    tags: IndexMap<String, String>,
    time: Members,
    uplinks: Members,
    distfiles: Members,
    /// Of downloaded files.
    attachments: Members,
    /// Of all files, as they were.
    all_attachments: Members,
}

impl Carried {
    /// What of `old` is not `hosted` and none of the `new` versions.
    fn of(old: &Sidecar, hosted: &HashSet<String>, new: Option<&Sidecar>) -> Self {
        let uplinks = old.members(UPLINKS);
        let all_attachments = old.members(ATTACHMENTS);
        if !old.is_mixed() {
            return Self {
                uplinks,
                all_attachments,
                ..Self::default()
            };
        }
        let taken = new.map(Sidecar::versions).unwrap_or_default();
        let is_new = |version: &str| taken.contains_key(version);
        let mut versions = old.versions();
        versions.retain(|version, _| !hosted.contains(version) && !is_new(version));
        let mut tags = old.tags();
        tags.retain(|_, version| versions.contains_key(version));
        let mut time = old.members(TIME);
        time.retain(|key, _| {
            !hosted.contains(key) && !is_new(key) && !OF_PACKAGE.contains(&key.as_str())
        });
        let downloaded = old.downloaded(hosted);
        let mut attachments = all_attachments.clone();
        attachments.retain(|file, _| downloaded.contains(file));
        let mut distfiles = old.members(DISTFILES);
        distfiles.retain(|file, _| downloaded.contains(file));
        Self {
            versions,
            tags,
            time,
            uplinks,
            distfiles,
            attachments,
            all_attachments,
        }
    }
}

/// The file of `new`, a manifest that has versions, in the place of `old`, of which these versions
/// were `hosted`; as Verdaccio writes such files. It says that the name is of this `origin`.
pub(super) fn merged(
    name: &PackageName,
    old: Option<(&Sidecar, &HashSet<String>)>,
    new: &Sidecar,
    origin: Origin,
) -> Bytes {
    let mut carried = match old {
        Some((old, hosted)) => Carried::of(old, hosted, Some(new)),
        None => Carried {
            uplinks: new.members(UPLINKS),
            ..Carried::default()
        },
    };
    let mut attachments = Members::new();
    let own = new.members(ATTACHMENTS);
    for (version, raw) in &new.versions() {
        let dist = dist_of(raw);
        let address = dist.tarball.as_deref().unwrap_or_default();
        let Some(file) = TarballName::at(address, name, version) else {
            continue;
        };
        let file = file.as_str();
        carried.distfiles.shift_remove(file);
        carried.attachments.shift_remove(file);
        let before = own.get(file).or_else(|| carried.all_attachments.get(file));
        let entry = attachment(before, version, dist.shasum.as_deref());
        attachments.insert(file.to_owned(), entry);
    }
    for (file, raw) in own {
        let is_anothers = carried.attachments.contains_key(&file);
        if !is_anothers && !attachments.contains_key(&file) {
            attachments.insert(file, raw);
        }
    }
    attachments.extend(carried.attachments);
    if carried.uplinks.is_empty() && carried.distfiles.is_empty() {
        // Nothing would tell them from what is hosted.
        carried.versions.clear();
        carried.tags.clear();
    }
    let mut versions = carried.versions;
    versions.extend(new.versions());
    let mut tags = carried.tags;
    tags.extend(new.tags());
    let mut time = carried.time;
    for (key, raw) in new.members(TIME) {
        time.insert(key, raw);
    }
    let mut fields = new.fields.clone();
    for (field, members) in [
        (VERSIONS, versions),
        (TIME, time),
        (TAGS, quoted(tags)),
        (UPLINKS, carried.uplinks),
        (DISTFILES, carried.distfiles),
        (ATTACHMENTS, attachments),
    ] {
        fields.insert(field.to_owned(), object(&members));
    }
    set_origin(&mut fields, origin);
    complete(name, &mut fields);
    object(&fields)
}

/// What is left of `old`, of which these versions were `hosted`, without them. `None` where nothing of it
/// came from uplinks.
pub(super) fn without_hosted(
    name: &PackageName,
    old: &Sidecar,
    hosted: &HashSet<String>,
) -> Option<Bytes> {
    if !old.is_mixed() {
        return None;
    }
    let carried = Carried::of(old, hosted, None);
    if carried.versions.is_empty() {
        return None;
    }
    // What was hosted had taken the place of what uplinks have: Verdaccio is to ask for all of it again,
    // however short the time since, and whatever the tag.
    let ask_again = Bytes::from_static(br#"{"etag":"","fetched":0}"#);
    let uplinks = carried
        .uplinks
        .into_keys()
        .map(|uplink| (uplink, ask_again.clone()));
    let mut fields = Members::new();
    for (field, members) in [
        (VERSIONS, carried.versions),
        (TIME, carried.time),
        (TAGS, quoted(carried.tags)),
        (UPLINKS, uplinks.collect()),
        (DISTFILES, carried.distfiles),
        (ATTACHMENTS, carried.attachments),
    ] {
        fields.insert(field.to_owned(), object(&members));
    }
    if let Some(revision) = old.fields.get("_rev") {
        fields.insert("_rev".to_owned(), revision.clone());
    }
    complete(name, &mut fields);
    Some(object(&fields))
}

/// Adds what Verdaccio expects in every file.
fn complete(name: &PackageName, fields: &mut Members) {
    let is_text = |raw: Option<&Bytes>| raw.is_some_and(|raw| raw.starts_with(b"\""));
    for key in ["name", "_id"] {
        if !is_text(fields.get(key)) {
            fields.insert(key.to_owned(), text(name.as_str()));
        }
    }
    if !fields.get("users").is_some_and(|raw| raw.starts_with(b"{")) {
        fields.insert("users".to_owned(), Bytes::from_static(b"{}"));
    }
    if !is_text(fields.get("readme")) {
        fields.insert("readme".to_owned(), text(""));
    }
    if !is_text(fields.get("_rev")) {
        let revision = text(&format!("1-{}", random_hex::<8>()));
        fields.insert("_rev".to_owned(), revision);
    }
}

/// What is said of the file of a published version: what was said `before`, the version, and the hash
/// by which Verdaccio knows the file again.
fn attachment(before: Option<&Bytes>, version: &str, shasum: Option<&str>) -> Bytes {
    let known = before.and_then(|raw| members_of(raw).ok());
    let mut members = known.unwrap_or_default();
    if let Some(shasum) = shasum {
        members.insert("shasum".to_owned(), text(shasum));
    }
    members.insert("version".to_owned(), text(version));
    object(&members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use std::collections::BTreeSet;

    use super::{super::sidecar::Listing, *};

    /// A file with versions that were published, came from an uplink, or came from one that did not leave
    /// a record of where.
    fn sidecar(origins: &[u8]) -> (Sidecar, HashSet<String>) {
        let mut file = json!({ "versions": {}, "_distfiles": {}, "_attachments": {}, "time": {},
            "dist-tags": {}, "_uplinks": { "up": {} }, "extra": [1, 2] });
        let mut hosted = HashSet::new();
        for (number, origin) in origins.iter().enumerate() {
            let (version, tarball) = (format!("{number}.0.0"), format!("n-{number}.0.0.tgz"));
            // Where nothing else says it, the address does.
            let host = if *origin == 2 {
                "up.example"
            } else {
                "old.example"
            };
            let address = format!("http://{host}/n/-/{tarball}");
            file["versions"][&version] = json!({ "dist": { "tarball": address } });
            file["time"][&version] = json!(number);
            file["dist-tags"][format!("tag{number}")] = json!(version);
            match origin {
                0 => {
                    file["_attachments"][&tarball] = json!({ "version": version });
                    hosted.insert(version);
                }
                1 => file["_distfiles"][&tarball] = json!({ "registry": "up" }),
                _ => {}
            }
        }
        let sidecar = Sidecar::parse(&file.to_string().into()).unwrap();
        (sidecar, hosted)
    }

    fn value(json: &Bytes) -> Value {
        serde_json::from_slice(json).unwrap()
    }

    proptest! {
        #[test]
        fn nothing_changes_sides(origins in prop::collection::vec(0_u8..3, 0..8)) {
            let name: PackageName = "n".parse().unwrap();
            let (old, hosted) = sidecar(&origins);
            let uplinks = BTreeSet::from(["up.example".to_owned()]);
            prop_assert_eq!(&old.hosted(&name, Listing::Listed, &uplinks), &hosted);
            let view = Sidecar::parse(&old.view(&hosted, Origin::Override)).unwrap();
            prop_assert_eq!(view.versions().len(), hosted.len());
            let merged = merged(&name, Some((&old, &hosted)), &view, Origin::Override);
            let again = Sidecar::parse(&merged).unwrap();
            prop_assert_eq!(&again.hosted(&name, Listing::Listed, &uplinks), &hosted);
            for field in [VERSIONS, TIME, TAGS, UPLINKS, DISTFILES, "extra"] {
                let before = old.fields.get(field).map(value);
                prop_assert_eq!(again.fields.get(field).map(value), before, "{}", field);
            }
            let rest = without_hosted(&name, &again, &hosted);
            prop_assert_eq!(rest.is_some(), hosted.len() < origins.len());
            if let Some(rest) = rest {
                let rest = Sidecar::parse(&rest).unwrap();
                prop_assert_eq!(rest.versions().len(), origins.len() - hosted.len());
                prop_assert!(rest.hosted(&name, Listing::Unlisted, &uplinks).is_empty());
                let (document, _) = rest.of_uplink(&name, "up", &HashSet::new()).unwrap();
                let document = Sidecar::parse(&document).unwrap();
                prop_assert_eq!(document.versions().len(), rest.versions().len());
            }
        }
    }
}
