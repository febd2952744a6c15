//! Setting and removing dist-tags.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{Registry, edit::Edited, packument::Hosted};
use crate::{
    error::RegistryError,
    events::Event,
    models::{Action, Caller, PackageName, Tag, VersionKey},
};

/// The most tags of one change that are told of one by one.
const MAX_TAG_EVENTS: usize = 50;

impl Registry {
    /// Points `tag` at `version`, which must be hosted here.
    #[tracing::instrument(name = "registry.set_dist_tag", skip_all, fields(package.name = %name, tag = %tag))]
    pub async fn set_dist_tag(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        tag: Tag,
        version: VersionKey,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, action_for(tag.as_str()), name)
            .await?;
        self.edit_as_owner(caller, name, move |registry, manifest| {
            let tags = manifest.packument().dist_tags();
            if tags.get(tag.as_str()).map(String::as_str) == Some(version.as_str()) {
                return Ok(Edited::Unchanged);
            }
            let before = tags.clone();
            if manifest.set_tag(&tag, version.as_str(), registry.clock.now()) {
                return Ok(Edited::Changed(tag_events(&before, manifest)));
            }
            Err(RegistryError::no_such_version(&version))
        })
        .await
    }

    /// Sets all of `tags`, or none if one of their versions is not hosted here. Other tags are
    /// removed if `are_replaced`; `latest` comes back as the highest version then.
    #[tracing::instrument(name = "registry.set_dist_tags", skip_all, fields(package.name = %name))]
    pub async fn set_dist_tags(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        tags: IndexMap<Tag, VersionKey>,
        are_replaced: bool,
    ) -> Result<(), RegistryError> {
        let moves_latest = are_replaced || tags.keys().any(|tag| tag.as_str() == "latest");
        let action = action_for(if moves_latest { "latest" } else { "" });
        self.authorise(caller, action, name).await?;
        self.edit_as_owner(caller, name, move |registry, manifest| {
            let (before, now) = (
                manifest.packument().dist_tags().clone(),
                registry.clock.now(),
            );
            for (tag, version) in &tags {
                if !manifest.set_tag(tag, version.as_str(), now) {
                    return Err(RegistryError::no_such_version(version));
                }
            }
            let is_kept = |tag: &str| tags.keys().any(|kept| kept.as_str() == tag);
            for tag in before.keys().filter(|tag| are_replaced && !is_kept(tag)) {
                manifest.remove_tag(tag, now);
            }
            Ok(if *manifest.packument().dist_tags() == before {
                Edited::Unchanged
            } else {
                Edited::Changed(tag_events(&before, manifest))
            })
        })
        .await
    }

    /// Removes `tag`. One that is not there is as good as removed; `latest` comes back as the
    /// highest version.
    #[tracing::instrument(name = "registry.remove_dist_tag", skip_all, fields(package.name = %name))]
    pub async fn remove_dist_tag(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        tag: String,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, action_for(&tag), name).await?;
        self.edit_as_owner(caller, name, move |registry, manifest| {
            let before = manifest.packument().dist_tags().clone();
            if !before.contains_key(&tag) {
                return Ok(Edited::Unchanged);
            }
            manifest.remove_tag(&tag, registry.clock.now());
            Ok(Edited::Changed(tag_events(&before, manifest)))
        })
        .await
    }
}

/// What has happened to tags that were as in `before`. Very many at once are told of in one.
pub(super) fn tag_events(before: &IndexMap<String, String>, manifest: &Hosted) -> Vec<Event> {
    let after = manifest.packument().dist_tags();
    let set = after
        .iter()
        .filter(|(tag, version)| before.get(*tag) != Some(version));
    let set = set.map(|(tag, version)| Event::DistTagUpdated {
        tag: tag.clone(),
        version: version.clone(),
    });
    let gone = before.keys().filter(|tag| !after.contains_key(*tag));
    let gone = gone.map(|tag| Event::DistTagRemoved { tag: tag.clone() });
    let events: Vec<Event> = set.chain(gone).collect();
    if events.len() <= MAX_TAG_EVENTS {
        return events;
    }
    vec![Event::MetadataUpdated {
        changes: vec!["dist-tags"],
        versions: Vec::new(),
        revision: manifest.rev(),
    }]
}

/// `latest` is what everybody installs: a second factor protects it as it does a publish.
fn action_for(tag: &str) -> Action {
    if tag == "latest" {
        Action::Publish
    } else {
        Action::Tag
    }
}
