//! [`FsBlobs`]: tarballs as files. Created once, visible only when complete, never overwritten by
//! accident.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::{Stream, stream::BoxStream};
use futures_util::stream;
use tokio::sync::Mutex;
use url::Url;

use super::{
    FsMetadata, Pieces, all_of,
    atomic::{create_folder_synced, sync_parent},
    blocking,
    metadata::revision_of,
    new_package::create_folder_with,
};
use crate::{
    lifecycle::{crash_point, random_hex},
    models::{PackageName, Revision, TarballName, Timestamp},
    storage::{
        Blob, Blobs, Created, Doomed, FinishedBlob, Holding, Seen, StorageError, StoredBlob,
        layout::{self, Layout},
    },
};

/// An open file that holds a blob.
#[derive(Debug)]
pub struct FileBlob {
    /// The file, at its beginning.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
}

impl FileBlob {
    /// The bytes of `part` in pieces; an error where the file is shorter than it was.
    pub fn into_stream(
        self,
        part: Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let pieces = Pieces::of(Arc::new(self.file));
        stream::try_unfold((pieces, part), |(mut pieces, part)| async move {
            if part.start >= part.end {
                return Ok(None);
            }
            let piece = pieces.next(part.clone()).await?;
            let next = part.start + u64::try_from(piece.len()).unwrap_or(u64::MAX);
            Ok(Some((piece, (pieces, next..part.end))))
        })
    }

    /// All bytes; an error where the file is shorter than it was. For blobs that fit into memory.
    pub async fn into_bytes(self) -> Result<Bytes, StorageError> {
        blocking(move || {
            let mut bytes = vec![0; usize::try_from(self.length).unwrap_or_default()];
            self.file
                .read_exact_at(&mut bytes, 0)
                .map_err(|error| StorageError::io("reading a tarball", error))?;
            Ok(bytes.into())
        })
        .await
    }
}

/// The blobs of hosted packages, as files beside their manifests.
///
/// A file never changes; what was seen in a place is told from what comes later by its inode and
/// the time at which it was written. Replacing and deleting look again while nobody else does either,
/// and deleting while the manifest cannot change.
#[derive(Clone, Debug)]
pub struct FsBlobs {
    layout: Layout,
    metadata: Arc<dyn Holding>,
    /// The same manifests, if they lie beside the tarballs.
    beside: Option<FsMetadata>,
    /// One at a time replaces and deletes: the folder is this process's alone.
    changing: Arc<Mutex<()>>,
    quarantine: PathBuf,
}

impl FsBlobs {
    /// The blobs beside the manifests of `metadata`; what is set aside goes to `quarantine`.
    pub fn new(layout: Layout, metadata: FsMetadata, quarantine: PathBuf) -> Self {
        let mut blobs = Self::apart(layout, Arc::new(metadata.clone()), quarantine);
        blobs.beside = Some(metadata);
        blobs
    }

    /// The blobs whose manifests, those of `metadata`, are elsewhere.
    pub fn apart(layout: Layout, metadata: Arc<dyn Holding>, quarantine: PathBuf) -> Self {
        Self {
            layout,
            metadata,
            beside: None,
            changing: Arc::default(),
            quarantine,
        }
    }

    /// Does something to each file that is as it was seen, if the manifest is at `revision`.
    /// Whether it did it to all that are there.
    async fn each_while(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
        work: impl Fn(&Path, &TarballName) -> Result<(), StorageError> + Send + 'static,
    ) -> Result<bool, StorageError> {
        let changing = Arc::clone(&self.changing).lock_owned().await;
        let Some(hold) = self.metadata.hold(name, Some(revision)).await? else {
            return Ok(false);
        };
        let (layout, package) = (self.layout.clone(), name.clone());
        // Both are held until the work is done, also where nobody waits for it any more.
        blocking(move || {
            let mut is_all = true;
            for (file, seen) in doomed.0 {
                let path = layout.blob(&package, &file);
                let now = seen_at(&path)?;
                if now.0.is_none() {
                    continue;
                }
                if now == seen {
                    work(&path, &file)?;
                } else {
                    is_all = false;
                }
            }
            drop((hold, changing));
            Ok(is_all)
        })
        .await
    }

