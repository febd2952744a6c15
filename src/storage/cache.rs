//! [`UpstreamCache`]: what came from upstream, on disk. All of it may be deleted at any time.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    FileBlob, Observer, StorageError, TemporaryBlob,
    fs::{
        atomic::{copy_by, replace_by},
        blocking, open_blob,
    },
    layout::folder_name,
    sweep,
};
use crate::models::{Digest, Integrity, PackageName, Timestamp, UplinkName};

/// What is known about how fresh a cached document is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// When upstream last said that this is the document.
    pub fetched_at: Timestamp,
    /// Upstream's `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Upstream's `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// A document as upstream sent it.
#[derive(Clone, Debug)]
pub struct CachedDocument {
    /// The document, byte for byte.
    pub body: Bytes,
    /// The SHA-256 of the document in hexadecimal; names this state of it.
    pub digest: String,
    /// How fresh it is.
    pub freshness: Freshness,
}

impl CachedDocument {
    /// A document that has just come.
    pub fn new(body: Bytes, freshness: Freshness) -> Self {
        let digest = hex::encode(sha2::Sha256::digest(&body));
        Self {
            body,
            digest,
            freshness,
        }
    }
}

/// The first line of a cached document's file.
#[derive(Serialize, Deserialize)]
struct Head {
    sha256: String,
    #[serde(flatten)]
    freshness: Freshness,
}

/// A head is filled up with spaces to a multiple of so many bytes, so that another one can be
/// written over it.
const HEAD: usize = 512;

/// The folder of the packages' folders.
const PACKAGES: &str = "packages";

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
            _in_use: Arc::new(in_use),
        })
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
        blocking(move || paths.write(&packument)).await
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
        blocking(move || {
            if paths.refresh(&packument)? {
                return Ok(());
            }
            paths.write(&packument)
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
        blocking(move || paths.write(&document)).await
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
        blocking(move || open_blob(&path)).await
    }

    /// Keeps the finished, durable and verified `blob` as the tarball with `digest`.
    pub async fn put_tarball<O: Observer>(
        &self,
        name: &PackageName,
        digest: &Digest,
        blob: &TemporaryBlob<O>,
    ) -> Result<(), StorageError> {
        let (from, to) = (blob.path().to_owned(), self.tarball_path(name, digest));
        let temporary = self.temporary.clone();
        blocking(move || {
            let failed = |error| StorageError::io(format!("creating {}", to.display()), error);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(failed)?;
            }
            match fs::hard_link(&from, &to) {
                Ok(()) => Ok(()),
                // The name is the content: whoever was faster kept the same bytes.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                // It may be on another file system than the blob, or on one without links.
                Err(_) => fs::create_dir_all(&temporary)
                    .and_then(|()| copy_by(&temporary, &from, &to))
                    .map_err(failed),
            }
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
        let temporary = self.temporary.clone();
        blocking(move || put_in(&temporary, &to, &[&bytes])).await
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
        let folder = self.root.join("documents").join(uplink.as_str());
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

/// Where a document is.
struct DocumentPaths {
    file: PathBuf,
    temporary: PathBuf,
}

impl DocumentPaths {
    fn read(&self) -> Result<Option<CachedDocument>, StorageError> {
        let Some(bytes) = read_if_there(&self.file)? else {
            return Ok(None);
        };
        let bytes = Bytes::from(bytes);
        let Some(end) = memchr::memchr(b'\n', &bytes) else {
            return Ok(None);
        };
        let Ok(head) = serde_json::from_slice::<Head>(&bytes.slice(..end)) else {
            return Ok(None);
        };
        let document = CachedDocument::new(bytes.slice(end + 1..), head.freshness);
        // A power cut may leave anything, and so may a bad disk.
        Ok((document.digest == head.sha256).then_some(document))
    }

    fn write(&self, document: &CachedDocument) -> Result<(), StorageError> {
        let head = head_of(document)?;
        put_in(&self.temporary, &self.file, &[&head, &document.body])
    }

    /// Writes only the head of `document`; `false` where the file is not of it, as far as the head
    /// and the length tell. Who reads meanwhile may find no document, and asks upstream.
    fn refresh(&self, document: &CachedDocument) -> Result<bool, StorageError> {
        let refresh = || -> io::Result<bool> {
            let head = head_of(document).map_err(io::Error::other)?;
            let mut file = File::open(&self.file)?;
            let mut known = vec![0; head.len()];
            file.read_exact(&mut known)?;
            let is_same = known.last() == Some(&b'\n')
                && serde_json::from_slice::<Head>(&known)
                    .is_ok_and(|known| known.sha256 == document.digest)
                && usize::try_from(file.metadata()?.len())
                    .is_ok_and(|length| length == head.len() + document.body.len());
            if is_same {
                let file = File::options().write(true).open(&self.file)?;
                file.write_all_at(&head, 0)?;
            }
            Ok(is_same)
        };
        match refresh() {
            Ok(is_done) => Ok(is_done),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(false)
            }
            Err(error) => {
                let operation = format!("writing {}", self.file.display());
                Err(StorageError::io(operation, error))
            }
        }
    }
}

fn head_of(document: &CachedDocument) -> Result<Vec<u8>, StorageError> {
    let head = Head {
        sha256: document.digest.clone(),
        freshness: document.freshness.clone(),
    };
    let mut head = serde_json::to_vec(&head)
        .map_err(|error| StorageError::backend("writing a cached document", error))?;
    head.resize((head.len() + 1).next_multiple_of(HEAD) - 1, b' ');
    head.push(b'\n');
    Ok(head)
}

/// Replaces the file at `path`; makes the folders that it needs.
fn put_in(temporary: &Path, path: &Path, bytes: &[&[u8]]) -> Result<(), StorageError> {
    let put = || replace_by(temporary, path, bytes);
    put()
        .or_else(|error| match error.kind() {
            // The first of its package, or somebody has deleted the cache.
            io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::create_dir_all(temporary)?;
                put()
            }
            _ => Err(error),
        })
        .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))
}

