//! Changing what a package says about itself: deprecations, stars, owners.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{json, value::to_raw_value};

use super::{
    Registry,
    edit::Edited,
    packument::Hosted,
    publish::{body::Maintainer, intent::MetadataUpdate},
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, Origin, PackageName, Tag, Timestamp},
};

impl Registry {
    /// Sets `deprecated` of the versions in `update`. Never removes a version.
    ///
    /// Dist-tags count only if the document was read at the current revision: they are replaced
    /// as a whole, and a client that read earlier would undo what others have tagged since.
    pub(super) async fn update_metadata(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        update: MetadataUpdate,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::Publish, name).await?;
        let edited = self.edit_as_owner(caller, name, move |registry, manifest| {
            registry.require_revision(manifest, update.revision.as_deref())?;
            apply(manifest, &update, registry.clock.now())
        });
        match edited.await {
            // A document without attachments cannot make a package.
            Err(RegistryError::NotFound { .. }) => {
                Err(RegistryError::bad_request("unsupported registry call"))
            }
            other => other,
        }
    }

    /// Sets or removes the caller's own star, as `users` says; other entries do not count.
    pub(super) async fn star(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        users: &IndexMap<String, bool>,
    ) -> Result<(), RegistryError> {
        let user = caller.username();
        let wants_star = user.is_some_and(|user| users.get(user.as_str()) == Some(&true));
        self.set_star(caller, name, wants_star).await
    }

    /// Sets or removes the caller's own star.
    pub async fn set_star(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        wants_star: bool,
    ) -> Result<(), RegistryError> {
        // First: whoever is nobody hears the same of every package.
        let user = caller
            .username()
            .ok_or_else(|| RegistryError::unauthorized("sign in to star a package"))?;
        self.authorise(caller, Action::Star, name).await?;
        self.edit(name, move |registry, manifest| {
            if manifest.is_starred_by(&user) == wants_star {
                return Ok(Edited::Unchanged);
            }
            manifest.star(&user, wants_star, registry.clock.now());
            Ok(Edited::Changed)
        })
        .await
    }

    /// Replaces the owners.
    pub(super) async fn set_owners(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        maintainers: &[Maintainer],
        revision: Option<String>,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::ManageOwners, name).await?;
        if maintainers.is_empty() {
            let message = "a package needs at least one owner";
            return Err(RegistryError::bad_request(message));
        }
        let raw = maintainers_json(maintainers)?;
        self.edit_as_owner(caller, name, move |registry, manifest| {
            registry.require_revision(manifest, revision.as_deref())?;
            manifest.set_field("maintainers", raw.clone(), registry.clock.now());
            Ok(Edited::Changed)
        })
        .await
    }
}

/// `maintainers` as it is stored.
pub(super) fn maintainers_json(maintainers: &[Maintainer]) -> Result<bytes::Bytes, RegistryError> {
    let people: Vec<_> = maintainers
        .iter()
        .map(|person| {
            json!({ "name": person.name, "email": person.email.as_deref().unwrap_or_default() })
        })
        .collect();
    let raw = to_raw_value(&people).map_err(RegistryError::internal)?;
    Ok(raw.get().to_owned().into())
}

fn apply(
    manifest: &mut Hosted,
    update: &MetadataUpdate,
    now: Timestamp,
) -> Result<Edited, RegistryError> {
    let is_current = update.revision.as_deref() == Some(&manifest.rev());
    let mut has_changed = false;
    for (version, deprecated) in &update.versions {
        if manifest.packument().version(version).is_none() {
            // The document of an override shows upstream's versions too; they are not ours.
            if manifest.origin() == Origin::Override {
                continue;
            }
            let version: String = version.chars().take(80).collect();
            return Err(RegistryError::bad_request(format!(
                "version `{version}` is not stored: a new version needs its tarball in `_attachments`"
            )));
        }
        let text = match deprecated {
            None => String::new(),
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| {
                RegistryError::bad_request("`deprecated` of a version must be a string")
            })?,
        };
        has_changed |= manifest.deprecate(version, &text, now);
    }
    if let Some(tags) = update.dist_tags.as_ref().filter(|_| is_current) {
        has_changed |= replace_tags(manifest, tags, now)?;
    }
    Ok(if has_changed {
        Edited::Changed
    } else {
        Edited::Unchanged
    })
}

/// Makes the dist-tags those of `tags`. Whether that changed anything.
fn replace_tags(
    manifest: &mut Hosted,
    tags: &IndexMap<String, String>,
    now: Timestamp,
) -> Result<bool, RegistryError> {
    let before = manifest.packument().dist_tags().clone();
    for (tag, version) in tags {
        if before.get(tag) == Some(version) || manifest.packument().version(version).is_none() {
            continue;
        }
        let tag: Tag = tag
            .parse()
            .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
        manifest.set_tag(&tag, version, now);
    }
    for tag in before.keys().filter(|tag| !tags.contains_key(*tag)) {
        manifest.remove_tag(tag, now);
    }
    Ok(*manifest.packument().dist_tags() != before)
}
