//! [`CacheTier`]: what came from upstream, in a bucket, for all nodes.
//!
//! Below `.rustaccio/cache/`, apart from everything hosted. A document is two objects: a small head,
//! which says how fresh it is and has the SHA-256 of the other one, and the bytes, whose key has that
//! digest. That upstream has confirmed a document costs one small write, and to learn of it one small
//! read. Nothing rests on the order in which nodes write and delete: a head that leads nowhere is no
//! document, bytes are compared with their digest, and so are tarballs, whose keys have theirs.
//!
//! No store notes when an object was read. Who uses one writes an empty object beside it, at most
//! once a day; the last use is the time of the youngest of all objects of an entry.

use std::{collections::BTreeMap, path::Path as FilePath, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{GetOptions, ObjectMeta, path::Path};

use super::{
    blobs::blob_of,
    bucket::{Bucket, Precondition, Written},
    upload::{self, PART},
};
use crate::{
    lifecycle::{Clock as _, SystemClock},
    models::Timestamp,
    storage::{
        Blob, CachedDocument, FinishedBlob, Freshness, StorageError,
        cache::{DOCUMENTS, Entry, Folder, Head, Kind, PACKAGES, Place, Tier},
        fs::blocking,
    },
};

/// What all keys begin with.
const ROOT: &str = ".rustaccio/cache/";
/// What the key ends with that says when the entry was used.
const USED: &str = ".used";
/// What the keys of documents' bytes end with.
const BODY: &str = ".body";
/// Says when somebody last looked at everything.
const TURN: &str = ".rustaccio/cache/turn";
/// How many entries are deleted at a time.
const DELETIONS: usize = 16;

/// The cache in a bucket.
#[derive(Clone, Debug)]
pub(in crate::storage) struct CacheTier {
    bucket: Bucket,
}

impl CacheTier {
    /// The cache in `bucket`.
    pub(in crate::storage) fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }

    fn key(&self, folder: &str, file: &str) -> Result<Path, StorageError> {
        self.bucket.key(&format!("{ROOT}{folder}/{file}"))
    }

    fn key_of(&self, place: &Place) -> Result<Path, StorageError> {
        self.key(&place.folder, &place.file)
    }

    fn body_key(&self, place: &Place, digest: &str) -> Result<Path, StorageError> {
        let stem = place.file.trim_end_matches(".json");
        self.key(&place.folder, &format!("{stem}.{digest}{BODY}"))
    }

    /// The head of the document at `place`; `None` where there is none that can be read.
    async fn head(&self, place: &Place) -> Result<Option<Head>, StorageError> {
        let read = self.bucket.read(&self.key_of(place)?).await?;
        let head = read.and_then(|read| serde_json::from_slice::<Head>(&read.bytes).ok());
        // It becomes part of a key.
        let is_digest = |digest: &str| digest.len() == 64 && is_hex(digest);
        Ok(head.filter(|head| is_digest(&head.sha256)))
    }

    async fn write_head(
        &self,
        place: &Place,
        document: &CachedDocument,
    ) -> Result<(), StorageError> {
        let head = Head {
            sha256: document.digest.clone(),
            coding: document.coding,
            freshness: document.freshness.clone(),
        };
        let head = serde_json::to_vec(&head)
            .map_err(|error| StorageError::backend("writing a cached document", error))?;
        self.bucket
            .write_own(&self.key_of(place)?, head.into())
            .await
    }

    async fn is_there(&self, key: &Path, length: u64) -> Result<bool, StorageError> {
        let read = self.bucket.read_start(key, 1).await?;
        Ok(read.is_some_and(|read| read.length == length))
    }

    /// The folders below `area`.
    fn folders_of(&self, area: &'static str) -> BoxStream<'static, Result<Folder, StorageError>> {
        let bucket = self.bucket.clone();
        let listed = self.bucket.list(&format!("{ROOT}{area}/"));
        // The keys of one folder follow one another; `None` ends the last of them.
        let end = stream::once(async { Ok(None) });
        let mut current = Gathering::default();
        let grouped = listed.map_ok(Some).chain(end).try_filter_map(move |meta| {
            let file = meta.as_ref().and_then(|meta| {
                let name = bucket.name_of(&meta.location)?.strip_prefix(ROOT)?;
                name.rsplit_once('/')
            });
            let done = match file {
                Some((folder, _)) if folder == current.folder => None,
                _ => Some(std::mem::take(&mut current).into_folder()),
            };
            if let (Some((folder, file)), Some(meta)) = (file, &meta) {
                folder.clone_into(&mut current.folder);
                current.add(file, meta);
            }
            std::future::ready(Ok(done.flatten()))
        });
        grouped.boxed()
    }
}

/// The objects of one folder, on their way out of a listing.
#[derive(Default)]
struct Gathering {
    folder: String,
    entries: BTreeMap<String, Found>,
}

/// The objects of one entry.
#[derive(Default)]
struct Found {
    /// The head, or the tarball.
    has_main: bool,
    others: Vec<String>,
    length: u64,
    used: i64,
}

impl Gathering {
    fn add(&mut self, file: &str, meta: &ObjectMeta) {
        let (main, is_main) = match (file.strip_suffix(USED), file.strip_suffix(BODY)) {
            (Some(main), _) => (main.to_owned(), false),
            (None, Some(body)) => {
                let stem = body.rsplit_once('.').map_or(body, |(stem, _)| stem);
                (format!("{stem}.json"), false)
            }
            (None, None) => (file.to_owned(), true),
        };
        let found = self.entries.entry(main).or_default();
        found.length += meta.size;
        found.used = found.used.max(meta.last_modified.timestamp_millis());
        if is_main {
            found.has_main = true;
        } else {
            found.others.push(file.to_owned());
        }
    }

    fn into_folder(self) -> Option<Folder> {
        let Self {
            folder: name,
            entries,
        } = self;
        let of_uplink = name
            .split_once('/')
            .and_then(|(area, uplink)| (area == DOCUMENTS).then(|| uplink.to_owned()));
        let entries = entries.into_iter().map(|(main, found)| {
            let kind = match main.strip_suffix(".json") {
                _ if !found.has_main => Kind::Leftover,
                Some(stem) => Kind::Document(of_uplink.clone().unwrap_or_else(|| stem.to_owned())),
                None if is_tarball(&main) => Kind::Tarball,
                None => Kind::Leftover,
            };
            let main = found.has_main.then_some(main);
            Entry {
                files: main.into_iter().chain(found.others).collect(),
                kind,
                length: found.length,
                used: Timestamp::from_unix_millis(found.used),
            }
        });
        let entries = entries.collect::<Vec<_>>();
        (!entries.is_empty()).then_some(Folder { name, entries })
    }
}

#[async_trait]
impl Tier for CacheTier {
    async fn document(&self, place: &Place) -> Result<Option<CachedDocument>, StorageError> {
        let Some(head) = self.head(place).await? else {
            return Ok(None);
        };
        let body = self
            .bucket
            .read(&self.body_key(place, &head.sha256)?)
            .await?;
        let read = blocking(move || {
            let Some(body) = body else { return Ok(None) };
            let document = CachedDocument::new(body.bytes, head.coding, head.freshness);
            Ok((document.digest == head.sha256).then_some(document))
        });
        let read = read.await?;
        if read.is_none() {
            // Somebody has deleted a part of it, or it is damaged: it is fetched and written again.
            tracing::debug!(?place, "a shared document is not whole");
            self.bucket.delete(&self.key_of(place)?).await?;
        }
        Ok(read)
    }

    async fn freshness(&self, place: &Place) -> Result<Option<(String, Freshness)>, StorageError> {
        let head = self.head(place).await?;
        Ok(head.map(|head| (head.sha256, head.freshness)))
    }

    async fn put_document(
        &self,
        place: &Place,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        let before = self.head(place).await?;
        let body = self.body_key(place, &document.digest)?;
        self.bucket.write_own(&body, document.body.clone()).await?;
        self.write_head(place, &document).await?;
        match before {
            // Who reads it at this moment asks upstream.
            Some(before) if before.sha256 != document.digest => {
                let old = self.body_key(place, &before.sha256)?;
                self.bucket.delete(&old).await
            }
            _ => Ok(()),
        }
    }

    async fn refresh_document(
        &self,
        place: &Place,
        document: CachedDocument,
    ) -> Result<(), StorageError> {
        match self.head(place).await? {
            Some(head) if head.sha256 == document.digest => {
                // Another node may have asked at the same time.
                let is_newer = head.freshness.fetched_at >= document.freshness.fetched_at;
                if is_newer && !head.freshness.is_ahead_of(SystemClock.now()) {
                    return Ok(());
                }
                self.write_head(place, &document).await
            }
            _ => self.put_document(place, document).await,
        }
    }

    async fn remove_document(&self, place: &Place) -> Result<(), StorageError> {
        let head = self.head(place).await?;
        self.bucket.delete(&self.key_of(place)?).await?;
        match head {
            Some(head) => {
                let body = self.body_key(place, &head.sha256)?;
                self.bucket.delete(&body).await
            }
            None => Ok(()),
        }
    }

    async fn tarball(&self, place: &Place) -> Result<Option<Blob>, StorageError> {
        let key = self.key_of(place)?;
        let got = self.bucket.get(&key, GetOptions::default()).await?;
        Ok(got.map(|got| blob_of(&self.bucket, got)))
    }

    async fn put_tarball(&self, place: &Place, blob: FinishedBlob<'_>) -> Result<(), StorageError> {
        let key = self.key_of(place)?;
        // Its name is its content: nothing is uploaded in vain.
        if self.is_there(&key, blob.length).await? {
            return Ok(());
        }
        upload::upload(&self.bucket, &key, blob).await
    }

    async fn put_small_tarball(&self, place: &Place, bytes: Bytes) -> Result<(), StorageError> {
        debug_assert!(u64::try_from(bytes.len()).is_ok_and(|length| length <= PART));
        let key = self.key_of(place)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.is_there(&key, length).await? {
            return Ok(());
        }
        self.bucket.write_own(&key, bytes).await
    }

    async fn note_use(&self, place: &Place) -> Result<(), StorageError> {
        let key = self.key(&place.folder, &format!("{}{USED}", place.file))?;
        self.bucket.write_own(&key, Bytes::new()).await
    }

    fn folders(&self) -> BoxStream<'static, Result<Folder, StorageError>> {
        let packages = self.folders_of(PACKAGES);
        packages.chain(self.folders_of(DOCUMENTS)).boxed()
    }

    async fn remove(&self, folder: &str, entries: &[Entry]) -> Result<Vec<bool>, StorageError> {
        let keys = entries.iter().map(|entry| {
            let keys = entry.files.iter().map(|file| self.key(folder, file));
            keys.collect::<Result<Vec<_>, _>>()
        });
        let removals = keys
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|keys| {
                let bucket = self.bucket.clone();
                async move {
                    for key in keys {
                        bucket.delete(&key).await?;
                    }
                    // No store says whether it was there.
                    Ok(true)
                }
            });
        let removals = stream::iter(removals).buffered(DELETIONS);
        removals.try_collect().await
    }

    async fn sweep(&self, _before: Timestamp) -> Result<(), StorageError> {
        // Uploads that are broken off are the bucket's own affair.
        Ok(())
    }

    async fn takes_turn(&self, interval: Duration) -> Result<bool, StorageError> {
        let key = self.bucket.key(TURN)?;
        let precondition = match self.bucket.read(&key).await? {
            Some(turn) => {
                let age = SystemClock
                    .now()
                    .millis_since(Timestamp::from_unix_millis(turn.written));
                if Duration::from_millis(age) < interval {
                    return Ok(false);
                }
                Precondition::Matches(turn.tag)
            }
            None => Precondition::Absent,
        };
        // Two that look at the same time do no harm.
        let bytes = Bytes::from(crate::lifecycle::random_hex::<16>());
        let written = self.bucket.write(&key, bytes, &precondition).await?;
        Ok(matches!(written, Written::Done(_)))
    }

    fn folder(&self) -> Option<&FilePath> {
        None
    }
}

fn is_tarball(file: &str) -> bool {
    FilePath::new(file)
        .extension()
        .is_some_and(|extension| extension == "tgz")
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
