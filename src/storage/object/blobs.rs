//! [`ObjectBlobs`]: tarballs as objects. Why nothing is lost, see [`super`].

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, path::Path};
use tokio::sync::Semaphore;
use url::Url;

use super::{
    bucket::{Bucket, Precondition, Tag, Written, bounded, failed},
    keys::{self, Folder, Meaning, Spelling},
    listing::{self, OldFolders},
    marker::{self, Marker},
    upload::{self, PART, WHOLE},
};
use crate::{
    lifecycle::{crash_point, random_hex},
    models::{PackageName, Revision, TarballName, Timestamp},
    storage::{
        Blob, Blobs, Created, Doomed, FinishedBlob, Seen, StorageError, StoredBlob, blobs::Incoming,
    },
};

/// How many parts of files all uploads together hold in memory.
const PARTS: usize = 8;
/// How many objects are looked at at a time.
const LOOKS: usize = 16;
/// How often a marker is followed to where nothing is.
const LEADS: usize = 3;
/// How long a signed address is good for.
const GOOD_FOR: Duration = Duration::from_mins(5);

/// The blobs of hosted packages, in a bucket.
#[derive(Clone, Debug)]
pub struct ObjectBlobs {
    bucket: Bucket,
    uploads: Arc<Semaphore>,
    old: OldFolders,
}

/// What is at the key of a tarball.
struct State {
    tag: Tag,
    marker: Option<Marker>,
}

