//! [`FsBlobs`]: tarballs as files. Created once, visible only when complete, never overwritten by
//! accident.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;

use super::{
    Observer, Pieces, TemporaryBlob,
    atomic::{create_folder_synced, sync_parent},
    blocking,
};
use crate::{
    lifecycle::{crash_point, random_hex},
    models::{Digest, Integrity, PackageName, Revision, TarballName, Timestamp},
    storage::{
        MetadataStore, StorageError,
        layout::{self, Layout},
    },
};

/// An open blob.
#[derive(Debug)]
pub struct Blob {
    /// The file, at its beginning.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
}

impl Blob {
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

/// One blob in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub file: TarballName,
    /// Its length in bytes.
    pub length: u64,
    /// When it was created.
    pub created: Timestamp,
}

/// The blobs of hosted packages.
#[derive(Clone, Debug)]
pub struct FsBlobs {
    layout: Layout,
    metadata: Arc<dyn MetadataStore>,
}

impl FsBlobs {
    /// The blobs that the manifests of `metadata` name.
    pub fn new(layout: Layout, metadata: Arc<dyn MetadataStore>) -> Self {
        Self { layout, metadata }
    }

    /// Gives the finished `blob` its final place, durably. `false`: there is one already, and it
    /// was not touched.
    pub async fn create<O: Observer>(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: &TemporaryBlob<O>,
    ) -> Result<bool, StorageError> {
        let (from, to) = (blob.path().to_owned(), self.layout.blob(name, file));
        let folder = self.layout.folder(name);
        blocking(move || {
            let linked = create_folder_synced(&folder).and_then(|()| link_new(&from, &to));
            linked.map_err(|error| StorageError::io(format!("creating {}", to.display()), error))
        })
        .await
    }

    /// Puts the finished `blob` in the place of one that no manifest names, durably.
    ///
    /// The caller has moved the manifest to a new revision before, so that nobody who relied on
    /// the old blob can commit.
    pub async fn replace<O: Observer>(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: &TemporaryBlob<O>,
    ) -> Result<(), StorageError> {
        let (from, to) = (blob.path().to_owned(), self.layout.blob(name, file));
        let folder = self.layout.folder(name);
        blocking(move || {
            let beside = to.with_file_name(format!(".{}.tmp", random_hex::<16>()));
            create_folder_synced(&folder)
                .and_then(|()| fs::hard_link(&from, &beside))
                .and_then(|()| fs::rename(&beside, &to))
                .and_then(|()| sync_parent(&to))
                .map_err(|error| StorageError::io(format!("replacing {}", to.display()), error))
        })
        .await
    }

