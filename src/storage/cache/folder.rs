//! [`FolderTier`]: the cache in a folder of this machine.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use futures_core::stream::BoxStream;

use super::{
    ATTEMPTS, CachedDocument, Freshness,
    document::{DocumentPaths, put_in},
    last_use::{last_use, note_use},
    prune::Growth,
    tier::{Entry, Folder, PACKAGES, Place, Tier},
    walk::{self, found},
};
use crate::{
    models::{Integrity, Timestamp},
    storage::{
        Blob, FileBlob, FinishedBlob, StorageError,
        fs::{atomic::copy_by, blocking, open_blob},
        sweep,
    },
};

/// The cache in a folder. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct FolderTier {
    pub(super) root: PathBuf,
    /// Where files are while they are being written.
    pub(super) temporary: PathBuf,
    pub(super) growth: Arc<Growth>,
    // Held for as long as any clone lives.
    _in_use: Arc<File>,
}

impl FolderTier {
    /// Opens the folder; makes it if it is missing. Blocks.
    pub(super) fn open(root: PathBuf) -> Result<Self, StorageError> {
        fs::create_dir_all(&root)
            .map_err(|error| StorageError::io(format!("making {}", root.display()), error))?;
        let temporary = root.join("tmp");
        let in_use = take_part(&root.join("lock"), &temporary)
            .map_err(|error| StorageError::io(format!("opening {}", root.display()), error))?;
        Ok(Self {
            root,
            temporary,
            growth: Arc::default(),
            _in_use: Arc::new(in_use),
        })
    }

    pub(super) fn path(&self, place: &Place) -> PathBuf {
        self.root.join(&place.folder).join(&place.file)
    }

    pub(super) fn document_paths(&self, place: &Place) -> DocumentPaths {
        DocumentPaths {
            file: self.path(place),
            temporary: self.temporary.clone(),
        }
    }

    /// Whether there is a document, whatever its state.
    pub(super) async fn has_document(&self, place: &Place) -> Result<bool, StorageError> {
        let path = self.path(place);
        blocking(move || Ok(path.is_file())).await
    }

    /// Opens a tarball as the file that it is.
    pub(super) async fn file(&self, place: &Place) -> Result<Option<FileBlob>, StorageError> {
        let path = self.path(place);
        if is_missing(&path) {
            return Ok(None);
        }
        blocking(move || {
            let blob = open_blob(&path)?;
            if let Some(blob) = &blob {
                note_use(&blob.file);
            }
            Ok(blob)
        })
        .await
    }

    /// The tarballs whose bytes are not those that their names promise; with `remove`, they are
    /// deleted.
    pub(super) async fn damaged_tarballs(
        &self,
        remove: bool,
    ) -> Result<Vec<PathBuf>, StorageError> {
        let root = self.root.join(PACKAGES);
        blocking(move || {
            let mut damaged = Vec::new();
            for folder in entries(&root)? {
                let is_tarball =
                    |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tgz");
                for path in entries(&folder)?.into_iter().filter(is_tarball) {
                    if is_as_named(&path)? {
                        continue;
                    }
                    if remove {
                        fs::remove_file(&path).map_err(|error| {
                            StorageError::io(format!("deleting {}", path.display()), error)
                        })?;
                    }
                    damaged.push(path);
                }
            }
            damaged.sort();
            Ok(damaged)
        })
        .await
    }

