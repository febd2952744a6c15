//! Changing what a package says about itself: deprecations, stars, owners.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{json, value::to_raw_value};

use super::{
    Registry,
    dist_tags::tag_events,
    edit::Edited,
    packument::Hosted,
    publish::{body::Maintainer, intent::MetadataUpdate},
};
use crate::{
    error::RegistryError,
    events::Event,
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
        self.edit(caller, name, move |registry, manifest| {
            if manifest.is_starred_by(&user) == wants_star {
                return Ok(Edited::Unchanged);
            }
            manifest.star(&user, wants_star, registry.clock.now());
            let event = Event::MetadataUpdated {
                changes: vec![if wants_star { "star" } else { "unstar" }],
                versions: Vec::new(),
                revision: manifest.rev(),
            };
            Ok(Edited::Changed(vec![event]))
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
        let owners = maintainers.iter().map(|person| person.name.clone());
        let owners: Vec<String> = owners.collect();
        self.edit_as_owner(caller, name, move |registry, manifest| {
            registry.require_revision(manifest, revision.as_deref())?;
            manifest.set_field("maintainers", raw.clone(), registry.clock.now());
            let (owners, revision) = (owners.clone(), manifest.rev());
            let event = Event::OwnersChanged { owners, revision };
            Ok(Edited::Changed(vec![event]))
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
    let mut changed = Vec::new();
    let before = manifest.packument().dist_tags().clone();
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
        if manifest.deprecate(version, &text, now) {
            changed.push(version.clone());
        }
    }
    if let Some(tags) = update.dist_tags.as_ref().filter(|_| is_current) {
        replace_tags(manifest, tags, now)?;
    }
    let mut events = tag_events(&before, manifest);
    if !changed.is_empty() {
        events.push(Event::MetadataUpdated {
            changes: vec!["deprecated"],
            versions: changed,
            revision: manifest.rev(),
        });
    }
    Ok(if events.is_empty() {
        Edited::Unchanged
    } else {
        Edited::Changed(events)
    })
}

/// Makes the dist-tags those of `tags`.
fn replace_tags(
    manifest: &mut Hosted,
    tags: &IndexMap<String, String>,
    now: Timestamp,
) -> Result<(), RegistryError> {
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
    Ok(())
}
