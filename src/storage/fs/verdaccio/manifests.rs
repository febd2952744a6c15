//! [`VerdaccioManifests`]: what is hosted, in the files in which Verdaccio keeps it.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use moka::sync::Cache;

use super::{
    super::{
        all_of,
        atomic::{MODE_PUBLIC, create_folder_synced, sync_parent, write_atomic},
        blocking,
        locks::Locks,
        metadata::{read, revision_of, stamp_of},
    },
    list::List,
    merge::{merged, without_hosted},
    sidecar::Sidecar,
};
use crate::{
    lifecycle::{Clock as _, SystemClock, crash_point},
    models::{PackageName, Revision},
    storage::{
        Document, Expected, Hold, Holding, MetadataStore, Stamp, StorageError,
        layout::{Layout, folder_name, package_of},
    },
};

/// How many cached packages are remembered not to be hosted.
const MAX_REMEMBERED: u64 = 100_000;

/// Keeps the manifest of a hosted package in the file that Verdaccio keeps of it, beside what uplinks say
/// of the same name.
///
/// A manifest without any version, such as what is left of a package that was unpublished, is in a folder
/// of ours: Verdaccio is to know nothing of it. Hosted is what is in Verdaccio's list, and what the file
/// says to have been published: lists were lost before.
#[derive(Clone, Debug)]
pub(in crate::storage) struct VerdaccioManifests {
    pub(super) parts: Arc<Parts>,
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) layout: Layout,
    pub(super) list: List,
    /// Manifests without versions.
    pub(super) removed: PathBuf,
    /// Where damaged files are kept that something else takes the place of.
    pub(super) quarantine: PathBuf,
    pub(super) is_read_only: bool,
    locks: Locks,
    /// Which files of unlisted names have nothing that is hosted, or have something, in which state.
    remembered: Cache<PackageName, (Stamp, bool)>,
}

/// A file of Verdaccio's, read.
pub(super) struct Found {
    pub(super) document: Document,
    /// `None` where it is damaged.
    pub(super) sidecar: Option<Sidecar>,
    /// The versions that were published here.
    pub(super) hosted: HashSet<String>,
}

/// What is known of a name.
pub(super) struct State {
    pub(super) is_listed: bool,
    /// Verdaccio's file.
    pub(super) found: Option<Found>,
    /// The manifest without versions.
    removed: Option<Document>,
}

impl State {
    fn has_versions(&self) -> bool {
        let found = self.found.as_ref();
        found.is_some_and(|found| !found.hosted.is_empty())
    }

    /// The manifest.
    fn into_document(self) -> Option<Document> {
        if !self.has_versions() && self.removed.is_some() {
            return self.removed;
        }
        if !self.has_versions() && !self.is_listed {
            return None;
        }
        let found = self.found?;
        let json = found.sidecar?.view(&found.hosted);
        Some(Document {
            json,
            ..found.document
        })
    }

    fn revision(&self) -> Option<Revision> {
        let found = self.found.as_ref();
        let found = found.filter(|_| self.has_versions() || self.is_listed);
        let document = match &self.removed {
            Some(removed) if !self.has_versions() => Some(removed),
            _ => found.map(|found| &found.document),
        };
        document.map(|document| document.revision.clone())
    }

    /// Whether something is hosted under the name, be it nothing any more.
    pub(super) fn is_hosted(&self) -> bool {
        self.is_listed || self.removed.is_some() || self.has_versions()
    }
}

impl VerdaccioManifests {
    pub(super) fn new(layout: Layout, list: List, data_dir: &Path, is_read_only: bool) -> Self {
        let parts = Parts {
            layout,
            list,
            removed: data_dir.join("removed"),
            quarantine: data_dir.join("quarantine/.manifests"),
            is_read_only,
            locks: Locks::new(if is_read_only {
                PathBuf::from("/dev/null")
            } else {
                data_dir.join("locks")
            }),
            remembered: Cache::new(MAX_REMEMBERED),
        };
        Self {
            parts: Arc::new(parts),
        }
    }
}

impl Parts {
    pub(super) fn removed_path(&self, name: &PackageName) -> PathBuf {
        self.removed.join(format!("{}.json", folder_name(name)))
    }

    /// What is known of `name`. Blocks.
    pub(super) fn state(&self, name: &PackageName) -> Result<State, StorageError> {
        let mut is_listed = self.list.names()?.contains(name);
        let path = self.layout.manifest(name);
        let document = match read(&path) {
            Err(StorageError::Backend { source, .. }) if is_not_a_folder(&source) => None,
            read => read?,
        };
        let found = match document {
            Some(document) => Some(self.found(name, document, is_listed)?),
            None => None,
        };
        let removed = read(&self.removed_path(name))?;
        let has_versions = found.as_ref().is_some_and(|found| !found.hosted.is_empty());
        // Somebody may have published it since the list was looked at.
        if has_versions && !is_listed && self.list.names()?.contains(name) {
            is_listed = true;
        }
        if has_versions && !is_listed && !self.is_read_only {
            tracing::warn!(package.name = %name, list = %self.list.path().display(), "the package was published here and is not in the list of such packages; it is put into the list again");
            self.list.add(std::slice::from_ref(name))?;
            is_listed = true;
        }
        Ok(State {
            is_listed,
            found,
            removed,
        })
    }

