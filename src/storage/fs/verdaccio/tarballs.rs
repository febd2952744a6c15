//! [`VerdaccioTarballs`]: the tarballs of hosted packages, among those that Verdaccio has downloaded.

use std::{collections::HashSet, fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use url::Url;

use super::{
    super::{FsBlobs, all_of, blocking},
    manifests::{Parts, VerdaccioManifests},
    owner,
};
use crate::{
    models::{Digest, Integrity, PackageName, Revision, TarballName, Timestamp},
    storage::{Blob, Blobs, Created, Doomed, FinishedBlob, Seen, StorageError, StoredBlob},
};

/// Files beside the manifests of [`VerdaccioManifests`]. What was downloaded is nobody's blob, except that
/// a blob of the same name takes its place.
#[derive(Clone, Debug)]
pub(in crate::storage) struct VerdaccioTarballs {
    files: FsBlobs,
    parts: Arc<Parts>,
}

impl VerdaccioTarballs {
    pub(super) fn new(manifests: &VerdaccioManifests, quarantine: PathBuf) -> Self {
        let layout = manifests.parts.layout.clone();
        Self {
            files: FsBlobs::apart(layout, Arc::new(manifests.clone()), quarantine),
            parts: Arc::clone(&manifests.parts),
        }
    }

    /// Notes what is about to lie beside a manifest that does not name it, gives the folder and the
    /// `blob` to whom Verdaccio's folder belongs, and lets `place` put it there. Whoever puts the manifest
    /// in its place, or deletes the blob, takes the note back.
    async fn place<T, P: Future<Output = Result<T, StorageError>>>(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: FinishedBlob<'_>,
        place: P,
    ) -> Result<T, StorageError> {
        let (parts, package, noted) = (Arc::clone(&self.parts), name.clone(), file.clone());
        let from = blob.path.to_owned();
        let prepare = move || {
            let folder = parts.layout.folder(&package);
            let note = parts.under_way.note(&package, &[noted]);
            note.and_then(|()| owner::make_folder(&folder))
                .and_then(|()| owner::give(&from, owner::owner_at(&folder)))
                .map_err(|error| StorageError::io(format!("preparing {}", folder.display()), error))
        };
        blocking(prepare).await?;
        let placed = place.await?;
        // Somebody who deleted the one before may have taken the note for hers.
        self.note(name, vec![file.clone()]).await?;
        Ok(placed)
    }

    async fn note(&self, name: &PackageName, files: Vec<TarballName>) -> Result<(), StorageError> {
        let (parts, package) = (Arc::clone(&self.parts), name.clone());
        blocking(move || {
            let noted = parts.under_way.note(&package, &files);
            noted.map_err(|error| StorageError::io("noting a tarball", error))
        })
        .await
    }

    /// Takes the notes of those `files` back that are gone, and removes the folder if it is empty.
    async fn gone(&self, name: &PackageName, files: Vec<TarballName>) -> Result<(), StorageError> {
        let (parts, package) = (Arc::clone(&self.parts), name.clone());
        blocking(move || {
            let is_gone = |file: &TarballName| {
                files.contains(file) && !parts.layout.blob(&package, file).exists()
            };
            parts.under_way.done(&package, is_gone);
            // Verdaccio leaves no empty folder either; one that is not empty stays.
            let _ = fs::remove_dir(parts.layout.folder(&package));
            Ok(())
        })
        .await
    }

    fn names(
        &self,
        of: fn(&Parts) -> Result<Vec<PackageName>, StorageError>,
    ) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let parts = Arc::clone(&self.parts);
        all_of(async move { blocking(move || of(&parts)).await })
    }
}

/// The packages that something is hosted of. Blocks.
fn hosted(parts: &Parts) -> Result<Vec<PackageName>, StorageError> {
    let mut names: HashSet<PackageName> = parts.list.names()?.iter().cloned().collect();
    names.extend(parts.removed_names()?);
    let mut names: Vec<PackageName> = names.into_iter().collect();
    names.sort();
    Ok(names)
}

/// Those in the list that have a folder and no file in it that says what they are, and nothing that came
/// from an uplink. Blocks.
fn lost(parts: &Parts) -> Result<Vec<PackageName>, StorageError> {
    let names = parts.list.names()?;
    let is_lost = |name: &&PackageName| {
        !parts.layout.manifest(name).exists()
            && !parts.removed_path(name).exists()
            && parts.layout.folder(name).is_dir()
            && !parts.is_proxied(name)
    };
    let mut names: Vec<PackageName> = names.iter().filter(is_lost).cloned().collect();
    names.sort();
    Ok(names)
}

#[async_trait]
impl Blobs for VerdaccioTarballs {
    async fn create(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Created, StorageError> {
        let create = self.files.create(name, file, blob);
        self.place(name, file, blob, create).await
    }

    async fn replace(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        blob: FinishedBlob<'_>,
    ) -> Result<bool, StorageError> {
        let replace = self.files.replace(name, file, seen, blob);
        self.place(name, file, blob, replace).await
    }

    async fn open(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Blob>, StorageError> {
        self.files.open(name, file).await
    }

    async fn signed_url(
        &self,
        _name: &PackageName,
        _file: &TarballName,
    ) -> Result<Option<Url>, StorageError> {
        Ok(None)
    }

    async fn doom(
        &self,
        name: &PackageName,
        files: Vec<TarballName>,
    ) -> Result<Doomed, StorageError> {
        self.note(name, files.clone()).await?;
        self.files.doom(name, files).await
    }

    async fn delete(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError> {
        let files = doomed.0.iter().map(|(file, _)| file.clone()).collect();
        let is_done = self.files.delete(name, doomed, revision).await?;
        self.gone(name, files).await?;
        Ok(is_done)
    }

    async fn set_aside(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError> {
        let files = doomed.0.iter().map(|(file, _)| file.clone()).collect();
        let is_done = self.files.set_aside(name, doomed, revision).await?;
        self.gone(name, files).await?;
        Ok(is_done)
    }

    fn packages(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.names(hosted)
    }

    fn perhaps_lost(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.names(lost)
    }

    async fn leftovers(
        &self,
        before: Timestamp,
        remove: bool,
    ) -> Result<Vec<String>, StorageError> {
        self.files.leftovers(before, remove).await
    }

    async fn list(&self, name: &PackageName) -> Result<Vec<StoredBlob>, StorageError> {
        let (parts, package) = (Arc::clone(&self.parts), name.clone());
        let downloaded = blocking(move || {
            let state = parts.state(&package)?;
            // Nobody knows either which ones of a lost package were downloaded.
            let is_hosted = state.is_hosted() && !(state.is_lost && parts.is_proxied(&package));
            let found = state
                .found
                .and_then(|found| Some((found.sidecar?, found.hosted)));
            let downloaded = found.map(|(sidecar, hosted)| sidecar.downloaded(&hosted));
            Ok(is_hosted.then(|| downloaded.unwrap_or_default()))
        });
        // Nobody knows whose the tarballs of a name are that is not hosted; they may have been cached.
        let Some(downloaded) = downloaded.await? else {
            return Ok(Vec::new());
        };
        let mut blobs = self.files.list(name).await?;
        blobs.retain(|blob| !downloaded.contains(blob.file.as_str()));
        Ok(blobs)
    }

    async fn verify(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<Option<Result<Digest, Digest>>, StorageError> {
        self.files.verify(name, file, integrity).await
    }
}
