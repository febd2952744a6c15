//! [`CachedDocument`]: a document as upstream sent it, in a file that says itself whether it is whole.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{ATTEMPTS, last_use::note_use};
use crate::{
    models::{ContentCoding, Timestamp},
    storage::{StorageError, fs::atomic::replace_by},
};

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

/// Clocks of nodes differ by so much in milliseconds.
const SKEW: u64 = 60_000;

impl Freshness {
    /// Whether it is later than `now` can be anywhere. Some clock was wrong then, and nothing is
    /// known of how fresh the document is.
    pub fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.fetched_at.millis_since(now) > SKEW
    }
}

/// A document as upstream sent it.
#[derive(Clone, Debug)]
pub struct CachedDocument {
    /// The document, byte for byte as it came.
    pub body: Bytes,
    /// How it is compressed.
    pub coding: ContentCoding,
    /// The SHA-256 of `body` in hexadecimal; names this state of it.
    pub digest: String,
    /// How fresh it is.
    pub freshness: Freshness,
}

impl CachedDocument {
    /// A document that has just come.
    pub fn new(body: Bytes, coding: ContentCoding, freshness: Freshness) -> Self {
        let digest = hex::encode(sha2::Sha256::digest(&body));
        Self {
            body,
            coding,
            digest,
            freshness,
        }
    }
}

/// The first line of a cached document's file; an object of its own in a bucket.
#[derive(Serialize, Deserialize)]
pub(in crate::storage) struct Head {
    pub(in crate::storage) sha256: String,
    #[serde(default, skip_serializing_if = "ContentCoding::is_identity")]
    pub(in crate::storage) coding: ContentCoding,
    #[serde(flatten)]
    pub(in crate::storage) freshness: Freshness,
}

/// A head is filled up with spaces to a multiple of so many bytes, so that another one can be
/// written over it.
pub(super) const HEAD: usize = 512;

/// Where a document is.
pub(super) struct DocumentPaths {
    pub(super) file: PathBuf,
    pub(super) temporary: PathBuf,
}

impl DocumentPaths {
    pub(super) fn read(&self) -> Result<Option<CachedDocument>, StorageError> {
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
        let document = CachedDocument::new(bytes.slice(end + 1..), head.coding, head.freshness);
        // A power cut may leave anything, and so may a bad disk.
        Ok((document.digest == head.sha256).then_some(document))
    }

    /// The digest that the head names, and how fresh it says the document is.
    pub(super) fn read_head(&self) -> Result<Option<(String, Freshness)>, StorageError> {
        let read = || -> io::Result<Option<Head>> {
            let mut head = vec![0; HEAD];
            File::open(&self.file)?.read_exact(&mut head)?;
            let end = memchr::memchr(b'\n', &head);
            Ok(end.and_then(|end| serde_json::from_slice(head.get(..end)?).ok()))
        };
        match read() {
            Ok(head) => Ok(head.map(|head| (head.sha256, head.freshness))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            Err(error) => {
                let operation = format!("reading {}", self.file.display());
                Err(StorageError::io(operation, error))
            }
        }
    }

    pub(super) fn write(&self, document: &CachedDocument) -> Result<(), StorageError> {
        let head = head_of(document)?;
        put_in(&self.temporary, &self.file, &[&head, &document.body])
    }

    /// Writes only the head of `document`; `false` where the file is not of it, as far as the head
    /// and the length tell. Who reads meanwhile may find no document, and asks upstream.
    pub(super) fn refresh(&self, document: &CachedDocument) -> Result<bool, StorageError> {
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
        coding: document.coding,
        freshness: document.freshness.clone(),
    };
    let mut head = serde_json::to_vec(&head)
        .map_err(|error| StorageError::backend("writing a cached document", error))?;
    head.resize((head.len() + 1).next_multiple_of(HEAD) - 1, b' ');
    head.push(b'\n');
    Ok(head)
}

/// Replaces the file at `path`; makes the folders that it needs.
pub(super) fn put_in(temporary: &Path, path: &Path, bytes: &[&[u8]]) -> Result<(), StorageError> {
    let mut attempts = 1;
    while let Err(error) = replace_by(temporary, path, bytes) {
        let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
        if attempts == ATTEMPTS || error.kind() != io::ErrorKind::NotFound {
            return Err(failed(error));
        }
        // The first of its package, or somebody has deleted the cache.
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::create_dir_all(temporary))
            .map_err(failed)?;
        attempts += 1;
    }
    Ok(())
}

/// The bytes of the file, which is used with that; `None` if there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        note_use(&file);
        let length = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(
            format!("reading {}", path.display()),
            error,
        )),
    }
}
