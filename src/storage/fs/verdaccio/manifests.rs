//! [`VerdaccioManifests`]: what is hosted, in the files in which Verdaccio keeps it.

use std::{
    collections::{BTreeSet, HashSet},
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
        metadata::{revision_of, stamp_of},
    },
    list::List,
    members::{object, text},
    merge::{merged, without_hosted},
    origins::Origins,
    owner,
    sidecar::{Sidecar, VERSIONS, file_of, set_origin},
    state::State,
    under_way::UnderWay,
};
use crate::{
    lifecycle::{Clock as _, SystemClock, crash_point},
    models::{Origin, PackageName, Pattern, Revision, TarballName},
    storage::{
        Document, Expected, Hold, Holding, MetadataStore, Stamp, StorageError,
        layout::{Layout, folder_name, package_of},
    },
};

/// How many cached packages are remembered not to be hosted.
const MAX_REMEMBERED: u64 = 100_000;

/// The folder of manifests without versions.
const REMOVED: &str = "removed";

/// Keeps the manifest of a hosted package in the file that Verdaccio keeps of it, beside what uplinks say
/// of the same name.
///
/// A manifest without any version, such as what is left of a package that was unpublished, is in a folder
/// of ours: Verdaccio is to know nothing of it. Hosted is what is in Verdaccio's list, and what the file
/// says to have been published: lists were lost before. A name in the list of which there is neither file
/// is a hosted package that was lost, and never one of upstream's.
#[derive(Clone, Debug)]
pub(in crate::storage) struct VerdaccioManifests {
    pub(super) parts: Arc<Parts>,
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) layout: Layout,
    pub(super) list: List,
    pub(super) origins: Origins,
    pub(super) under_way: UnderWay,
    /// The hosts of uplinks.
    pub(super) uplinks: BTreeSet<String>,
    proxied: Vec<(Pattern, bool)>,
    /// Manifests without versions.
    pub(super) removed: PathBuf,
    /// Where damaged files are kept that something else takes the place of.
    pub(super) quarantine: PathBuf,
    pub(super) is_read_only: bool,
    locks: Locks,
    /// Which files of unlisted names have nothing that is hosted, or have something, in which state.
    pub(super) remembered: Cache<PackageName, (Stamp, bool)>,
}

/// What is known of a folder before its packages are read.
pub(super) struct KnownOfFolder {
    pub(super) layout: Layout,
    pub(super) list: List,
    pub(super) origins: Origins,
    /// The hosts of uplinks.
    pub(super) uplinks: BTreeSet<String>,
    /// Patterns in the order of their rules, each with whether uplinks are asked for such names.
    pub(super) proxied: Vec<(String, bool)>,
}

