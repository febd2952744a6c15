//! [`Publish::select_version`]: which of the versions in a document is the one being published.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{body::RawObject, hashing::DistClaims, intent::Publish};
use crate::{
    error::RegistryError,
    models::{PackageName, Tag, TarballName, Version},
};

/// The one version that a document publishes.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The version.
    pub version: Version,
    /// The name that its tarball gets.
    pub file: TarballName,
    /// Its object in `versions`, as the client sent it.
    pub manifest: Box<RawValue>,
    /// The tags that are to point at it; never empty.
    pub tags: Vec<Tag>,
    /// What `dist` says about the tarball's bytes.
    pub claims: DistClaims,
    /// Whether this very version is stored, so that only a retry may pass.
    pub is_stored: bool,
}

impl Publish {
    /// Returns the version that the tarball's name dictates. Other versions in the document must
    /// be stored already and are passed over.
    pub fn select_version(
        &self,
        is_stored: impl Fn(&str) -> bool,
    ) -> Result<NewVersion, RegistryError> {
        let (key, manifest) = self
            .candidates
            .iter()
            .find(|(version, _)| self.is_named_after(&self.tarball.key, version, "tgz"))
            .ok_or_else(|| self.no_version_for_tarball())?;
        let version: Version = key
            .parse()
            .map_err(|error| bad_request(format!("{error}")))?;
        let others = self.candidates.keys().filter(|other| *other != key);
        if let Some(other) = others.into_iter().find(|other| !is_stored(other)) {
            return Err(bad_request(format!(
                "a publish has exactly one new version, but `{}` and `{key}` are new",
                cut(other)
            )));
        }
        if let Some(bundle) = &self.bundle
            && !self.is_named_after(&bundle.key, key, "sigstore")
        {
            return Err(bad_request(format!(
                "the attachment `{}` is not of version `{key}`",
                cut(&bundle.key)
            )));
        }
        let file = TarballName::of(&self.name, &version)
            .map_err(|error| bad_request(format!("{error}")))?;
        let claims = check_version(&self.name, key, manifest)?;
        Ok(NewVersion {
            tags: self.tags(key, &is_stored)?,
            is_stored: is_stored(key),
            manifest: manifest.clone(),
            version,
            file,
            claims,
        })
    }

    /// Whether an attachment's key is the name of this version's file. Clients put the scope
    /// before it in several ways.
    fn is_named_after(&self, key: &str, version: &str, extension: &str) -> bool {
        let expected = format!("{}-{version}.{extension}", self.name.base());
        let file = key.rsplit(['/', '\\']).next().unwrap_or(key);
        if file == expected {
            return true;
        }
        let Some(scope) = self.name.scope() else {
            return false;
        };
        let bare_scope = scope.trim_start_matches('@');
        ["%2f", "%2F", "-"].iter().any(|separator| {
            [scope, bare_scope]
                .iter()
                .any(|scope| file == format!("{scope}{separator}{expected}"))
        })
    }

    fn no_version_for_tarball(&self) -> RegistryError {
        bad_request(format!(
            "the attachment `{}` belongs to no version in the body: its name must be `{}-<version>.tgz`",
            cut(&self.tarball.key),
            self.name.base()
        ))
    }

    /// Tags of the new version. Those of stored versions come from a merged document and change
    /// nothing.
    fn tags(
        &self,
        new: &str,
        is_stored: &impl Fn(&str) -> bool,
    ) -> Result<Vec<Tag>, RegistryError> {
        let mut tags = Vec::new();
        for (tag, version) in &self.dist_tags {
            if version == new {
                let tag: Tag = tag
                    .parse()
                    .map_err(|error| bad_request(format!("{error}")))?;
                tags.push(tag);
            } else if !is_stored(version) {
                return Err(bad_request(format!(
                    "the dist-tag `{}` points at `{}`, which is not the version being published",
                    cut(tag),
                    cut(version)
                )));
            }
        }
        if tags.is_empty() {
            tags.push(Tag::latest());
        }
        Ok(tags)
    }
}

/// Checks that the object agrees with its key and the package.
fn check_version(
    name: &PackageName,
    key: &str,
    manifest: &RawValue,
) -> Result<DistClaims, RegistryError> {
    #[derive(Default, Deserialize)]
    struct Dist {
        shasum: Option<String>,
        integrity: Option<String>,
    }
    let invalid = || bad_request(format!("version `{key}` in the body is not valid"));
    let fields: RawObject = serde_json::from_str(manifest.get()).map_err(|_| invalid())?;
    for (field, expected) in [("name", name.as_str()), ("version", key)] {
        let Some(raw) = fields.get(field) else {
            return Err(bad_request(format!(
                "version `{key}` in the body has no `{field}`"
            )));
        };
        let value: String = serde_json::from_str(raw.get()).map_err(|_| invalid())?;
        if value != expected {
            return Err(bad_request(format!(
                "`{field}` of version `{key}` in the body is `{}`, but must be `{expected}`",
                cut(&value)
            )));
        }
    }
    let dist: Option<Dist> = match fields.get("dist") {
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| {
            bad_request(format!(
                "`dist` of version `{key}` in the body is not valid"
            ))
        })?,
        None => None,
    };
    let Dist { shasum, integrity } = dist.unwrap_or_default();
    Ok(DistClaims { shasum, integrity })
}

fn bad_request(message: String) -> RegistryError {
    RegistryError::bad_request(message)
}

