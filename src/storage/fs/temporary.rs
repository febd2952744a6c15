//! [`TemporaryBlob`]: bytes on their way to the disk, hashed as they pass, visible to nobody yet.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{atomic::create_folder_synced, blocking};
use crate::{
    lifecycle::random_hex,
    models::Verifier,
    storage::{FinishedBlob, StorageError},
};

/// Bytes that are collected before they are hashed and written in one go on the blocking pool.
const BATCH: usize = 256 * 1024;

/// Sees all bytes of a blob in order, on the blocking pool.
pub trait Observer: Send + 'static {
    /// Takes the next bytes.
    fn observe(&mut self, bytes: &[u8]);
}

impl Observer for Verifier {
    fn observe(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Observer for () {
    fn observe(&mut self, _bytes: &[u8]) {}
}

/// The folder of blobs that are being written. On the same file system as the final places.
#[derive(Clone, Debug)]
pub struct TemporaryFolder {
    path: Arc<Path>,
}

impl TemporaryFolder {
    /// Opens the folder and removes what an earlier process left in it. Blocks.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error| StorageError::io(format!("opening {}", path.display()), error);
        create_folder_synced(path).map_err(failed)?;
        for entry in fs::read_dir(path).map_err(failed)? {
            remove(&entry.map_err(failed)?).map_err(failed)?;
        }
        Ok(Self { path: path.into() })
    }

    /// Starts a blob whose bytes `observer` sees.
    pub async fn create<O: Observer>(&self, observer: O) -> Result<TemporaryBlob<O>, StorageError> {
        let path = self.path.join(random_hex::<16>());
        blocking(move || {
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .map_err(|error| StorageError::io(format!("making {}", path.display()), error))?;
            Ok(TemporaryBlob {
                path: TemporaryPath(path),
                inner: Some(Inner { file, observer }),
                pending: Vec::new(),
                pending_length: 0,
                written: 0,
            })
        })
        .await
    }
}

/// Removes a blob, or the folder of a package that was about to be put in its place.
fn remove(entry: &fs::DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() {
        fs::remove_dir_all(entry.path())
    } else {
        fs::remove_file(entry.path())
    }
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
pub(in crate::storage) struct TemporaryPath(PathBuf);

impl TemporaryPath {
    /// A new name in `folder`.
    pub(in crate::storage) fn in_folder(folder: &Path) -> Self {
        Self(folder.join(random_hex::<16>()))
    }

    pub(in crate::storage) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a temporary file");
        }
    }
}

/// A blob that is being written. Dropping it removes the file.
#[derive(Debug)]
pub struct TemporaryBlob<O> {
    path: TemporaryPath,
    inner: Option<Inner<O>>,
    pending: Vec<Bytes>,
    pending_length: usize,
    written: u64,
}

#[derive(Debug)]
struct Inner<O> {
    file: File,
    observer: O,
}

impl<O: Observer> TemporaryBlob<O> {
    /// Takes the next bytes; writes when enough have come together.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.pending_length += bytes.len();
        self.pending.push(bytes);
        if self.pending_length >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what has been taken so far; readers of the file see it afterwards.
    pub async fn flush(&mut self) -> Result<(), StorageError> {
        self.run(false).await
    }

    /// Writes the rest and makes the file durable.
    pub async fn finish(&mut self) -> Result<(), StorageError> {
        self.run(true).await
    }

    /// Bytes written to the file so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The blob, which [`TemporaryBlob::finish`] has finished.
    pub fn finished(&self) -> FinishedBlob<'_> {
        FinishedBlob {
            path: &self.path.0,
            length: self.written,
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path.0
    }

    /// A second handle on the file, for those who read it while it grows.
    pub fn reader(&self) -> Result<File, StorageError> {
        let path = &self.path.0;
        File::open(path)
            .map_err(|error| StorageError::io(format!("opening {}", path.display()), error))
    }

    /// What has seen the bytes; `None` only after a failed write.
    pub fn observer(&self) -> Option<&O> {
        self.inner.as_ref().map(|inner| &inner.observer)
    }

    async fn run(&mut self, is_last: bool) -> Result<(), StorageError> {
        let pending = std::mem::take(&mut self.pending);
        let length = std::mem::take(&mut self.pending_length);
        let Some(mut inner) = self.inner.take() else {
            let lost = io::Error::other("an earlier write failed");
            return Err(StorageError::io("writing a temporary file", lost));
        };
        // The bytes come back to be given up where they were made, as with pieces that are read.
        let (inner, _pending) = blocking(move || {
            for bytes in &pending {
                inner.observer.observe(bytes);
            }
            let written = pending
                .iter()
                .try_for_each(|bytes| inner.file.write_all(bytes));
            let synced = written.and_then(|()| {
                if is_last {
                    inner.file.sync_all()
                } else {
                    Ok(())
                }
            });
            match synced {
                Ok(()) => Ok((inner, pending)),
                Err(error) => Err(StorageError::io("writing a temporary file", error)),
            }
        })
        .await?;
        self.inner = Some(inner);
        self.written += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(())
    }
}