/// Whether there is surely nothing. Found out here and now: most of what is asked for first is not
/// there, and to hand the question to another thread would take ten times as long.
fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[expect(clippy::disallowed_methods, reason = "runs on the blocking pool")]
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(
            format!("reading {}", path.display()),
            error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn freshness(etag: &str) -> Freshness {
        Freshness {
            fetched_at: Timestamp::from_unix_millis(1),
            etag: Some(etag.to_owned()),
            last_modified: None,
        }
    }

    #[tokio::test]
    async fn what_is_damaged_is_no_document() {
        let folder = tempfile::tempdir().unwrap();
        let cache = UpstreamCache::open(folder.path().join("cache")).unwrap();
        let (name, uplink) = ("@s/n".parse().unwrap(), "default".parse().unwrap());
        let packument = CachedDocument::new("{}".into(), freshness("1"));
        cache
            .put_packument(&name, &uplink, packument.clone())
            .await
            .unwrap();
        let read = cache.packument(&name, &uplink).await.unwrap().unwrap();
        assert_eq!((read.body, read.freshness), ("{}".into(), freshness("1")));
        let again = CachedDocument {
            freshness: freshness("2"),
            ..packument
        };
        let refresh = || cache.refresh_packument(&name, &uplink, again.clone());
        refresh().await.unwrap();
        let read = cache.packument(&name, &uplink).await.unwrap().unwrap();
        assert_eq!(read.freshness, freshness("2"));

        let paths = cache.packument_paths(&name, &uplink);
        // Nothing but the head is written where the document is the same.
        let inode = || fs::metadata(&paths.file).unwrap().ino();
        let before = inode();
        refresh().await.unwrap();
        assert_eq!(inode(), before);
        // A power cut may leave any of these.
        let whole = read_if_there(&paths.file).unwrap().unwrap();
        let halves = [0, 1, HEAD - 1, HEAD, whole.len() - 1].map(|length| whole[..length].to_vec());
        let mut torn = whole.clone();
        *torn.last_mut().unwrap() = 0;
        for damage in halves.into_iter().chain([torn, vec![0; whole.len()]]) {
            replace_by(&paths.temporary, &paths.file, &[&damage]).unwrap();
            assert!(cache.packument(&name, &uplink).await.unwrap().is_none());
            let put = cache.put_packument(&name, &uplink, again.clone());
            put.await.unwrap();
            assert!(cache.packument(&name, &uplink).await.unwrap().is_some());
        }
        for damage in [vec![], whole[..HEAD].to_vec(), vec![b' '; whole.len()]] {
            replace_by(&paths.temporary, &paths.file, &[&damage]).unwrap();
            refresh().await.unwrap();
            assert!(cache.packument(&name, &uplink).await.unwrap().is_some());
        }
        fs::remove_file(&paths.file).unwrap();
        refresh().await.unwrap();
        assert!(cache.packument(&name, &uplink).await.unwrap().is_some());
        assert_eq!(fs::read_dir(&paths.temporary).unwrap().count(), 0);
    }

    #[test]
    fn who_is_alone_sweeps() {
        let folder = tempfile::tempdir().unwrap();
        let open = || UpstreamCache::open(folder.path().to_owned()).unwrap();
        let first = open();
        fs::create_dir_all(&first.temporary).unwrap();
        let half = first.temporary.join("half");
        File::create(&half).unwrap();
        let second = open();
        drop(first);
        assert!(half.exists(), "somebody may still be writing it");
        let third = open();
        drop((second, third));
        open();
        assert!(!half.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_swept_is_used_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("tmp");
        let half = temporary.join("half");
        fs::create_dir_all(&temporary).unwrap();
        File::create(&half).unwrap();
        let without_locks = TryLockError::Error(io::ErrorKind::Unsupported.into());
        sweep_if_alone(Err(without_locks), &temporary).unwrap_err();
        assert!(half.exists(), "somebody may still be writing it");
        fs::create_dir(temporary.join("odd")).unwrap();
        UpstreamCache::open(folder.path().to_owned()).unwrap();
    }

    #[test]
    fn a_copy_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (by, from) = (folder.path().join("tmp"), folder.path().join("from"));
        fs::create_dir(&by).unwrap();
        let to = folder.path().join("to");
        assert!(copy_by(&by, &from, &to).is_err());
        assert!(!to.exists());
        replace_by(&by, &from, &[b"by", b"tes"]).unwrap();
        copy_by(&by, &from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "bytes");
        assert_eq!(fs::read_dir(&by).unwrap().count(), 0);
    }
}