    fn packages_now(layout: &Layout) -> Result<Vec<PackageName>, StorageError> {
        let listing = || format!("listing {}", layout.root().display());
        let found = layout
            .packages()
            .map_err(|error| StorageError::io(listing(), error))?;
        let mut names: Vec<PackageName> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }
}

#[async_trait]
impl Blobs for FsBlobs {
    async fn create(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Created, StorageError> {
        let (from, to) = (blob.path.to_owned(), self.layout.blob(name, file));
        let folder = self.layout.folder(name);
        blocking(move || match link_into(&folder, &from, &to) {
            Ok(true) => Ok(Created::New),
            Ok(false) => seen_at(&to).map(Created::Taken),
            Err(error) => {
                let operation = format!("creating {}", to.display());
                Err(StorageError::io(operation, error))
            }
        })
        .await
    }

    async fn create_package(
        &self,
        name: &PackageName,
        json: Bytes,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Option<Revision>, StorageError> {
        let Some(metadata) = &self.beside else {
            return Ok(None);
        };
        let (from, file) = (blob.path.to_owned(), file.clone());
        let folder = self.layout.folder(name);
        metadata
            .locked(name, move || {
                let is_ours =
                    create_folder_with(&folder, &json, &file, &from).map_err(|error| {
                        StorageError::io(format!("creating {}", folder.display()), error)
                    })?;
                Ok(is_ours.then(|| revision_of(&json)))
            })
            .await
    }

    async fn replace(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        blob: FinishedBlob<'_>,
    ) -> Result<bool, StorageError> {
        let (from, to) = (blob.path.to_owned(), self.layout.blob(name, file));
        let seen = seen.clone();
        let changing = Arc::clone(&self.changing).lock_owned().await;
        blocking(move || {
            if seen.0.is_none() || seen_at(&to)? != seen {
                return Ok(false);
            }
            bring_beside(&from, &to)
                .and_then(|beside| fs::rename(&beside, &to))
                .and_then(|()| sync_parent(&to))
                .map_err(|error| StorageError::io(format!("replacing {}", to.display()), error))?;
            drop(changing);
            Ok(true)
        })
        .await
    }

    async fn open(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Blob>, StorageError> {
        let path = self.layout.blob(name, file);
        blocking(move || Ok(open_blob(&path)?.map(Blob::from))).await
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
        let (layout, package) = (self.layout.clone(), name.clone());
        blocking(move || {
            let seen = files.into_iter().map(|file| {
                let seen = seen_at(&layout.blob(&package, &file))?;
                Ok((file, seen))
            });
            seen.collect::<Result<_, _>>().map(Doomed)
        })
        .await
    }

    async fn delete(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError> {
        self.each_while(name, doomed, revision, |path, _| {
            crash_point("blob-deleting");
            remove_if_there(path)
                .map_err(|error| StorageError::io(format!("deleting {}", path.display()), error))
        })
        .await
    }

    async fn set_aside(
        &self,
        name: &PackageName,
        doomed: Doomed,
        revision: &Revision,
    ) -> Result<bool, StorageError> {
        let folder = self.quarantine.join(layout::folder_name(name));
        self.each_while(name, doomed, revision, move |from, file| {
            let to = folder.join(format!("{}.{file}", random_hex::<4>()));
            create_folder_synced(&folder)
                .and_then(|()| rename_anywhere(from, &to))
                .and_then(|()| sync_parent(&to))
                .and_then(|()| sync_parent(from))
                .map_err(|error| StorageError::io(format!("moving {}", from.display()), error))
        })
        .await
    }

    fn packages(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let layout = self.layout.clone();
        all_of(async move { blocking(move || Self::packages_now(&layout)).await })
    }

    fn perhaps_lost(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let layout = self.layout.clone();
        let lost = move || {
            let mut names = Self::packages_now(&layout)?;
            names.retain(|name| !layout.manifest(name).is_file());
            Ok(names)
        };
        all_of(async move { blocking(lost).await })
    }

    async fn leftovers(
        &self,
        _before: Timestamp,
        _remove: bool,
    ) -> Result<Vec<String>, StorageError> {
        // They are swept when the folder is opened.
        Ok(Vec::new())
    }

    async fn list(&self, name: &PackageName) -> Result<Vec<StoredBlob>, StorageError> {
        let folder = self.layout.folder(name);
        blocking(move || list(&folder)).await
    }
}

/// Links `from` to the new name `to` in `folder`, which is made if it is missing. `false` if there is
/// such a file already.
fn link_into(folder: &Path, from: &Path, to: &Path) -> io::Result<bool> {
    let mut attempts = 1;
    loop {
        let linked = create_folder_synced(folder).and_then(|()| link_new(from, to));
        match linked {
            // An empty folder of Verdaccio's layout may be removed at any time.
            Err(error) if error.kind() == ErrorKind::NotFound && attempts < 3 => attempts += 1,
            // Some packages may be on another disk than the folder of unfinished files.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                let beside = bring_beside(from, to)?;
                let linked = link_new(&beside, to);
                fs::remove_file(&beside)?;
                return linked;
            }
            linked => return linked,
        }
    }
}

/// Links or copies `from` to a temporary name in the folder of `to`, durably.
fn bring_beside(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let beside = to.with_file_name(format!(".{}.tmp", random_hex::<16>()));
    match fs::hard_link(from, &beside) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(from, &beside)?;
            let (of, copy) = (fs::metadata(from)?, fs::metadata(&beside)?);
            if (of.uid(), of.gid()) != (copy.uid(), copy.gid()) {
                chown(&beside, Some(of.uid()), Some(of.gid()))?;
            }
            File::open(&beside)?.sync_all()?;
        }
        linked => linked?,
    }
    Ok(beside)
}

/// Moves a file, also to another disk.
fn rename_anywhere(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(from, to)?;
            File::open(to)?.sync_all()?;
            fs::remove_file(from)
        }
        renamed => renamed,
    }
}

