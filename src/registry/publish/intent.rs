//! [`classify`]: what a `PUT` to a package means; one wire shape has five meanings.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::{
    body::{Access, Attachment, Maintainer, PublishBody, RawObject},
    scanner::is_bundle,
};
use crate::{error::RegistryError, models::PackageName};

/// The route that the document came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `PUT /:package`, which never removes a version.
    Plain,
    /// `PUT /:package/-rev/:revision`.
    Rev,
}

/// What the client wants.
#[derive(Debug)]
pub enum Intent {
    /// Add one version.
    Publish(Box<Publish>),
    /// Change `deprecated` and dist-tags of what is stored; sent by `deprecate`.
    UpdateMetadata(MetadataUpdate),
    /// Replace who has starred the package; only the caller's own entry counts.
    Star {
        /// Name and whether it stars the package.
        users: IndexMap<String, bool>,
        /// `_rev` in the body.
        revision: Option<String>,
    },
    /// Replace the owners.
    Owners {
        /// All of them.
        maintainers: Vec<Maintainer>,
        /// `_rev` in the body.
        revision: Option<String>,
    },
    /// Remove the stored versions that are not in the document; sent by `unpublish name@version`.
    RemoveVersions(MetadataUpdate),
}

/// A whole packument without attachments, as far as it may change something.
#[derive(Debug)]
pub struct MetadataUpdate {
    /// The versions in the document; the value is `deprecated`, if it says so.
    pub versions: IndexMap<String, Option<Box<RawValue>>>,
    /// `dist-tags`, not checked.
    pub dist_tags: Option<IndexMap<String, String>>,
    /// `_rev` in the body.
    pub revision: Option<String>,
}

/// A publish before it is known which versions are stored.
#[derive(Debug)]
pub struct Publish {
    /// The package.
    pub name: PackageName,
    /// Every version in the document; one of them is new.
    pub candidates: RawObject,
    /// `dist-tags`, not checked.
    pub dist_tags: IndexMap<String, String>,
    /// The tarball.
    pub tarball: Attachment,
    /// The provenance bundle.
    pub bundle: Option<Attachment>,
    /// `access`.
    pub access: Option<Access>,
    /// `readme` of the document.
    pub readme: Option<String>,
    /// `description` of the document.
    pub description: Option<String>,
    /// `maintainers` of the document, which only a first publish may use.
    pub maintainers: Option<Vec<Maintainer>>,
    /// `_rev` in the body.
    pub revision: Option<String>,
    /// Fields of the document that have no meaning here.
    pub rest: RawObject,
}

/// Returns what the document means, or a 400 where it means nothing or two things.
pub fn classify(
    name: &PackageName,
    route: Route,
    body: PublishBody,
) -> Result<Intent, RegistryError> {
    check_names(name, &body)?;
    let has_data = body
        .attachments
        .iter()
        .any(|attachment| attachment.received_length.is_some());
    if has_data {
        let publish = publish(name, body)?;
        return Ok(Intent::Publish(Box::new(publish)));
    }
    let revision = body.revision;
    match (body.versions, body.users, body.maintainers) {
        (Some(versions), _, _) if !versions.is_empty() => {
            let update = MetadataUpdate {
                versions: deprecations(versions)?,
                dist_tags: body.dist_tags,
                revision,
            };
            Ok(match route {
                Route::Plain => Intent::UpdateMetadata(update),
                Route::Rev => Intent::RemoveVersions(update),
            })
        }
        (None, Some(users), None) => Ok(Intent::Star { users, revision }),
        (None, None, Some(maintainers)) => Ok(Intent::Owners {
            maintainers,
            revision,
        }),
        _ => Err(unsupported()),
    }
}

fn unsupported() -> RegistryError {
    RegistryError::bad_request("unsupported registry call")
}

fn check_names(name: &PackageName, body: &PublishBody) -> Result<(), RegistryError> {
    for (field, value) in [("_id", &body.id), ("name", &body.name)] {
        if let Some(value) = value
            && value != name.as_str()
        {
            let value: String = value.chars().take(214).collect();
            return Err(RegistryError::bad_request(format!(
                "`{field}` in the body is `{value}`, but the address names `{name}`"
            )));
        }
    }
    Ok(())
}

fn publish(name: &PackageName, body: PublishBody) -> Result<Publish, RegistryError> {
    if !name.is_publishable() {
        return Err(RegistryError::bad_request(format!(
            "invalid package name `{name}`: only lower-case letters, digits, `-`, `_` and `.` may be published"
        )));
    }
    let (mut tarball, mut bundle) = (None, None);
    let received = body
        .attachments
        .into_iter()
        .filter(|attachment| attachment.received_length.is_some());
    for attachment in received {
        let (place, kind) = if is_bundle(&attachment.key) {
            (&mut bundle, "`.sigstore` bundle")
        } else {
            (&mut tarball, "tarball")
        };
        if place.replace(attachment).is_some() {
            let message = format!("a publish has exactly one tarball; there is a second {kind}");
            return Err(RegistryError::bad_request(message));
        }
    }
    let tarball = tarball.ok_or_else(|| {
        RegistryError::bad_request("a publish has exactly one tarball; there is none")
    })?;
    check_length(&tarball)?;
    let candidates = body.versions.unwrap_or_default();
    if candidates.is_empty() {
        return Err(unsupported());
    }
    Ok(Publish {
        name: name.clone(),
        candidates,
        dist_tags: body.dist_tags.unwrap_or_default(),
        tarball,
        bundle,
        access: body.access,
        readme: body.readme,
        description: body.description,
        maintainers: body.maintainers,
        revision: body.revision,
        rest: body.rest,
    })
}

