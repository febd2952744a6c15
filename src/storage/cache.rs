//! [`UpstreamCache`]: what came from upstream, on disk. All of it may be deleted at any time.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    Blob, Observer, StorageError, TemporaryBlob,
    fs::{
        atomic::{MODE_PUBLIC, create_folder_synced, sync_parent, write_atomic},
        blocking, open_blob,
    },
    layout::folder_name,
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

/// What stands beside a cached packument.
#[derive(Serialize, Deserialize)]
struct Sidecar {
    sha256: String,
    #[serde(flatten)]
    freshness: Freshness,
}

/// The cache of upstream documents and tarballs, apart from everything hosted.
#[derive(Clone, Debug)]
pub struct UpstreamCache {
    root: PathBuf,
}

impl UpstreamCache {
    /// Opens the cache; makes its folder if it is missing. Blocks.
    pub fn open(root: PathBuf) -> Result<Self, StorageError> {
        create_folder_synced(&root)
            .map_err(|error| StorageError::io(format!("making {}", root.display()), error))?;
        Ok(Self { root })
    }

    /// The cached packument of `name` from `uplink`. Damaged entries are as good as none.
    pub async fn packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let paths = self.packument_paths(name, uplink);
        blocking(move || paths.read()).await
    }

    /// Keeps a packument.
    pub async fn put_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        packument: CachedDocument,
    ) -> Result<(), StorageError> {
        let paths = self.packument_paths(name, uplink);
        blocking(move || paths.write(packument)).await
    }

    /// Notes that upstream said again that the document with `digest` is current.
    pub async fn refresh_packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
        digest: String,
        freshness: Freshness,
    ) -> Result<(), StorageError> {
        let paths = self.packument_paths(name, uplink);
        blocking(move || {
            paths.write_sidecar(digest, freshness).map_err(|error| {
                StorageError::io(format!("writing {}", paths.sidecar.display()), error)
            })
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
        blocking(move || {
            for path in [&paths.sidecar, &paths.body] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let operation = format!("deleting {}", path.display());
                        return Err(StorageError::io(operation, error));
                    }
                    _ => {}
                }
            }
            Ok(())
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
        blocking(move || paths.write(document)).await
    }

    /// Opens the cached tarball with `digest`; it was verified before it was kept.
    pub async fn tarball(
        &self,
        name: &PackageName,
        digest: &Digest,
    ) -> Result<Option<Blob>, StorageError> {
        let path = self.tarball_path(name, digest);
        blocking(move || open_blob(&path)).await
    }

    /// Keeps the finished and verified `blob` as the tarball with `digest`.
    pub async fn put_tarball<O: Observer>(
        &self,
        name: &PackageName,
        digest: &Digest,
        blob: &TemporaryBlob<O>,
    ) -> Result<(), StorageError> {
        let (from, to) = (blob.path().to_owned(), self.tarball_path(name, digest));
        blocking(move || {
            let failed = |error| StorageError::io(format!("creating {}", to.display()), error);
            if let Some(folder) = to.parent() {
                create_folder_synced(folder).map_err(failed)?;
            }
            match link_or_copy(&from, &to) {
                Ok(()) => sync_parent(&to).map_err(failed),
                // The name is the content: whoever was faster kept the same bytes.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    /// The cached tarballs whose bytes are not those that their names promise; with `remove`, they
    /// are deleted: all of the cache comes again.
    pub async fn damaged_tarballs(&self, remove: bool) -> Result<Vec<PathBuf>, StorageError> {
        let root = self.root.join("tarballs");
        blocking(move || {
            let mut damaged = Vec::new();
            for folder in entries(&root)? {
                for path in entries(&folder)? {
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
        let folder = self.root.join("packuments").join(folder_name(name));
        DocumentPaths {
            body: folder.join(format!("{uplink}.json")),
            sidecar: folder.join(format!("{uplink}.meta")),
            folder,
        }
    }

    fn document_paths(&self, uplink: &UplinkName, path: &str) -> DocumentPaths {
        let folder = self.root.join("documents").join(uplink.as_str());
        // Paths are of any length and alphabet.
        let stem = hex::encode(sha2::Sha256::digest(path));
        DocumentPaths {
            body: folder.join(format!("{stem}.json")),
            sidecar: folder.join(format!("{stem}.meta")),
            folder,
        }
    }

    fn tarball_path(&self, name: &PackageName, digest: &Digest) -> PathBuf {
        let file = format!("{}-{}.tgz", digest.algorithm.as_str(), digest.to_hex());
        self.root
            .join("tarballs")
            .join(folder_name(name))
            .join(file)
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

/// The cache may be on another file system than the temporary folder.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let beside = to.with_extension("tmp");
            fs::copy(from, &beside)?;
            fs::File::open(&beside)?.sync_all()?;
            fs::rename(&beside, to)
        }
        result => result,
    }
}

struct DocumentPaths {
    folder: PathBuf,
    body: PathBuf,
    sidecar: PathBuf,
}

impl DocumentPaths {
    fn read(&self) -> Result<Option<CachedDocument>, StorageError> {
        let Some(sidecar) = read_if_there(&self.sidecar)? else {
            return Ok(None);
        };
        let Some(body) = read_if_there(&self.body)? else {
            return Ok(None);
        };
        let Ok(sidecar) = serde_json::from_slice::<Sidecar>(&sidecar) else {
            return Ok(None);
        };
        let packument = CachedDocument::new(body.into(), sidecar.freshness);
        // Body and sidecar are two files: a crash between them, or a bad disk, shows here.
        Ok((packument.digest == sidecar.sha256).then_some(packument))
    }

    fn write(&self, document: CachedDocument) -> Result<(), StorageError> {
        let failed = |error| StorageError::io(format!("writing {}", self.body.display()), error);
        create_folder_synced(&self.folder).map_err(failed)?;
        write_atomic(&self.body, &document.body, MODE_PUBLIC).map_err(failed)?;
        self.write_sidecar(document.digest, document.freshness)
            .map_err(failed)
    }

    fn write_sidecar(&self, sha256: String, freshness: Freshness) -> io::Result<()> {
        let sidecar = serde_json::to_vec(&Sidecar { sha256, freshness })?;
        write_atomic(&self.sidecar, &sidecar, MODE_PUBLIC)
    }
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
    use super::*;

    fn freshness(etag: &str) -> Freshness {
        Freshness {
            fetched_at: Timestamp::from_unix_millis(1),
            etag: Some(etag.to_owned()),
            last_modified: None,
        }
    }

    #[tokio::test]
    async fn a_body_without_its_sidecar_is_no_document() {
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
        let again = cache.refresh_packument(&name, &uplink, packument.digest, freshness("2"));
        again.await.unwrap();
        let read = cache.packument(&name, &uplink).await.unwrap().unwrap();
        assert_eq!(read.freshness, freshness("2"));

        let paths = cache.packument_paths(&name, &uplink);
        write_atomic(&paths.body, b"{ }", MODE_PUBLIC).unwrap();
        assert!(cache.packument(&name, &uplink).await.unwrap().is_none());
    }
}