    /// Opens a blob; `None` if there is none.
    pub async fn open(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Blob>, StorageError> {
        let path = self.layout.blob(name, file);
        blocking(move || open_blob(&path)).await
    }

    /// Whether the stored blob has this integrity; `None` if there is no blob.
    pub async fn verify(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<Option<Result<Digest, Digest>>, StorageError> {
        let path = self.layout.blob(name, file);
        let mut verifier = integrity.verifier();
        blocking(move || {
            let Some(mut blob) = open_blob(&path)? else {
                return Ok(None);
            };
            let mut buffer = vec![0; 128 * 1024];
            loop {
                let read = match blob.file.read(&mut buffer) {
                    Ok(0) => return Ok(Some(verifier.finish())),
                    Ok(read) => read,
                    Err(error) => {
                        return Err(StorageError::io(
                            format!("reading {}", path.display()),
                            error,
                        ));
                    }
                };
                verifier.update(&buffer[..read]);
            }
        })
        .await
    }

    /// Deletes `files` if the manifest is still at `revision` (`None`: still absent); else leaves
    /// them, because somebody may have come to name them. Missing files are no error.
    pub async fn delete_while(
        &self,
        name: &PackageName,
        files: Vec<TarballName>,
        revision: Option<Revision>,
    ) -> Result<bool, StorageError> {
        let paths: Vec<PathBuf> = files.iter().map(|it| self.layout.blob(name, it)).collect();
        self.while_at(name, revision, move || {
            for path in paths {
                crash_point("blob-deleting");
                remove_if_there(&path).map_err(|error| {
                    StorageError::io(format!("deleting {}", path.display()), error)
                })?;
            }
            Ok(())
        })
        .await
    }

    /// Runs `work` while the manifest is at `revision`, where nobody changes it. Whether it was.
    async fn while_at<W>(
        &self,
        name: &PackageName,
        revision: Option<Revision>,
        work: W,
    ) -> Result<bool, StorageError>
    where
        W: FnOnce() -> Result<(), StorageError> + Send + 'static,
    {
        let Some(hold) = self.metadata.hold(name, revision.as_ref()).await? else {
            return Ok(false);
        };
        // Held until the work is done, also where nobody waits for it any more.
        blocking(move || {
            let done = work();
            drop(hold);
            done
        })
        .await?;
        Ok(true)
    }

    /// The packages that have a folder, whether there is a manifest in it or not, by name.
    pub async fn packages(&self) -> Result<Vec<PackageName>, StorageError> {
        let root = self.layout.root().to_owned();
        blocking(move || {
            let failed = |error| StorageError::io(format!("listing {}", root.display()), error);
            let mut names = Vec::new();
            for entry in fs::read_dir(&root).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let folder = entry.file_name();
                let name = folder.to_str().and_then(layout::package_of);
                if entry.file_type().map_err(failed)?.is_dir() {
                    names.extend(name);
                }
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    /// Takes the blob `file` out of the package's folder and keeps it in `folder`, if the manifest
    /// is still at `revision` (`None`: still absent). Whether it did.
    pub async fn set_aside(
        &self,
        name: &PackageName,
        file: &TarballName,
        revision: Option<Revision>,
        folder: PathBuf,
    ) -> Result<bool, StorageError> {
        let from = self.layout.blob(name, file);
        let to = folder.join(format!("{}.{file}", random_hex::<4>()));
        self.while_at(name, revision, move || {
            create_folder_synced(&folder)
                .and_then(|()| fs::rename(&from, &to))
                .and_then(|()| sync_parent(&to))
                .and_then(|()| sync_parent(&from))
                .map_err(|error| StorageError::io(format!("moving {}", from.display()), error))
        })
        .await
    }

    /// All blobs of `name`, by name.
    pub async fn list(&self, name: &PackageName) -> Result<Vec<StoredBlob>, StorageError> {
        let folder = self.layout.folder(name);
        blocking(move || list(&folder)).await
    }
}

/// Links `from` to the new name `to`. `false` if there is such a file already.
fn link_new(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            crash_point("blob-linked");
            sync_parent(to).map(|()| true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the file at `path`; `None` if there is none. Blocks.
pub(in crate::storage) fn open_blob(path: &Path) -> Result<Option<Blob>, StorageError> {
    let failed = |error| StorageError::io(format!("reading {}", path.display()), error);
    match File::open(path) {
        Ok(file) => {
            let length = file.metadata().map_err(failed)?.len();
            Ok(Some(Blob { file, length }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn remove_if_there(path: &PathBuf) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> Result<Vec<StoredBlob>, StorageError> {
    let failed = |error| StorageError::io(format!("listing {}", folder.display()), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
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
    use crate::storage::{Expected, FsMetadata, fs::TemporaryFolder};

    struct Fixture {
        _folder: tempfile::TempDir,
        temporary: TemporaryFolder,
        metadata: Arc<dyn MetadataStore>,
        blobs: FsBlobs,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::native(folder.path().join("tarballs"));
        let metadata = FsMetadata::open(layout.clone(), folder.path().join("locks")).unwrap();
        let metadata: Arc<dyn MetadataStore> = Arc::new(metadata);
        let temporary = TemporaryFolder::open(&folder.path().join("tmp")).unwrap();
        let blobs = FsBlobs::new(layout, Arc::clone(&metadata));
        Fixture {
            _folder: folder,
            temporary,
            metadata,
            blobs,
        }
    }

    impl Fixture {
        async fn blob(&self, text: &'static str) -> TemporaryBlob<()> {
            let mut blob = self.temporary.create(()).await.unwrap();
            blob.write(Bytes::from_static(text.as_bytes()))
                .await
                .unwrap();
            blob.finish().await.unwrap();
            blob
        }

        async fn text(&self, name: &PackageName, file: &TarballName) -> Option<String> {
            let mut blob = self.blobs.open(name, file).await.unwrap()?;
            let mut text = String::new();
            blob.file.read_to_string(&mut text).unwrap();
            Some(text)
        }
    }

    #[tokio::test]
    async fn create_never_overwrites() {
        let fixture = fixture();
        let (name, file) = ("@s/n".parse().unwrap(), "n-1.0.0.tgz".parse().unwrap());
        let (first, second) = (fixture.blob("first").await, fixture.blob("second").await);
        assert!(fixture.blobs.create(&name, &file, &first).await.unwrap());
        assert!(!fixture.blobs.create(&name, &file, &second).await.unwrap());
        assert_eq!(fixture.text(&name, &file).await.as_deref(), Some("first"));
        fixture.blobs.replace(&name, &file, &second).await.unwrap();
        drop((first, second));
        assert_eq!(fixture.text(&name, &file).await.as_deref(), Some("second"));
        assert_eq!(fixture.blobs.list(&name).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn delete_stops_when_the_manifest_has_moved_on() {
        let fixture = fixture();
        let name: PackageName = "n".parse().unwrap();
        let file: TarballName = "n-1.0.0.tgz".parse().unwrap();
        let blob = fixture.blob("bytes").await;
        fixture.blobs.create(&name, &file, &blob).await.unwrap();
        let put = fixture
            .metadata
            .put(&name, "{}".into(), Expected::Absent)
            .await;
        let revision = put.unwrap();
        let files = vec![file.clone()];
        let deleted = fixture.blobs.delete_while(&name, files.clone(), None).await;
        assert!(!deleted.unwrap());
        assert!(fixture.text(&name, &file).await.is_some());
        let deleted = fixture
            .blobs
            .delete_while(&name, files, Some(revision))
            .await;
        assert!(deleted.unwrap());
        assert!(fixture.text(&name, &file).await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_blob_leaves_nothing() {
        let fixture = fixture();
        let blob = fixture.blob("bytes").await;
        let path = blob.path().to_owned();
        assert!(path.exists());
        drop(blob);
        assert!(!path.exists());
    }
}