/// Links `from` to the new name `to`. `false` if there is such a file already.
fn link_new(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            crash_point("blob-linked");
            sync_parent(to).map(|()| true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the file at `path`; `None` if there is none. Blocks.
pub(in crate::storage) fn open_blob(path: &Path) -> Result<Option<FileBlob>, StorageError> {
    let failed = |error| StorageError::io(format!("reading {}", path.display()), error);
    match File::open(path) {
        Ok(file) => {
            let length = file.metadata().map_err(failed)?.len();
            Ok(Some(FileBlob { file, length }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// What is at `path` now. Blocks.
fn seen_at(path: &Path) -> Result<Seen, StorageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => {
            let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
            let text = format!("{} {seconds}.{nanoseconds}", metadata.ino());
            Ok(Seen(Some(text.into())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Seen::default()),
        Err(error) => Err(StorageError::io(
            format!("reading {}", path.display()),
            error,
        )),
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> Result<Vec<StoredBlob>, StorageError> {
    let failed = |error| StorageError::io(format!("listing {}", folder.display()), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut blobs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Some(file) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A link, or anything else that is no file, is nobody's blob.
        let metadata = entry.metadata().map_err(failed)?;
        if metadata.is_file() {
            blobs.push(StoredBlob {
                file,
                length: metadata.len(),
                created: Timestamp::from_unix_millis(metadata.mtime().saturating_mul(1000)),
            });
        }
    }
    blobs.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{conformance, fs::TemporaryFolder};

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::native(folder.path().join("tarballs"));
        let metadata = FsMetadata::open(layout.clone(), folder.path().join("locks")).unwrap();
        let blobs = FsBlobs::new(layout, metadata.clone(), folder.path().join("quarantine"));
        conformance::blobs(conformance::Backend {
            temporary: TemporaryFolder::open(&folder.path().join("tmp")).unwrap(),
            metadata: Arc::new(metadata),
            blobs: Arc::new(blobs),
        })
        .await;
    }

    #[tokio::test]
    async fn a_dropped_blob_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = TemporaryFolder::open(&folder.path().join("tmp")).unwrap();
        let mut blob = temporary.create(()).await.unwrap();
        blob.write(Bytes::from_static(b"bytes")).await.unwrap();
        blob.finish().await.unwrap();
        let path = blob.path().to_owned();
        assert!(path.exists());
        drop(blob);
        assert!(!path.exists());
    }
}