    fn found(
        &self,
        name: &PackageName,
        document: Document,
        is_listed: bool,
    ) -> Result<Found, StorageError> {
        let path = || self.layout.manifest(name).display().to_string();
        let sidecar = match Sidecar::parse(&document.json) {
            Ok(sidecar) => Some(sidecar),
            Err(error) if is_listed => {
                return Err(StorageError::Damaged {
                    what: path(),
                    source: error.into(),
                });
            }
            Err(error) => {
                tracing::warn!(package.name = %name, path = path(), %error, "this file of a package that is not in the list of hosted ones is damaged; it counts for nothing");
                None
            }
        };
        let hosted = sidecar.as_ref().map(|s| s.hosted(name, is_listed));
        let hosted = hosted.unwrap_or_default();
        let is_any = !hosted.is_empty();
        self.remembered
            .insert(name.clone(), (document.stamp, is_any));
        Ok(Found {
            document,
            sidecar,
            hosted,
        })
    }

    /// The stamp of the manifest, as far as nothing needs to be read for that.
    fn stamp(&self, name: &PackageName) -> Result<Known, StorageError> {
        // One look at an inode that the kernel has at hand takes about a microsecond.
        if let Some(stamp) = stamp_at(&self.layout.manifest(name))? {
            if self.list.names()?.contains(name) {
                return Ok(Known::Stamp(Some(stamp)));
            }
            match self.remembered.get(name) {
                Some((known, true)) if known == stamp => return Ok(Known::Stamp(Some(stamp))),
                Some((known, false)) if known == stamp => {}
                _ => return Ok(Known::Nothing),
            }
        }
        stamp_at(&self.removed_path(name)).map(Known::Stamp)
    }

    /// Writes a manifest. The caller holds the lock of the name. Blocks.
    fn put(
        &self,
        name: &PackageName,
        json: &Bytes,
        expected: &Expected,
    ) -> Result<Revision, StorageError> {
        let state = self.state(name)?;
        let is_current = match (expected, &state.revision()) {
            (Expected::Absent, None) => true,
            (Expected::Exactly(expected), Some(current)) => expected == current,
            (Expected::Absent, Some(_)) | (Expected::Exactly(_), None) => false,
        };
        if !is_current {
            return Err(StorageError::Conflict(name.clone()));
        }
        match Sidecar::parse(json) {
            Ok(new) if !new.versions().is_empty() => self.put_versions(name, &state, &new),
            _ => self.put_empty(name, &state, json),
        }
    }

    /// First the list: where this ends between, the name is only known a moment too early.
    fn put_versions(
        &self,
        name: &PackageName,
        state: &State,
        new: &Sidecar,
    ) -> Result<Revision, StorageError> {
        let path = self.layout.manifest(name);
        let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
        let old = match &state.found {
            Some(found) => match &found.sidecar {
                Some(sidecar) => Some((sidecar, &found.hosted)),
                None => {
                    self.keep_damaged(name, &found.document.json)?;
                    None
                }
            },
            None => None,
        };
        let json = merged(name, old, new);
        self.list.add(std::slice::from_ref(name))?;
        create_folder_synced(&self.layout.folder(name)).map_err(failed)?;
        write_atomic(&path, &json, MODE_PUBLIC).map_err(failed)?;
        crash_point("manifest-placed");
        self.forget_removed(name)?;
        Ok(revision_of(&json))
    }