    /// Writes `document`; if that will do, only what is said about the body that is there.
    async fn keep(
        &self,
        place: &Place,
        document: CachedDocument,
        may_refresh: bool,
    ) -> Result<(), StorageError> {
        let (paths, growth) = (self.document_paths(place), Arc::clone(&self.growth));
        blocking(move || {
            if may_refresh && paths.refresh(&document)? {
                return Ok(());
            }
            paths.write(&document)?;
            growth.add(length_of(&document.body));
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Tier for FolderTier {
    async fn document(&self, place: &Place) -> Result<Option<CachedDocument>, StorageError> {
        let paths = self.document_paths(place);
        if is_missing(&paths.file) {
            return Ok(None);
        }
        blocking(move || paths.read()).await
    }

    async fn freshness(&self, place: &Place) -> Result<Option<(String, Freshness)>, StorageError> {
        let paths = self.document_paths(place);
        blocking(move || paths.read_head()).await
    }

    async fn put_document(
        &self,
        place: &Place,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        self.keep(place, document, false).await
    }

    async fn refresh_document(
        &self,
        place: &Place,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        self.keep(place, document, true).await
    }

    async fn remove_document(&self, place: &Place) -> Result<(), StorageError> {
        let path = self.path(place);
        blocking(move || {
            found(fs::remove_file(&path))
                .map(drop)
                .map_err(|error| StorageError::io(format!("deleting {}", path.display()), error))
        })
        .await
    }

    async fn tarball(&self, place: &Place) -> Result<Option<Blob>, StorageError> {
        Ok(self.file(place).await?.map(Blob::from))
    }

    async fn put_tarball(&self, place: &Place, blob: FinishedBlob<'_>) -> Result<(), StorageError> {
        let (from, to) = (blob.path.to_owned(), self.path(place));
        let (temporary, growth) = (self.temporary.clone(), Arc::clone(&self.growth));
        let length = blob.length;
        blocking(move || {
            let mut attempts = 1;
            while let Err(error) = link_or_copy(&temporary, &from, &to) {
                // An empty folder may be removed at any time.
                if attempts == ATTEMPTS || error.kind() != io::ErrorKind::NotFound {
                    let operation = format!("creating {}", to.display());
                    return Err(StorageError::io(operation, error));
                }
                attempts += 1;
            }
            growth.add(length);
            Ok(())
        })
        .await
    }

    async fn put_small_tarball(&self, place: &Place, bytes: Bytes) -> Result<(), StorageError> {
        let to = self.path(place);
        let (temporary, growth) = (self.temporary.clone(), Arc::clone(&self.growth));
        blocking(move || {
            put_in(&temporary, &to, &[&bytes])?;
            growth.add(length_of(&bytes));
            Ok(())
        })
        .await
    }

    async fn note_use(&self, _place: &Place) -> Result<(), StorageError> {
        // Opening a file notes it.
        Ok(())
    }

    fn folders(&self) -> BoxStream<'static, Result<Folder, StorageError>> {
        walk::folders(&self.root)
    }

    async fn remove(&self, folder: &str, entries: &[Entry]) -> Result<Vec<bool>, StorageError> {
        let folder = self.root.join(folder);
        let files: Vec<String> = entries.iter().flat_map(|e| e.files.clone()).collect();
        blocking(move || {
            let mut were_there = Vec::with_capacity(files.len());
            for file in files {
                let path = folder.join(file);
                // Whoever has it open reads on.
                let removed = found(fs::remove_file(&path)).map_err(|error| {
                    StorageError::io(format!("deleting {}", path.display()), error)
                })?;
                were_there.push(removed.is_some());
            }
            walk::remove_if_empty(&folder);
            Ok(were_there)
        })
        .await
    }

    async fn sweep(&self, before: Timestamp) -> Result<(), StorageError> {
        let temporary = self.temporary.clone();
        let failed = format!("sweeping {}", temporary.display());
        blocking(move || {
            let sweep = || {
                for entry in found(fs::read_dir(&temporary))?.into_iter().flatten() {
                    let entry = entry?;
                    let Some(metadata) = found(entry.metadata())? else {
                        continue;
                    };
                    if last_use(&metadata) < before {
                        found(fs::remove_file(entry.path()))?;
                    }
                }
                Ok(())
            };
            sweep().map_err(|error| StorageError::io(failed, error))
        })
        .await
    }

    async fn takes_turn(&self, _interval: Duration) -> Result<bool, StorageError> {
        Ok(true)
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

fn length_of(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Gives the bytes of `from` the name `to`; makes the folders that it needs.
fn link_or_copy(temporary: &Path, from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        // The name is the content: whoever was faster kept the same bytes.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // It may be on another file system than the blob, or on one without links.
        Err(_) => {
            fs::create_dir_all(temporary)?;
            copy_by(temporary, from, to)
        }
    }
}

/// What is in `folder`; nothing if it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let failed = |error| StorageError::io(format!("listing {}", folder.display()), error);
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Whether the bytes of a cached tarball have the digest in its name.
fn is_as_named(path: &Path) -> Result<bool, StorageError> {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    let Some((algorithm, digest)) = name.and_then(|name| name.split_once('-')) else {
        return Ok(false);
    };
    let Ok(digest) = hex::decode(digest) else {
        return Ok(false);
    };
    let encoded = base64::engine::general_purpose::STANDARD.encode(digest);
    let Ok(integrity) = format!("{algorithm}-{encoded}").parse::<Integrity>() else {
        return Ok(false);
    };
    let Some(mut blob) = open_blob(path)? else {
        return Ok(false);
    };
    let mut verifier = integrity.verifier();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = blob
            .file
            .read(&mut buffer)
            .map_err(|error| StorageError::io(format!("reading {}", path.display()), error))?;
        if count == 0 {
            return Ok(verifier.finish().is_ok());
        }
        verifier.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Marks the cache as in use for as long as the file is open. Whoever is alone removes what was
/// left half-made; who cannot know whether he is, because the file system has no locks, leaves it.
fn take_part(lock: &Path, temporary: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock)?;
    if let Err(error) = sweep_if_alone(file.try_lock(), temporary).and_then(|()| file.lock_shared())
    {
        tracing::warn!(folder = %temporary.display(), %error, "cannot sweep this folder; what was left half-made in it stays");
    }
    Ok(file)
}

pub(super) fn sweep_if_alone(locked: Result<(), TryLockError>, temporary: &Path) -> io::Result<()> {
    match locked {
        Ok(()) => sweep::temporary_folder(temporary),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether there is surely nothing. Found out here and now: most of what is asked for first is not
/// there, and to hand the question to another thread would take ten times as long.
fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