impl ObjectBlobs {
    /// The blobs in `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            uploads: Arc::new(Semaphore::new(PARTS)),
            old: OldFolders::default(),
        }
    }

    fn key(&self, name: &PackageName, file: &TarballName) -> Result<Path, StorageError> {
        self.bucket.key(&keys::blob(name, file))
    }

    fn elsewhere(
        &self,
        name: &PackageName,
        file: &TarballName,
        nonce: &str,
    ) -> Result<Path, StorageError> {
        self.bucket.key(&keys::elsewhere(name, file, nonce))
    }

    /// What is at `key` now.
    async fn look(&self, key: &Path) -> Result<Option<State>, StorageError> {
        let read = self.bucket.read_start(key, marker::LENGTH).await?;
        Ok(read.map(|read| {
            let may_be_marker = read.length == marker::LENGTH;
            State {
                marker: Marker::parse(&read.bytes).filter(|_| may_be_marker),
                tag: read.tag,
            }
        }))
    }

    /// Creates a blob that does not fit into one request, by a marker.
    // Not by a conditional copy: SeaweedFS 4.48 lets several that come at once complete.
    async fn create_large(
        &self,
        name: &PackageName,
        file: &TarballName,
        key: &Path,
        blob: FinishedBlob<'_>,
    ) -> Result<bool, StorageError> {
        let nonce = random_hex::<16>();
        let upload = self.elsewhere(name, file, &nonce)?;
        upload::upload(&self.bucket, &upload, blob).await?;
        let marker = Marker::elsewhere(&nonce);
        let written = self
            .bucket
            .write_and_look(key, marker, &Precondition::Absent);
        let written = written.await?;
        if written == Written::Refused {
            self.forget(&upload).await;
        }
        Ok(matches!(written, Written::Done(_)))
    }

    /// Deletes an object that nothing leads to any more.
    async fn forget(&self, key: &Path) {
        if let Err(error) = self.bucket.delete(key).await {
            tracing::warn!(%key, error = &error as &dyn std::error::Error, "cannot delete what is of no use any more");
        }
    }

    /// Asks for the bytes of a blob, wherever they are.
    async fn find(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<GetResult>, StorageError> {
        let key = self.key(name, file)?;
        let Some(got) = self.bucket.get(&key, GetOptions::default()).await? else {
            let old = self.find_old(name, file).await?;
            let Some(key) = old else { return Ok(None) };
            return self.bucket.get(&key, GetOptions::default()).await;
        };
        if got.meta.size != marker::LENGTH {
            return Ok(Some(got));
        }
        let bytes = got.bytes().await;
        let bytes = bytes.map_err(|error| failed(format!("reading {key}"), error))?;
        let mut marker = Marker::parse(&bytes);
        // What a marker leads to is gone where somebody replaces it at this moment.
        for _ in 0..LEADS {
            match marker {
                Some(Marker::Elsewhere(nonce)) => {
                    let bytes = self.elsewhere(name, file, &nonce)?;
                    let found = self.bucket.get(&bytes, GetOptions::default()).await?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Some(Marker::Gone) => return Ok(None),
                // A file that is as long as a marker.
                None => return self.bucket.get(&key, GetOptions::default()).await,
            }
            let Some(state) = self.look(&key).await? else {
                return Ok(None);
            };
            marker = state.marker;
        }
        Ok(None)
    }

    /// The older key that a tarball has, if it has one.
    async fn find_old(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Path>, StorageError> {
        let looks = keys::old_blobs(name, file)
            .into_iter()
            .map(|key| async move {
                let key = self.bucket.key(&key)?;
                let is_there = self.bucket.read_start(&key, 1).await?.is_some();
                Ok::<_, StorageError>(is_there.then_some(key))
            });
        Ok(try_join_all(looks).await?.into_iter().flatten().next())
    }

    /// All objects that are tarballs of `name`, by file, each with the key that is read first in front.
    async fn objects(
        &self,
        name: &PackageName,
    ) -> Result<BTreeMap<TarballName, Vec<ObjectMeta>>, StorageError> {
        let folders = keys::spellings(name)
            .map(|spelling| (spelling, spelling.folder(name)))
            .filter(|(spelling, folder)| *spelling == Spelling::Plain || self.old.may_have(folder));
        let listings = folders.map(|(_, folder)| {
            let listed = self.bucket.list(&format!("{folder}/"));
            listed.try_collect::<Vec<_>>()
        });
        let mut files: BTreeMap<TarballName, Vec<ObjectMeta>> = BTreeMap::new();
        for meta in try_join_all(listings).await?.into_iter().flatten() {
            let meaning = self.bucket.name_of(&meta.location).and_then(keys::meaning);
            let Some(Meaning::Blob(folder, file)) = meaning else {
                continue;
            };
            // The name of the file tells packages apart that share a folder.
            let is_ours = match &folder {
                Folder::Of(owner, _) => owner == name,
                Folder::Ambiguous(_) => file.as_str().starts_with(&format!("{}-", name.base())),
            };
            if is_ours {
                let is_present = self.key(name, &file)? == meta.location;
                let keys = files.entry(file).or_default();
                keys.insert(if is_present { 0 } else { keys.len() }, meta);
            }
        }
        Ok(files)
    }

    /// The blob that this object is; `None` for a deleted one.
    async fn stored(
        &self,
        name: &PackageName,
        file: TarballName,
        meta: ObjectMeta,
    ) -> Result<Option<StoredBlob>, StorageError> {
        let mut length = meta.size;
        if length == marker::LENGTH {
            match self.look(&meta.location).await? {
                Some(State {
                    marker: Some(Marker::Elsewhere(nonce)),
                    ..
                }) => {
                    let key = self.elsewhere(name, &file, &nonce)?;
                    let read = self.bucket.read_start(&key, 1).await?;
                    length = read.map_or(0, |read| read.length);
                }
                Some(State { marker: None, .. }) => {}
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(StoredBlob {
            file,
            length,
            created: Timestamp::from_unix_millis(meta.last_modified.timestamp_millis()),
        }))
    }

    /// Puts a marker in the place of what was seen. `false`: it has changed since.
    async fn mark(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        marker: Bytes,
    ) -> Result<Written, StorageError> {
        let Some((tag, nonce)) = of_seen(seen) else {
            return Ok(Written::Refused);
        };
        let key = self.key(name, file)?;
        let precondition = Precondition::Matches(tag);
        // No two markers are the same: this one is there only if it was written.
        let written = self.bucket.write_and_look(&key, marker, &precondition);
        let written = written.await?;
        crash_point("object-marked");
        if let (Written::Done(_), Some(nonce)) = (&written, nonce) {
            self.forget(&self.elsewhere(name, file, nonce)?).await;
        }
        Ok(written)
    }

    /// Deletes a tarball that was `seen`; whether nothing is left of it.
    async fn remove(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        keep_copy: bool,
    ) -> Result<bool, StorageError> {
        if keep_copy {
            self.keep_copy(name, file).await?;
        }
        crash_point("object-deleting");
        let mut is_gone = true;
        if of_seen(seen).is_some() {
            let written = self.mark(name, file, seen, Marker::gone()).await?;
            is_gone = matches!(written, Written::Done(_));
        }
        // Nobody writes these, so that they are what they were.
        for key in keys::old_blobs(name, file) {
            let key = self.bucket.key(&key)?;
            if self.bucket.read_start(&key, 1).await?.is_some() {
                self.bucket.delete(&key).await?;
            }
        }
        Ok(is_gone)
    }

    async fn keep_copy(&self, name: &PackageName, file: &TarballName) -> Result<(), StorageError> {
        let Some(got) = self.find(name, file).await? else {
            return Ok(());
        };
        let to = keys::quarantine(name, file, &random_hex::<4>());
        let to = self.bucket.key(&to)?;
        let operation = || format!("copying {} to {to}", got.meta.location);
        let options = object_store::CopyOptions::default();
        let copied = self
            .bucket
            .store()
            .copy_opts(&got.meta.location, &to, options);
        let copied = bounded(operation, copied).await?;
        copied.map_err(|error| failed(operation(), error))
    }
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn create(
        &self,
        name: &PackageName,
        file: &TarballName,
        blob: FinishedBlob<'_>,
    ) -> Result<Created, StorageError> {
        let key = self.key(name, file)?;
        let parts = if blob.length <= WHOLE {
            blob.length.div_ceil(PART).max(1)
        } else {
            1
        };
        let room = self
            .uploads
            .acquire_many(u32::try_from(parts).unwrap_or(1))
            .await;
        let is_new = if blob.length <= WHOLE {
            let written = upload::create(&self.bucket, &key, blob).await?;
            matches!(written, Written::Done(_))
        } else {
            // Nothing is uploaded in vain.
            self.look(&key).await?.is_none() && self.create_large(name, file, &key, blob).await?
        };
        drop(room);
        if is_new {
            return Ok(Created::New);
        }
        match self.look(&key).await? {
            Some(state) => Ok(Created::Taken(seen_of(&state))),
            None => {
                let odd = "the store says that it is there, and that it is not";
                Err(StorageError::backend(format!("writing {key}"), odd))
            }
        }
    }

    async fn replace(
        &self,
        name: &PackageName,
        file: &TarballName,
        seen: &Seen,
        blob: FinishedBlob<'_>,
    ) -> Result<bool, StorageError> {
        let _room = self.uploads.acquire().await;
        let nonce = random_hex::<16>();
        let bytes = self.elsewhere(name, file, &nonce)?;
        upload::upload(&self.bucket, &bytes, blob).await?;
        let marker = Marker::elsewhere(&nonce);
        match self.mark(name, file, seen, marker).await? {
            Written::Done(_) => Ok(true),
            Written::Refused => {
                self.forget(&bytes).await;
                Ok(false)
            }
            // It may have been written, and replaced by now.
            Written::Unclear => Ok(false),
        }
    }

    async fn open(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Blob>, StorageError> {
        let found = self.find(name, file).await?;
        Ok(found.map(|got| blob_of(&self.bucket, got)))
    }

    async fn signed_url(
        &self,
        name: &PackageName,
        file: &TarballName,
    ) -> Result<Option<Url>, StorageError> {
        let key = self.key(name, file)?;
        let key = match self.look(&key).await?.map(|state| state.marker) {
            Some(None) => Some(key),
            Some(Some(Marker::Elsewhere(nonce))) => Some(self.elsewhere(name, file, &nonce)?),
            Some(Some(Marker::Gone)) => None,
            None => self.find_old(name, file).await?,
        };
        match key {
            Some(key) => Ok(Some(self.bucket.signed_url(&key, GOOD_FOR).await?)),
            None => Ok(None),
        }
    }

    async fn doom(
        &self,
        name: &PackageName,
        files: Vec<TarballName>,
    ) -> Result<Doomed, StorageError> {
        let looks = stream::iter(files).map(|file| async move {
            let state = self.look(&self.key(name, &file)?).await?;
            let seen = state.map_or_else(Seen::default, |state| seen_of(&state));
            Ok::<_, StorageError>((file, seen))
        });
        looks.buffered(LOOKS).try_collect().await.map(Doomed)
    }

    async fn delete(
        &self,
        name: &PackageName,
        doomed: Doomed,
        _revision: &Revision,
    ) -> Result<bool, StorageError> {
        let removals = stream::iter(doomed.0)
            .map(|(file, seen)| async move { self.remove(name, &file, &seen, false).await });
        let removed: Vec<bool> = removals.buffered(LOOKS).try_collect().await?;
        Ok(removed.into_iter().all(|is_gone| is_gone))
    }

    async fn set_aside(
        &self,
        name: &PackageName,
        doomed: Doomed,
        _revision: &Revision,
    ) -> Result<bool, StorageError> {
        let mut is_all = true;
        for (file, seen) in doomed.0 {
            is_all &= self.remove(name, &file, &seen, true).await?;
        }
        Ok(is_all)
    }

    fn packages(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let folders = listing::folders(&self.bucket, &self.old);
        let names = folders.try_filter_map(|folder| std::future::ready(Ok(folder.name)));
        names.boxed()
    }

    fn perhaps_lost(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let folders = listing::folders(&self.bucket, &self.old);
        let lost = folders.try_filter_map(|folder| {
            let is_lost = folder.has_blobs && !folder.has_manifest;
            std::future::ready(Ok(folder.name.filter(|_| is_lost)))
        });
        lost.boxed()
    }

    async fn leftovers(
        &self,
        before: Timestamp,
        remove: bool,
    ) -> Result<Vec<String>, StorageError> {
        let mut found = Vec::new();
        let mut own = self.bucket.list(keys::ELSEWHERE);
        while let Some(meta) = own.try_next().await? {
            if meta.last_modified.timestamp_millis() >= before.unix_millis() {
                continue;
            }
            let name = self.bucket.name_of(&meta.location).unwrap_or_default();
            let Some((key, nonce)) = keys::owner_of_elsewhere(name) else {
                continue;
            };
            let state = self.look(&self.bucket.key(key)?).await?;
            let leads_here = Some(Marker::Elsewhere(nonce.to_owned()));
            if state.is_some_and(|state| state.marker == leads_here) {
                continue;
            }
            found.push(name.to_owned());
            if remove {
                self.bucket.delete(&meta.location).await?;
            }
        }
        Ok(found)
    }

    async fn list(&self, name: &PackageName) -> Result<Vec<StoredBlob>, StorageError> {
        let first = self.objects(name).await?.into_iter();
        let first = first.filter_map(|(file, keys)| Some((file, keys.into_iter().next()?)));
        let stored = stream::iter(first.collect::<Vec<_>>())
            .map(|(file, meta)| async move { self.stored(name, file, meta).await });
        let stored: Vec<_> = stored.buffered(LOOKS).try_collect().await?;
        Ok(stored.into_iter().flatten().collect())
    }
}

/// The object that `got` is the answer for.
pub(super) fn blob_of(bucket: &Bucket, got: GetResult) -> Blob {
    let (bucket, meta) = (bucket.clone(), got.meta.clone());
    let whole = got.into_stream().map_err(io::Error::other).boxed();
    let length = meta.size;
    Blob::remote(length, exactly(length, whole), move |part| {
        let count = part.end - part.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(part)),
            if_match: meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let asked = async move {
            let got = bucket.get(&meta.location, options).await;
            match got.map_err(io::Error::other)? {
                Some(got) => Ok(got.into_stream().map_err(io::Error::other)),
                None => Err(io::Error::from(io::ErrorKind::NotFound)),
            }
        };
        exactly(count, stream::once(asked).try_flatten().boxed())
    })
}

/// A stream that fails where it ends early.
fn exactly(length: u64, bytes: Incoming) -> Incoming {
    let counted = stream::try_unfold((bytes, length), |(mut bytes, left)| async move {
        match bytes.next().await {
            Some(piece) => {
                let piece = piece?;
                let count = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                let left = left.checked_sub(count);
                let left = left.ok_or_else(|| io::Error::other("more than was promised"))?;
                Ok(Some((piece, (bytes, left))))
            }
            None if left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Ok(None),
        }
    });
    counted.boxed()
}

fn seen_of(state: &State) -> Seen {
    let nonce = match &state.marker {
        Some(Marker::Elsewhere(nonce)) => nonce.as_str(),
        Some(Marker::Gone) | None => "",
    };
    Seen(Some(format!("{nonce} {}", state.tag.as_str()).into()))
}

/// The tag that was seen, and the name of the bytes that are elsewhere.
fn of_seen(seen: &Seen) -> Option<(Tag, Option<&str>)> {
    let (nonce, tag) = seen.0.as_deref()?.split_once(' ')?;
    let nonce = Some(nonce).filter(|nonce| !nonce.is_empty());
    Some((Tag::new(tag), nonce))
}
