//! Removing versions and packages. The manifest lets go first, then the blobs are deleted.

use std::sync::Arc;

use super::{
    Registry,
    edit::{Edited, require_same_revision},
    packument::Hosted,
    publish::intent::MetadataUpdate,
};
use crate::{
    error::RegistryError,
    events::Event,
    models::{Action, Caller, PackageName, TarballName},
};

impl Registry {
    /// Removes the whole package; what is left is a note of whose the name is.
    #[tracing::instrument(name = "registry.unpublish", skip_all, fields(package.name = %name))]
    pub async fn unpublish(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        revision: String,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::Unpublish, name).await?;
        let (package, by) = (name.clone(), caller.display_name().to_owned());
        self.edit_as_owner(caller, name, move |registry, manifest| {
            registry.require_revision(manifest, Some(&revision))?;
            let files = manifest.files(&package);
            let versions = manifest.packument().versions();
            let versions = versions.map(|(version, _)| version.to_owned()).collect();
            manifest.remove_all(&by, registry.clock.now());
            let revision = manifest.rev();
            let event = Event::PackageRemoved { versions, revision };
            Ok(Edited::Removed(files, vec![event]))
        })
        .await
    }

    /// Removes the version whose tarball is `file`. One that was removed a moment before, as npm
    /// does with two requests, is as good as removed now.
    #[tracing::instrument(name = "registry.unpublish_tarball", skip_all, fields(package.name = %name, file = %file))]
    pub async fn unpublish_tarball(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        file: TarballName,
        revision: String,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::Unpublish, name).await?;
        let (package, by) = (name.clone(), caller.display_name().to_owned());
        self.edit_as_owner(caller, name, move |registry, manifest| {
            let versions = manifest.versions_of(&package, &file);
            if versions.is_empty() {
                return if was_removed(manifest, &package, &file) {
                    Ok(Edited::Unchanged)
                } else {
                    Err(RegistryError::not_found("no such file available"))
                };
            }
            registry.require_revision(manifest, Some(&revision))?;
            for version in &versions {
                manifest.remove_version(version, &by, registry.clock.now());
            }
            let events = removed(&package, &versions, manifest);
            Ok(Edited::Removed(vec![file.clone()], events))
        })
        .await
    }

    /// Removes the stored versions that `update` leaves out, as `npm unpublish name@version` asks
    /// for. A document that leaves none out is a change of metadata.
    pub(super) async fn remove_versions(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        update: MetadataUpdate,
        route_revision: Option<String>,
    ) -> Result<(), RegistryError> {
        self.authorise(caller, Action::Unpublish, name).await?;
        let stored = self.read(name).await?.manifest;
        let leaves_out = stored.is_some_and(|manifest| !missing(&manifest, &update).is_empty());
        if !leaves_out {
            return self.update_metadata(caller, name, update).await;
        }
        let (package, by) = (name.clone(), caller.display_name().to_owned());
        let sent = update.revision.clone().or(route_revision);
        self.edit_as_owner(caller, name, move |registry, manifest| {
            require_same_revision(manifest, sent.as_deref())?;
            let mut files = manifest.files(&package);
            let gone = missing(manifest, &update);
            for version in &gone {
                manifest.remove_version(version, &by, registry.clock.now());
            }
            let kept = manifest.files(&package);
            files.retain(|file| !kept.contains(file));
            let events = removed(&package, &gone, manifest);
            Ok(Edited::Removed(files, events))
        })
        .await
    }
}

/// What has happened to versions that `manifest` has no more.
fn removed(name: &PackageName, versions: &[String], manifest: &Hosted) -> Vec<Event> {
    let revision = manifest.rev();
    let of = |version: &String| Event::TarballRemoved {
        filename: format!("{}-{version}.tgz", name.base()),
        version: version.clone(),
        revision: revision.clone(),
    };
    versions.iter().map(of).collect()
}

/// The stored versions that are not in `update`.
fn missing(manifest: &Hosted, update: &MetadataUpdate) -> Vec<String> {
    let stored = manifest.packument().versions();
    stored
        .filter(|(version, _)| !update.versions.contains_key(*version))
        .map(|(version, _)| version.to_owned())
        .collect()
}

/// Whether `file` belonged to a version that was unpublished.
fn was_removed(manifest: &Hosted, name: &PackageName, file: &TarballName) -> bool {
    let version = file
        .as_str()
        .strip_suffix(".tgz")
        .and_then(|stem| stem.strip_prefix(name.base())?.strip_prefix('-'));
    version.is_some_and(|version| manifest.tombstone(version).is_some())
}