    /// First the manifest without versions, which counts once Verdaccio's file has none either.
    fn put_empty(
        &self,
        name: &PackageName,
        state: &State,
        json: &Bytes,
    ) -> Result<Revision, StorageError> {
        let path = self.removed_path(name);
        create_folder_synced(&self.removed)
            .and_then(|()| write_atomic(&path, json, MODE_PUBLIC))
            .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))?;
        crash_point("removed-written");
        self.take_out(name, state)?;
        Ok(revision_of(json))
    }

    /// Takes what is hosted out of Verdaccio's file, and the name out of its list.
    fn take_out(&self, name: &PackageName, state: &State) -> Result<(), StorageError> {
        if let Some(found) = &state.found
            && let Some(sidecar) = &found.sidecar
            && (state.is_listed || !found.hosted.is_empty())
        {
            let path = self.layout.manifest(name);
            let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
            match without_hosted(name, sidecar, &found.hosted) {
                Some(_) if found.hosted.is_empty() => {}
                Some(json) => write_atomic(&path, &json, MODE_PUBLIC).map_err(failed)?,
                None => fs::remove_file(&path)
                    .and_then(|()| sync_parent(&path))
                    .map_err(failed)?,
            }
            crash_point("manifest-emptied");
        }
        self.list.remove(name)
    }

    fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        let state = self.state(name)?;
        if state.revision().as_ref() != Some(revision) {
            return Err(StorageError::Conflict(name.clone()));
        }
        self.take_out(name, &state)?;
        self.forget_removed(name)
    }

    fn forget_removed(&self, name: &PackageName) -> Result<(), StorageError> {
        let path = self.removed_path(name);
        let failed = |error| StorageError::io(format!("deleting {}", path.display()), error);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps a damaged file that something else takes the place of.
    fn keep_damaged(&self, name: &PackageName, bytes: &[u8]) -> Result<(), StorageError> {
        let now = SystemClock.now().unix_millis();
        let file = format!("{}-{now}.json", name.to_path_segment());
        let path = self.quarantine.join(file);
        create_folder_synced(&self.quarantine)
            .and_then(|()| write_atomic(&path, bytes, MODE_PUBLIC))
            .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))?;
        tracing::warn!(package.name = %name, kept = %path.display(), "a damaged file is replaced; it is kept");
        Ok(())
    }

    /// The names with a manifest without versions. Blocks.
    pub(super) fn removed_names(&self) -> Result<Vec<PackageName>, StorageError> {
        let failed = |error| StorageError::io(format!("listing {}", self.removed.display()), error);
        let entries = match fs::read_dir(&self.removed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.file_name();
            let folder = file.to_str().and_then(|file| file.strip_suffix(".json"));
            names.extend(folder.and_then(package_of));
        }
        Ok(names)
    }

    /// All names of manifests, with what tells of changes. Files of cached packages are not looked
    /// at. Blocks.
    fn survey(&self) -> Result<Vec<(PackageName, Stamp)>, StorageError> {
        let names = self.list.names()?;
        let mut found = Vec::new();
        for name in names.iter() {
            let stamp = stamp_at(&self.layout.manifest(name)).unwrap_or_else(|error| {
                // One that cannot be looked at hides none of the others.
                tracing::debug!(package.name = %name, %error, "cannot be looked at");
                Some(Stamp::default())
            });
            found.extend(stamp.map(|stamp| (name.clone(), stamp)));
        }
        let listed: HashSet<PackageName> = found.iter().map(|(name, _)| name.clone()).collect();
        for name in self.removed_names()? {
            if !listed.contains(&name)
                && let Some(stamp) = stamp_at(&self.removed_path(&name))?
            {
                found.push((name, stamp));
            }
        }
        Ok(found)
    }
}

/// What is known without reading anything.
enum Known {
    Stamp(Option<Stamp>),
    Nothing,
}

/// The stamp of the file at `path`; `None` if there is none.
fn stamp_at(path: &Path) -> Result<Option<Stamp>, StorageError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(stamp_of(&metadata))),
        // Also where a file has the name of a package.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(StorageError::io(
            format!("reading {}", path.display()),
            error,
        )),
    }
}

fn is_not_a_folder(error: &crate::error::BoxError) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotADirectory)
}

#[async_trait]
impl MetadataStore for VerdaccioManifests {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let (parts, name) = (Arc::clone(&self.parts), name.clone());
        blocking(move || Ok(parts.state(&name)?.into_document())).await
    }

    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError> {
        match self.parts.stamp(name)? {
            Known::Stamp(stamp) => Ok(stamp),
            Known::Nothing => Ok(self.get(name).await?.map(|document| document.stamp)),
        }
    }

    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        let (parts, package) = (Arc::clone(&self.parts), name.clone());
        let work = move || parts.put(&package, &json, &expected);
        self.parts.locks.locked(name, work).await
    }

    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        let (parts, package, revision) = (Arc::clone(&self.parts), name.clone(), revision.clone());
        let work = move || parts.delete(&package, &revision);
        self.parts.locks.locked(name, work).await
    }

    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.survey().map_ok(|(name, _)| name).boxed()
    }

    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>> {
        let parts = Arc::clone(&self.parts);
        all_of(async move { blocking(move || parts.survey()).await })
    }
}

#[async_trait]
impl Holding for VerdaccioManifests {
    async fn hold(
        &self,
        name: &PackageName,
        revision: Option<&Revision>,
    ) -> Result<Option<Hold>, StorageError> {
        let (parts, package) = (Arc::clone(&self.parts), name.clone());
        let current = move || Ok(parts.state(&package)?.revision());
        self.parts.locks.hold(name, revision, current).await
    }
}
