//! [`prepare_manifest`]: the version object that is stored, made from the one that was sent.

use serde::Serialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{
    archive::{TarballFacts, runs_at_install},
    body::RawObject,
    hashing::TarballDigests,
    selection::NewVersion,
};
use crate::{
    error::RegistryError,
    models::PackageName,
    registry::packument::{ATTESTATIONS_PATH, signature},
    storage::SigningKeys,
};

/// Origin of stored tarball URLs; readers put the public address in its place.
pub(in crate::registry) const STORED_ORIGIN: &str = "http://localhost:4873";

/// What clients leak about the publisher's machine, and what only the registry may say.
const DROPPED: [&str; 10] = [
    "_resolved",
    "_from",
    "_integrity",
    "integrity",
    "shasum",
    "_npmUser",
    "_hasShrinkwrap",
    "hasInstallScript",
    "_attachments",
    "readme",
];

/// Fields of `dist` that a signature of the registry stands behind.
const DROPPED_FROM_DIST: [&str; 3] = ["signatures", "attestations", "npm-signature"];

/// Who publishes, as `_npmUser` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Publisher {
    /// The user's name.
    pub name: String,
    /// The address, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What the registry knows about the tarball and its sender.
#[derive(Clone, Copy, Debug)]
pub struct ManifestFacts<'a> {
    /// Digests of the tarball's bytes.
    pub digests: &'a TarballDigests,
    /// What is in the tarball.
    pub archive: &'a TarballFacts,
    /// Who sent it; `None` for an anonymous caller.
    pub publisher: Option<&'a Publisher>,
    /// What the version is signed with, if it is.
    pub signing_keys: Option<&'a SigningKeys>,
    /// What its provenance bundle states, if it has one.
    pub provenance: Option<&'a str>,
}

/// A version object ready to be stored.
#[derive(Clone, Debug)]
pub struct PreparedManifest {
    /// The object.
    pub manifest: Box<RawValue>,
    /// The README that was in it; it belongs to the document, not to each version.
    pub readme: Option<String>,
}

/// Returns the version object with the registry's own fields set, leaks dropped, and everything
/// else as it was, in bytes and order.
pub fn prepare_manifest(
    name: &PackageName,
    new: &NewVersion,
    facts: ManifestFacts<'_>,
) -> Result<PreparedManifest, RegistryError> {
    let mut fields: RawObject =
        serde_json::from_str(new.manifest.get()).map_err(RegistryError::internal)?;
    let readme = fields
        .get("readme")
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    let has_install_script = facts.archive.has_install_script
        || runs_at_install(fields.get("scripts").map(AsRef::as_ref));
    for field in DROPPED {
        fields.shift_remove(field);
    }
    set(&mut fields, "name", &name.as_str())?;
    set(&mut fields, "version", &new.version.as_str())?;
    set(&mut fields, "_id", &format!("{name}@{}", new.version))?;
    let dist = prepare_dist(name, new, facts, fields.get("dist").map(AsRef::as_ref))?;
    set(&mut fields, "dist", &dist)?;
    if has_install_script {
        set(&mut fields, "hasInstallScript", &true)?;
    }
    if facts.archive.has_shrinkwrap {
        set(&mut fields, "_hasShrinkwrap", &true)?;
    }
    if let Some(publisher) = facts.publisher {
        set(&mut fields, "_npmUser", publisher)?;
    }
    let manifest = to_raw_value(&fields).map_err(RegistryError::internal)?;
    Ok(PreparedManifest { manifest, readme })
}