/// What a client wrote, short enough for a message.
fn cut(text: &str) -> String {
    text.chars().take(214).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::publish::body::Attachment;

    fn attachment(key: &str) -> Attachment {
        Attachment {
            key: key.to_owned(),
            content_type: None,
            declared_length: None,
            received_length: Some(1),
        }
    }

    /// A publish of `@s/n` with well-formed versions.
    fn publish(tarball: &str, versions: &[&str], tags: &[(&str, &str)]) -> Publish {
        let object = |version: &&str| {
            let text =
                format!(r#"{{"name":"@s/n","version":"{version}","dist":{{"shasum":"x"}}}}"#);
            let raw = RawValue::from_string(text).unwrap();
            ((*version).to_owned(), raw)
        };
        Publish {
            name: "@s/n".parse().unwrap(),
            candidates: versions.iter().map(object).collect(),
            dist_tags: tags
                .iter()
                .map(|(tag, version)| ((*tag).to_owned(), (*version).to_owned()))
                .collect(),
            tarball: attachment(tarball),
            bundle: None,
            access: None,
            readme: None,
            description: None,
            maintainers: None,
            revision: None,
            rest: RawObject::new(),
        }
    }

    #[track_caller]
    fn check(publish: &Publish, stored: &[&str], expected: &str) {
        let found = match publish.select_version(|version| stored.contains(&version)) {
            Ok(new) => {
                let tags: Vec<_> = new.tags.iter().map(Tag::as_str).collect();
                format!(
                    "{} {} {} {}",
                    new.version,
                    new.file,
                    tags.join("+"),
                    new.is_stored
                )
            }
            Err(error) => format!("{} {error}", error.status().as_u16()),
        };
        assert_eq!(found, expected, "{:?}", publish.tarball.key);
    }

    #[test]
    fn every_spelling_of_the_scope_is_stripped() {
        for key in [
            "n-1.0.0.tgz",
            "@s/n-1.0.0.tgz",
            "@s\\n-1.0.0.tgz",
            "@s%2fn-1.0.0.tgz",
            "@s%2Fn-1.0.0.tgz",
            "@s-n-1.0.0.tgz",
            "s-n-1.0.0.tgz",
        ] {
            let publish = publish(key, &["1.0.0"], &[("latest", "1.0.0")]);
            check(&publish, &[], "1.0.0 n-1.0.0.tgz latest false");
        }
    }

    #[test]
    fn other_names_belong_to_no_version() {
        for key in [
            "",
            "..",
            "n-1.0.1.tgz",
            "m-1.0.0.tgz",
            "n-1.0.0.zip",
            "n-1.0.0.tgz/",
        ] {
            let expected = format!(
                "400 the attachment `{key}` belongs to no version in the body: its name must be `n-<version>.tgz`"
            );
            check(&publish(key, &["1.0.0"], &[]), &[], &expected);
        }
    }

    #[test]
    fn stored_versions_of_a_merged_document_are_passed_over() {
        let merged = publish(
            "@s/n-2.0.0.tgz",
            &["1.0.0", "2.0.0"],
            &[("1", "1.0.0"), ("next", "2.0.0"), ("beta", "2.0.0")],
        );
        check(&merged, &["1.0.0"], "2.0.0 n-2.0.0.tgz next+beta false");
        check(
            &merged,
            &[],
            "400 a publish has exactly one new version, but `1.0.0` and `2.0.0` are new",
        );
    }

    #[test]
    fn a_stored_version_is_told_apart() {
        let again = publish("n-1.0.0.tgz", &["1.0.0"], &[]);
        check(&again, &["1.0.0"], "1.0.0 n-1.0.0.tgz latest true");
    }

    #[test]
    fn tags_must_be_words_and_point_at_the_version() {
        let range = publish("n-1.0.0.tgz", &["1.0.0"], &[("1.x", "1.0.0")]);
        check(
            &range,
            &[],
            "400 invalid tag `1.x`: a dist-tag is a word that is not a version or a range",
        );
        let elsewhere = publish("n-1.0.0.tgz", &["1.0.0"], &[("latest", "9.0.0")]);
        check(
            &elsewhere,
            &[],
            "400 the dist-tag `latest` points at `9.0.0`, which is not the version being published",
        );
    }

    #[test]
    fn the_object_must_agree_with_its_key() {
        for (object, expected) in [
            (
                r#"{"name":"n","version":"1.0.0"}"#,
                "400 `name` of version `1.0.0` in the body is `n`, but must be `@s/n`",
            ),
            (
                r#"{"name":"@s/n","version":"1.0.1"}"#,
                "400 `version` of version `1.0.0` in the body is `1.0.1`, but must be `1.0.0`",
            ),
            (
                r#"{"name":"@s/n"}"#,
                "400 version `1.0.0` in the body has no `version`",
            ),
            ("[]", "400 version `1.0.0` in the body is not valid"),
            (
                r#"{"name":"@s/n","version":"1.0.0","dist":{"shasum":1}}"#,
                "400 `dist` of version `1.0.0` in the body is not valid",
            ),
        ] {
            let mut publish = publish("n-1.0.0.tgz", &["1.0.0"], &[]);
            let raw = RawValue::from_string(object.to_owned()).unwrap();
            publish.candidates.insert("1.0.0".to_owned(), raw);
            check(&publish, &[], expected);
        }
        let loose = publish("n-v1.0.tgz", &["v1.0"], &[]);
        check(&loose, &[], "400 invalid version `v1.0`");
    }

    #[test]
    fn the_bundle_is_of_the_same_version() {
        let mut publish = publish("@s/n-1.0.0.tgz", &["1.0.0"], &[]);
        publish.bundle = Some(attachment("@s/n-1.0.0.sigstore"));
        check(&publish, &[], "1.0.0 n-1.0.0.tgz latest false");
        publish.bundle = Some(attachment("@s/n-2.0.0.sigstore"));
        check(
            &publish,
            &[],
            "400 the attachment `@s/n-2.0.0.sigstore` is not of version `1.0.0`",
        );
    }
}
