//! Changing a manifest: read, edit, compare and swap, again on a conflict.

use std::{future::Future, sync::Arc};

use tracing::Instrument as _;

use super::{Registry, locks::NameGuard, packument::Hosted};
use crate::{
    error::RegistryError,
    events::{self, Event},
    lifecycle::carried,
    models::{Caller, PackageName, Revision, TarballName},
    policy::check_owner,
    storage::{Conflicts, Doomed, Expected, Lease, StorageError},
};

/// What an edit has made of a manifest.
pub(super) enum Edited {
    /// It is to be written, and then this has happened.
    Changed(Vec<Event>),
    /// It is to be written, and then these tarballs are named by nobody, and this has happened.
    Removed(Vec<TarballName>, Vec<Event>),
    /// It already is as it should be.
    Unchanged,
}

/// A manifest as it is stored, and what to expect when writing it back.
pub(super) struct Stored {
    pub(super) manifest: Option<Hosted>,
    pub(super) expected: Expected,
}

/// The turn of one writer, which ends when it is dropped.
pub(super) struct Turn {
    _lease: Lease,
    _alone: NameGuard,
}

impl Registry {
    /// Runs `work` to its end even if the client hangs up, and before the server stops.
    pub(super) async fn tracked<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    ) -> Result<T, RegistryError>
    where
        T: Send + 'static,
    {
        let work = events::carried(work.in_current_span());
        let done = self.lifecycle.spawn(carried(work)).await;
        done.map_err(RegistryError::internal)?
    }

    /// Waits until nobody else writes `name`, in this process and, where nodes take turns, in
    /// others.
    pub(super) async fn take_turn(&self, name: &PackageName) -> Result<Turn, RegistryError> {
        // First among ourselves: one of us is enough to wait for the others.
        let alone = self.locks.lock(name).await;
        let lease = self.leases.hold(&format!("package:{name}")).await?;
        Ok(Turn {
            _lease: lease,
            _alone: alone,
        })
    }

    /// The manifest of `name` as it is stored now.
    pub(super) async fn read(&self, name: &PackageName) -> Result<Stored, RegistryError> {
        let mut document = self.store.metadata().get(name).await?;
        if document.is_none() && self.documents.hosted.recovered(name).await? {
            document = self.store.metadata().get(name).await?;
        }
        let expected = Expected::from_read(document.as_ref());
        let manifest = document
            .map(|document| Hosted::parse(&document.json))
            .transpose()
            .map_err(|error| StorageError::Damaged {
                what: format!("the manifest of `{name}`"),
                source: error.into(),
            })?;
        Ok(Stored { manifest, expected })
    }

    /// Writes `manifest` if what is stored is what `expected` says; else
    /// [`StorageError::Conflict`]. Whoever reads next sees it.
    pub(super) async fn write(
        &self,
        name: &PackageName,
        manifest: &Hosted,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        let metadata = self.store.metadata();
        let put = metadata.put(name, manifest.to_json(), expected).await;
        // Also where it failed: it may have been written before that.
        self.documents.changed(name);
        let revision = put?;
        self.index_manifest(name, manifest);
        Ok(revision)
    }

    /// Lets whoever reads next see that `name` is `manifest` now.
    pub(super) fn has_changed(&self, name: &PackageName, manifest: &Hosted) {
        self.documents.changed(name);
        self.index_manifest(name, manifest);
    }

    /// Changes the manifest of a package that is there, if `caller` is an owner where owners are
    /// checked. See [`Registry::edit`].
    pub(super) async fn edit_as_owner<F>(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        mut edit: F,
    ) -> Result<(), RegistryError>
    where
        F: FnMut(&Self, &mut Hosted) -> Result<Edited, RegistryError> + Send + 'static,
    {
        let asking = caller.clone();
        self.edit(caller, name, move |registry, manifest| {
            registry.require_owner(&asking, manifest)?;
            edit(registry, manifest)
        })
        .await
    }

    /// Changes the manifest of a package that is hosted here; see [`Registry::not_hosted`] for
    /// others. Done when it returns, and to its end even if nobody waits for it. Others are told that
    /// `caller` did it.
    ///
    /// `edit` may run several times and must have no side effects.
    pub(super) async fn edit<F>(
        self: &Arc<Self>,
        caller: &Caller,
        name: &PackageName,
        edit: F,
    ) -> Result<(), RegistryError>
    where
        F: FnMut(&Self, &mut Hosted) -> Result<Edited, RegistryError> + Send + 'static,
    {
        let (registry, package, caller) = (Arc::clone(self), name.clone(), caller.clone());
        let edited = self.tracked(async move { registry.edit_here(&caller, &package, edit).await });
        if edited.await? {
            Ok(())
        } else {
            Err(self.not_hosted(name).await)
        }
    }

    /// Why `name`, of which nothing is hosted, cannot be changed: an uplink has it, or nobody has.
    async fn not_hosted(&self, name: &PackageName) -> RegistryError {
        match self.documents.find(name).await {
            Ok(Some(_)) => RegistryError::forbidden(format!(
                "`{name}` is not hosted here but comes from upstream, where alone it can be changed"
            )),
            Ok(None) => RegistryError::no_such_package(),
            Err(error) => error,
        }
    }

    /// Whether the package is hosted here; if not, nothing was done.
    async fn edit_here<F>(
        &self,
        caller: &Caller,
        name: &PackageName,
        mut edit: F,
    ) -> Result<bool, RegistryError>
    where
        F: FnMut(&Self, &mut Hosted) -> Result<Edited, RegistryError> + Send,
    {
        let _alone = self.take_turn(name).await?;
        let mut conflicts = Conflicts::default();
        loop {
            let Stored { manifest, expected } = self.read(name).await?;
            let manifest = manifest.filter(|manifest| !manifest.is_gone());
            let Some(mut manifest) = manifest else {
                return Ok(false);
            };
            let (removed, events, is_removal) = match edit(self, &mut manifest)? {
                Edited::Changed(events) => (Vec::new(), events, false),
                Edited::Removed(files, events) => (files, events, true),
                Edited::Unchanged => return Ok(true),
            };
            let doomed = self.store.blobs().doom(name, removed).await?;
            match self.write(name, &manifest, expected).await {
                Ok(revision) => {
                    if is_removal {
                        self.metrics.unpublished();
                    }
                    for event in &events {
                        self.events.tell(caller, Some(name), event);
                    }
                    self.delete_blobs(name, doomed, &revision).await;
                    return Ok(true);
                }
                Err(StorageError::Conflict(_)) => conflicts.pause(name).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes blobs that the manifest at `revision` does not name. A failure leaves orphans,
    /// which `fsck` finds; what was asked for has happened.
    async fn delete_blobs(&self, name: &PackageName, doomed: Doomed, revision: &Revision) {
        if doomed.is_empty() {
            return;
        }
        let blobs = self.store.blobs();
        if let Err(error) = blobs.delete(name, doomed, revision).await {
            tracing::error!(package.name = %name, error = &error as &dyn std::error::Error, "cannot delete unpublished tarballs, `rustaccio fsck --repair` will");
        }
    }

    /// 403 unless `caller` is an owner, where owners are checked.
    pub(super) fn require_owner(
        &self,
        caller: &Caller,
        manifest: &Hosted,
    ) -> Result<(), RegistryError> {
        let maintainers = manifest.packument().maintainers();
        let are_lost = maintainers.is_empty() && manifest.has_recovered();
        if self.publish.check_owners && are_lost && !self.admins.names(caller) {
            return Err(RegistryError::forbidden(
                "the owners of this package were lost with its manifest; an administrator can name \
                 one with `npm owner add`",
            ));
        }
        check_owner(
            &self.publish,
            caller,
            maintainers.iter().map(String::as_str),
        )
    }

    /// 409 where revisions are compared strictly and `sent` is not the current one.
    pub(super) fn require_revision(
        &self,
        manifest: &Hosted,
        sent: Option<&str>,
    ) -> Result<(), RegistryError> {
        if self.publish.strict_revision_check {
            require_same_revision(manifest, sent)
        } else {
            Ok(())
        }
    }
}

/// 409 unless `sent` is the revision of `manifest`.
pub(super) fn require_same_revision(
    manifest: &Hosted,
    sent: Option<&str>,
) -> Result<(), RegistryError> {
    let current = manifest.rev();
    let sent = sent.unwrap_or_default();
    if sent == current {
        return Ok(());
    }
    let sent: String = sent.chars().take(80).collect();
    Err(RegistryError::conflict(format!(
        "revision conflict: expected `{sent}`, current `{current}`"
    )))
}
