//! Changing a manifest: read, edit, compare and swap, again on a conflict.

use std::{future::Future, sync::Arc};

use super::{
    Registry,
    packument::{Hosted, Packument},
};
use crate::{
    error::RegistryError,
    models::{Caller, PackageName, Revision},
    policy::check_owner,
    storage::{Conflicts, Expected, StorageError},
};

/// What an edit makes of a manifest.
pub(super) enum Edited<T> {
    /// It is to be written.
    Changed(T),
    /// It already is as it should be.
    Unchanged(T),
}

/// A manifest as it is stored, and what to expect when writing it back.
pub(super) struct Stored {
    pub(super) manifest: Option<Hosted>,
    pub(super) expected: Expected,
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
        let done = self.lifecycle.spawn(work).await;
        done.map_err(RegistryError::internal)?
    }

    /// The manifest of `name` as it is stored now.
    pub(super) async fn read(&self, name: &PackageName) -> Result<Stored, RegistryError> {
        let document = self.store.metadata().get(name).await?;
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
        let revision = metadata.put(name, manifest.to_json(), expected).await?;
        self.documents.changed(name);
        self.index_manifest(name, manifest);
        Ok(revision)
    }

    /// Changes the manifest of a package that is there; 404 if it is not. Returns what `edit`
    /// returned and the revision it is at now, if it was written.
    ///
    /// `edit` may run several times and must have no side effects.
    pub(super) async fn change<T, F>(
        self: &Arc<Self>,
        name: &PackageName,
        mut edit: F,
    ) -> Result<(T, Option<Revision>), RegistryError>
    where
        F: FnMut(&mut Hosted) -> Result<Edited<T>, RegistryError> + Send,
        T: Send,
    {
        let _alone = self.locks.lock(name).await;
        let mut conflicts = Conflicts::default();
        loop {
            let Stored { manifest, expected } = self.read(name).await?;
            let mut manifest = manifest
                .filter(|manifest| !manifest.is_gone())
                .ok_or_else(RegistryError::no_such_package)?;
            let value = match edit(&mut manifest)? {
                Edited::Changed(value) => value,
                Edited::Unchanged(value) => return Ok((value, None)),
            };
            match self.write(name, &manifest, expected).await {
                Ok(revision) => return Ok((value, Some(revision))),
                Err(StorageError::Conflict(_)) => conflicts.pause(name).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// 403 unless `caller` is an owner, where owners are checked.
    pub(super) fn require_owner(
        &self,
        caller: &Caller,
        packument: &Packument,
    ) -> Result<(), RegistryError> {
        let maintainers = packument.maintainers();
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