impl VerdaccioManifests {
    pub(super) fn new(known: KnownOfFolder, data_dir: &Path, is_read_only: bool) -> Self {
        let KnownOfFolder {
            layout,
            list,
            origins,
            uplinks,
            proxied,
        } = known;
        let proxied = proxied.into_iter();
        let proxied = proxied.filter_map(|(pattern, is_proxied)| {
            let pattern = Pattern::compile(&pattern).ok()?;
            Some((pattern, is_proxied))
        });
        let parts = Parts {
            layout,
            list,
            origins,
            uplinks,
            proxied: proxied.collect(),
            under_way: UnderWay::new(data_dir.join("under-way")),
            removed: data_dir.join(REMOVED),
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
        removed_in(&self.removed, name)
    }

    /// The stamp of the manifest, as far as nothing needs to be read for that.
    fn stamp(&self, name: &PackageName) -> Result<Known, StorageError> {
        // One look at an inode that the kernel has at hand takes about a microsecond.
        if let Some(stamp) = stamp_at(&self.layout.manifest(name))? {
            if self.list.names()?.contains(name) {
                return Ok(Known::Stamp(Some(stamp)));
            }
            if self.origins.get(name).is_some() {
                return Ok(Known::Nothing);
            }
            match self.remembered.get(name) {
                Some((known, true)) if known == stamp => return Ok(Known::Stamp(Some(stamp))),
                Some((known, false)) if known == stamp => {}
                _ => return Ok(Known::Nothing),
            }
        }
        match stamp_at(&self.removed_path(name))? {
            Some(stamp) => Ok(Known::Stamp(Some(stamp))),
            // It is for reading to find out whether it is lost.
            None if self.list.names()?.contains(name) || self.origins.get(name).is_some() => {
                Ok(Known::Nothing)
            }
            None => Ok(Known::Stamp(None)),
        }
    }

    fn lost(&self, name: &PackageName) -> StorageError {
        let remedy = if self.is_proxied(name) {
            "put it back from a backup; if all tarballs beside it were published here, and none was downloaded, a \
             rule without `proxy` for this name and another start rebuild it from them"
        } else {
            "put it back from a backup; at the next start it is rebuilt from the tarballs beside it, if there are any"
        };
        StorageError::Lost {
            manifest: self.layout.manifest(name).display().to_string(),
            because: format!("`{name}` is in {}", self.list.path().display()),
            remedy: remedy.to_owned(),
        }
    }

    /// Whether uplinks are asked for names like this one, so that they may have been before.
    pub(super) fn is_proxied(&self, name: &PackageName) -> bool {
        let mut rules = self.proxied.iter();
        let rule = rules.find(|(pattern, _)| pattern.matches(name.as_str()));
        rule.is_some_and(|(_, is_proxied)| *is_proxied)
    }

    fn document(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let state = self.state(name)?;
        if state.is_lost {
            return Err(self.lost(name));
        }
        Ok(state.into_document())
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
            new => {
                let json = match (new, state.origin) {
                    (Ok(new), Some(origin)) => with_origin(&new, origin),
                    _ => json.clone(),
                };
                self.put_empty(name, &state, &json)
            }
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
        // What is known of the name is more than what a manifest from elsewhere says.
        let known = self.origins.get(name).or(new.origin()).or(state.origin);
        let origin = known.unwrap_or_else(|| new.deduced_origin());
        let json = merged(name, old, new, origin);
        self.origins.keep(&[(name.clone(), origin)])?;
        if !state.is_hosted() {
            // A name in the list has a manifest at every moment.
            self.write_removed(name, &nothing_of(name, origin))?;
        }
        self.list.add(std::slice::from_ref(name))?;
        owner::make_folder(&self.layout.folder(name)).map_err(failed)?;
        owner::write(&path, &json, MODE_PUBLIC).map_err(failed)?;
        crash_point("manifest-placed");
        let is_named = |file: &TarballName| {
            let mut versions = new.versions().into_iter();
            versions.any(|(version, raw)| file_of(name, &version, &raw).as_ref() == Some(file))
        };
        self.under_way.done(name, is_named);
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
        self.write_removed(name, json)?;
        crash_point("removed-written");
        self.take_out(name, state)?;
        Ok(revision_of(json))
    }

    pub(super) fn write_removed(
        &self,
        name: &PackageName,
        json: &Bytes,
    ) -> Result<(), StorageError> {
        let path = self.removed_path(name);
        create_folder_synced(&self.removed)
            .and_then(|()| write_atomic(&path, json, MODE_PUBLIC))
            .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))
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
                Some(json) => owner::write(&path, &json, MODE_PUBLIC).map_err(failed)?,
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
        if state.removed.is_none() {
            let origin = state.origin.unwrap_or(Origin::Local);
            self.write_removed(name, &nothing_of(name, origin))?;
        }
        self.take_out(name, &state)?;
        self.origins.forget(name)?;
        self.forget_removed(name)
    }

    pub(super) fn forget_removed(&self, name: &PackageName) -> Result<(), StorageError> {
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

/// Where the manifest without versions of `name` is.
pub(super) fn removed_path(data_dir: &Path, name: &PackageName) -> PathBuf {
    removed_in(&data_dir.join(REMOVED), name)
}

fn removed_in(folder: &Path, name: &PackageName) -> PathBuf {
    folder.join(format!("{}.json", folder_name(name)))
}

/// What is known without reading anything.
enum Known {
    Stamp(Option<Stamp>),
    Nothing,
}

/// The manifest of a name of which there is nothing.
pub(super) fn nothing_of(name: &PackageName, origin: Origin) -> Bytes {
    let empty = Bytes::from_static(b"{}");
    let fields = [("name", text(name.as_str())), (VERSIONS, empty)];
    let fields = fields.into_iter();
    let mut fields = fields.map(|(key, raw)| (key.to_owned(), raw)).collect();
    set_origin(&mut fields, origin);
    object(&fields)
}

/// The same manifest, which says whose the name is.
fn with_origin(manifest: &Sidecar, origin: Origin) -> Bytes {
    let mut fields = manifest.fields.clone();
    set_origin(&mut fields, origin);
    object(&fields)
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

pub(super) fn is_not_a_folder(error: &crate::error::BoxError) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotADirectory)
}

#[async_trait]
impl MetadataStore for VerdaccioManifests {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let (parts, name) = (Arc::clone(&self.parts), name.clone());
        blocking(move || parts.document(&name)).await
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

    async fn strangers(&self) -> Result<Vec<String>, StorageError> {
        let parts = Arc::clone(&self.parts);
        blocking(move || Ok(parts.list.strangers())).await
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