fn prepare_dist(
    name: &PackageName,
    new: &NewVersion,
    facts: ManifestFacts<'_>,
    sent: Option<&RawValue>,
) -> Result<RawObject, RegistryError> {
    let mut dist: RawObject = sent
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    for field in DROPPED_FROM_DIST {
        dist.shift_remove(field);
    }
    let tarball = format!("{STORED_ORIGIN}/{name}/-/{}", new.file);
    let integrity = facts.digests.sha512.to_string();
    set(&mut dist, "integrity", &integrity)?;
    set(&mut dist, "shasum", &facts.digests.sha1.to_hex())?;
    set(&mut dist, "tarball", &tarball)?;
    set(&mut dist, "fileCount", &facts.archive.file_count)?;
    set(&mut dist, "unpackedSize", &facts.archive.unpacked_size)?;
    if let Some(keys) = facts.signing_keys {
        let signature = signature(keys, name, new.version.as_str(), &integrity);
        set(&mut dist, "signatures", &[signature])?;
    }
    if let Some(predicate_type) = facts.provenance {
        let segment = name.to_path_segment();
        let version = &new.version;
        let url = format!("{STORED_ORIGIN}{ATTESTATIONS_PATH}{segment}@{version}");
        let provenance = json!({ "url": url, "provenance": { "predicateType": predicate_type } });
        set(&mut dist, "attestations", &provenance)?;
    }
    Ok(dist)
}

/// Replaces a field in its place, or appends it.
fn set(fields: &mut RawObject, field: &str, value: &impl Serialize) -> Result<(), RegistryError> {
    let raw = to_raw_value(value).map_err(RegistryError::internal)?;
    fields.insert(field.to_owned(), raw);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        models::Tag,
        registry::publish::hashing::{DistClaims, TarballHasher},
    };

    fn prepared(sent: &str, archive: &TarballFacts) -> PreparedManifest {
        let name: PackageName = "@s/n".parse().unwrap();
        let new = NewVersion {
            version: "1.0.0".parse().unwrap(),
            file: "n-1.0.0.tgz".parse().unwrap(),
            manifest: RawValue::from_string(sent.to_owned()).unwrap(),
            tags: vec![Tag::latest()],
            claims: DistClaims::default(),
            is_stored: false,
        };
        let digests = TarballHasher::default().finish();
        let publisher = Publisher {
            name: "alice".to_owned(),
            email: None,
        };
        let facts = ManifestFacts {
            digests: &digests,
            archive,
            publisher: Some(&publisher),
            signing_keys: None,
            provenance: None,
        };
        prepare_manifest(&name, &new, facts).unwrap()
    }

    #[test]
    fn the_registry_says_what_it_knows_and_keeps_the_rest() {
        let archive = TarballFacts {
            file_count: 2,
            unpacked_size: 30,
            has_shrinkwrap: true,
            ..TarballFacts::default()
        };
        let sent = r##"{"z":1.50,"name":"@s/n","_id":"evil","readme":"# n","dist":{"x": 1e2,"tarball":"http://evil/","shasum":"0","signatures":[{}]},"_resolved":"/home/a","_from":"file:","_integrity":"i","integrity":"i","shasum":"s","_npmUser":{"name":"root"},"hasInstallScript":true,"__proto__":{"a": 1},"version":"1.0.0"}"##;
        let prepared = prepared(sent, &archive);
        insta::assert_snapshot!(
            prepared.manifest.get(),
            @r#"{"z":1.50,"name":"@s/n","_id":"@s/n@1.0.0","dist":{"x":1e2,"tarball":"http://localhost:4873/@s/n/-/n-1.0.0.tgz","shasum":"da39a3ee5e6b4b0d3255bfef95601890afd80709","integrity":"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==","fileCount":2,"unpackedSize":30},"__proto__":{"a": 1},"version":"1.0.0","_hasShrinkwrap":true,"_npmUser":{"name":"alice"}}"#
        );
        assert_eq!(prepared.readme.as_deref(), Some("# n"));
    }

    #[track_caller]
    fn check_install_script(sent: &str, in_tarball: bool, expected: bool) {
        let archive = TarballFacts {
            has_install_script: in_tarball,
            ..TarballFacts::default()
        };
        let prepared = prepared(sent, &archive);
        let has = prepared
            .manifest
            .get()
            .contains(r#""hasInstallScript":true"#);
        assert_eq!(has, expected, "{sent} {in_tarball}");
    }

    #[test]
    fn install_scripts_are_found_wherever_they_are() {
        check_install_script("{}", false, false);
        check_install_script("{}", true, true);
        check_install_script(r#"{"scripts":{"postinstall":"x"}}"#, false, true);
        check_install_script(r#"{"scripts":{"prepare":"x","install":""}}"#, false, false);
        check_install_script(r#"{"scripts":"x","hasInstallScript":true}"#, false, false);
    }
}