/// A body that lost a part on its way is refused. Bundles count other units and are not checked.
fn check_length(tarball: &Attachment) -> Result<(), RegistryError> {
    match (tarball.declared_length, tarball.received_length) {
        (Some(declared), Some(received)) if declared != received => {
            Err(RegistryError::bad_request(format!(
                "the tarball has {received} bytes, but `length` says {declared}"
            )))
        }
        _ => Ok(()),
    }
}

/// Returns `deprecated` of each version; what undoes a deprecation counts as missing.
fn deprecations(
    versions: RawObject,
) -> Result<IndexMap<String, Option<Box<RawValue>>>, RegistryError> {
    let mut deprecations = IndexMap::with_capacity(versions.len());
    for (version, raw) in versions {
        let mut fields: RawObject = serde_json::from_str(raw.get()).map_err(|_| {
            let version: String = version.chars().take(80).collect();
            RegistryError::bad_request(format!("version `{version}` in the body is not an object"))
        })?;
        let deprecated = fields
            .swap_remove("deprecated")
            .filter(|value| !matches!(value.get(), "\"\"" | "null" | "false"));
        deprecations.insert(version, deprecated);
    }
    Ok(deprecations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::publish::scanner::{ReceivedAttachment, ScannedBody};

    const TARBALL: &str = r#""_attachments":{"a-1.0.0.tgz":{"data":"","length":3}}"#;

    fn classified(route: Route, metadata: &str) -> Result<Intent, RegistryError> {
        let attachments = ["a-1.0.0.tgz", "b.tgz", "a-1.0.0.sigstore"]
            .into_iter()
            .filter(|name| metadata.contains(name))
            .map(|name| ReceivedAttachment {
                name: name.to_owned(),
                length: 3,
            })
            .collect();
        let scanned = ScannedBody {
            metadata: metadata.as_bytes().to_vec(),
            attachments,
        };
        classify(&"a".parse().unwrap(), route, PublishBody::parse(&scanned)?)
    }

    #[track_caller]
    fn check(route: Route, metadata: &str, expected: &str) {
        let found = match classified(route, metadata) {
            Ok(Intent::Publish(_)) => "publish".to_owned(),
            Ok(Intent::UpdateMetadata(_)) => "update".to_owned(),
            Ok(Intent::Star { .. }) => "star".to_owned(),
            Ok(Intent::Owners { .. }) => "owners".to_owned(),
            Ok(Intent::RemoveVersions(_)) => "remove".to_owned(),
            Err(error) => format!("{} {error}", error.status().as_u16()),
        };
        assert_eq!(found, expected, "{route:?} {metadata}");
    }

    #[test]
    fn each_shape_has_one_meaning() {
        let publish = format!(r#"{{"_id":"a","versions":{{"1.0.0":{{}}}},{TARBALL}}}"#);
        check(Route::Plain, &publish, "publish");
        check(Route::Rev, &publish, "publish");
        let whole = r#"{"_id":"a","versions":{"1.0.0":{}},"users":{},"maintainers":[]}"#;
        check(Route::Plain, whole, "update");
        check(Route::Rev, whole, "remove");
        check(Route::Plain, r#"{"_id":"a","users":{"b":true}}"#, "star");
        check(Route::Rev, r#"{"_id":"a","maintainers":[]}"#, "owners");
    }

    #[test]
    fn stubs_of_attachments_are_no_publish() {
        let stub = r#"{"versions":{"1.0.0":{}},"_attachments":{"stub.tgz":{"shasum":"x"}}}"#;
        check(Route::Plain, stub, "update");
    }

    #[test]
    fn nothing_and_two_things_are_refused() {
        let unsupported = "400 unsupported registry call";
        for metadata in [
            "{}",
            r#"{"versions":{}}"#,
            r#"{"versions":{},"users":{}}"#,
            r#"{"users":{},"maintainers":[]}"#,
            r#"{"dist-tags":{"latest":"1.0.0"}}"#,
        ] {
            check(Route::Plain, metadata, unsupported);
            check(Route::Rev, metadata, unsupported);
        }
        check(Route::Plain, &format!("{{{TARBALL}}}"), unsupported);
    }

    #[test]
    fn names_and_attachments_must_fit() {
        check(
            Route::Plain,
            r#"{"_id":"b","users":{}}"#,
            "400 `_id` in the body is `b`, but the address names `a`",
        );
        check(
            Route::Plain,
            r#"{"versions":{"1.0.0":{}},"_attachments":{"a-1.0.0.tgz":{},"b.tgz":{}}}"#,
            "400 a publish has exactly one tarball; there is a second tarball",
        );
        check(
            Route::Plain,
            r#"{"versions":{"1.0.0":{}},"_attachments":{"a-1.0.0.sigstore":{}}}"#,
            "400 a publish has exactly one tarball; there is none",
        );
        check(
            Route::Plain,
            r#"{"versions":{"1.0.0":{}},"_attachments":{"a-1.0.0.tgz":{"length":4}}}"#,
            "400 the tarball has 3 bytes, but `length` says 4",
        );
    }

    #[test]
    fn what_undoes_a_deprecation_is_no_deprecation() {
        let intent = classified(
            Route::Plain,
            r#"{"versions":{"1":{"deprecated":""},"2":{"deprecated":"old"},"3":{"deprecated":null},"4":{}}}"#,
        );
        let Ok(Intent::UpdateMetadata(update)) = intent else {
            panic!("{intent:?}");
        };
        let texts: Vec<_> = update
            .versions
            .values()
            .map(|raw| raw.as_ref().map(|raw| raw.get()))
            .collect();
        assert_eq!(texts, [None, Some("\"old\""), None, None]);
    }
}
