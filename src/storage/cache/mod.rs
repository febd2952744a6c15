//! [`UpstreamCache`]: what came from upstream, on disk. All of it may be deleted at any time.

mod document;
mod last_use;
mod prune;
mod stats;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::Engine as _;
use bytes::Bytes;
use sha2::Digest as _;

pub use document::{CachedDocument, Freshness};
use document::{DocumentPaths, put_in};
use last_use::note_use;
use prune::Growth;
pub use prune::{Amount, CacheBounds, Pruned};
pub use stats::{CacheStats, Selection};

use super::{
    FileBlob, Observer, StorageError, TemporaryBlob,
    fs::{atomic::copy_by, blocking, open_blob},
    layout::folder_name,
    sweep,
};
use crate::models::{Digest, Integrity, PackageName, UplinkName};

/// The folder of the packages' folders.
const PACKAGES: &str = "packages";
/// The folder of the uplinks' folders, for what is not of one package.
const DOCUMENTS: &str = "documents";
/// How often something is put in its place whose folder goes away at that moment.
const ATTEMPTS: u8 = 3;

/// The cache of upstream documents and tarballs, apart from everything hosted.
///
/// Several processes may share one: each file is put in its place whole, and says itself what it
/// is. Folders are made when something is put into them, because all of them may be deleted at
/// any time. Nothing waits until it is durable, except the bytes of tarballs: documents that a
/// power cut left half-written do not have their digests, and are fetched again.
#[derive(Clone, Debug)]
pub struct UpstreamCache {
    root: PathBuf,
    /// Where files are while they are being written.
    temporary: PathBuf,
    growth: Arc<Growth>,
    // Held for as long as any clone lives.
    _in_use: Arc<File>,
}

impl UpstreamCache {
    /// Opens the cache; makes its folder if it is missing. Blocks.
    pub fn open(root: PathBuf) -> Result<Self, StorageError> {
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

    /// Opens it like [`UpstreamCache::open`], without blocking.
    pub async fn open_folder(root: PathBuf) -> Result<Self, StorageError> {
        blocking(move || Self::open(root)).await
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    /// The cached packument of `name` from `uplink`. Damaged entries are as good as none.
    pub async fn packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let paths = self.packument_paths(name, uplink);
        if is_missing(&paths.file) {
            return Ok(None);
        }
        blocking(move || paths.read()).await
    }

    /// Whether a packument of `name` from `uplink` is there, whatever its state.
    pub async fn has_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<bool, StorageError> {
        let paths = self.packument_paths(name, uplink);
        blocking(move || Ok(paths.file.is_file())).await
    }

    /// Keeps a packument.
    pub async fn put_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        packument: CachedDocument,
    ) -> Result<(), StorageError> {
        let paths = self.packument_paths(name, uplink);
        self.put(paths, packument).await
    }

    /// Keeps the freshness of a packument of which upstream said again that it is current, and the
    /// packument itself if it is not there any more.
    pub async fn refresh_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        packument: CachedDocument,
    ) -> Result<(), StorageError> {
        let paths = self.packument_paths(name, uplink);
        let growth = Arc::clone(&self.growth);
        blocking(move || {
            if paths.refresh(&packument)? {
                return Ok(());
            }
            paths.write(&packument)?;
            growth.add(length_of(&packument.body));
            Ok(())
        })
        .await
    }

    async fn put(
        &self,
        paths: DocumentPaths,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        let growth = Arc::clone(&self.growth);
        blocking(move || {
            paths.write(&document)?;
            growth.add(length_of(&document.body));
            Ok(())
        })
        .await
    }

    /// Forgets a packument that upstream no longer has.
    pub async fn remove_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<(), StorageError> {
        let paths = self.packument_paths(name, uplink);
        blocking(move || match fs::remove_file(&paths.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let operation = format!("deleting {}", paths.file.display());
                Err(StorageError::io(operation, error))
            }
            _ => Ok(()),
        })
        .await
    }

    /// What `uplink` last answered at `path`, other than packuments and tarballs. Damaged entries
    /// are as good as none.
    pub async fn document(
        &self,
        uplink: &UplinkName,
        path: &str,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let paths = self.document_paths(uplink, path);
        blocking(move || paths.read()).await
    }

    /// Keeps such an answer.
    pub async fn put_document(
        &self,
        uplink: &UplinkName,
        path: &str,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        let paths = self.document_paths(uplink, path);
        self.put(paths, document).await
    }

    /// Opens the cached tarball with `digest`; it was verified before it was kept.
    pub async fn tarball(
        &self,
        name: &PackageName,
        digest: &Digest,
    ) -> Result<Option<FileBlob>, StorageError> {
        let path = self.tarball_path(name, digest);
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

    /// Keeps the finished, durable and verified `blob` as the tarball with `digest`.
    pub async fn put_tarball<O: Observer>(
        &self,
        name: &PackageName,
        digest: &Digest,
        blob: &TemporaryBlob<O>,
    ) -> Result<(), StorageError> {
        let (from, to) = (blob.path().to_owned(), self.tarball_path(name, digest));
        let (temporary, growth) = (self.temporary.clone(), Arc::clone(&self.growth));
        let length = blob.written();
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

    /// Keeps a small tarball, whose bytes whoever reads it compares with `digest`: it need not be
    /// durable.
    pub async fn put_small_tarball(
        &self,
        name: &PackageName,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        let to = self.tarball_path(name, digest);
        let (temporary, growth) = (self.temporary.clone(), Arc::clone(&self.growth));
        blocking(move || {
            put_in(&temporary, &to, &[&bytes])?;
            growth.add(length_of(&bytes));
            Ok(())
        })
        .await
    }

    /// The cached tarballs whose bytes are not those that their names promise; with `remove`, they
    /// are deleted: all of the cache comes again.
    pub async fn damaged_tarballs(&self, remove: bool) -> Result<Vec<PathBuf>, StorageError> {
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

    fn packument_paths(&self, name: &PackageName, uplink: &UplinkName) -> DocumentPaths {
        DocumentPaths {
            file: self.package_folder(name).join(format!("{uplink}.json")),
            temporary: self.temporary.clone(),
        }
    }

    fn document_paths(&self, uplink: &UplinkName, path: &str) -> DocumentPaths {
        let folder = self.root.join(DOCUMENTS).join(uplink.as_str());
        // Paths are of any length and alphabet.
        let stem = hex::encode(sha2::Sha256::digest(path));
        DocumentPaths {
            file: folder.join(format!("{stem}.json")),
            temporary: self.temporary.clone(),
        }
    }

    fn tarball_path(&self, name: &PackageName, digest: &Digest) -> PathBuf {
        let file = format!("{}-{}.tgz", digest.algorithm.as_str(), digest.to_hex());
        self.package_folder(name).join(file)
    }

    /// The folder of all that is known of `name`: one, because folders take long to make.
    fn package_folder(&self, name: &PackageName) -> PathBuf {
        self.root.join(PACKAGES).join(folder_name(name))
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

fn sweep_if_alone(locked: Result<(), TryLockError>, temporary: &Path) -> io::Result<()> {
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
