//! [`ObjectMetadata`]: manifests as objects, compare-and-swap by If-Match.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectMeta;
use parking_lot::RwLock;
use sha2::Digest as _;

use super::{
    bucket::{Bucket, Precondition, Read, Tag, Written},
    keys::{self, Folder, Meaning, Spelling},
    listing,
};
use crate::{
    models::{PackageName, Revision},
    storage::{Document, Expected, MetadataStore, Stamp, StorageError},
};

/// What a deleted manifest is replaced by, since no store deletes conditionally.
const NOTHING: &[u8] = b"null";
const NOTHING_LENGTH: u64 = 4;
/// How many scopes without old folders are remembered.
const UNENCODED: u64 = 10_000;

/// Keeps each manifest in `package.json` of the package's folder.
///
/// A look at the present key finds the manifest of nearly every package. Only where there is none,
/// and only for a scoped name, older spellings are looked at: first the one that was common; then
/// those that keep the `@`, whose folders are listed once for each scope; at last the rarest. So no
/// manifest takes more than three reads and that listing; where one was found, it is looked for from
/// then on. Once all keys have been listed, as the search index does after each start, it is known
/// which packages have old spellings, and a name that has none costs one look.
#[derive(Clone, Debug)]
pub struct ObjectMetadata {
    bucket: Bucket,
    old: Arc<RwLock<Old>>,
    /// Scopes that have no folder with an encoded slash. Anybody may ask for any scope, so they are
    /// not all remembered.
    unencoded: moka::sync::Cache<String, ()>,
}

/// Which manifests have older keys. Nobody writes new ones.
#[derive(Debug, Default)]
struct Old {
    spellings: HashMap<PackageName, Spelling>,
    /// Whose a folder is of which only the manifest tells.
    owners: HashMap<String, PackageName>,
    /// The scopes that have folders with an encoded slash, all of which are known.
    encoded: HashSet<String>,
    are_all_known: bool,
}

/// A manifest, or its beginning, and where it was.
struct Found {
    spelling: Spelling,
    read: Read,
}

#[derive(Clone, Copy)]
enum Part {
    Whole,
    Start,
}

impl ObjectMetadata {
    /// The manifests in `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            old: Arc::default(),
            unencoded: moka::sync::Cache::new(UNENCODED),
        }
    }

    /// Remembers this many scopes without old folders; how many it remembers of all scopes.
    #[cfg(all(test, feature = "test-services"))]
    pub(super) fn remembering(mut self, unencoded: u64) -> (Self, impl Fn() -> u64) {
        self.unencoded = moka::sync::Cache::new(unencoded);
        let (known, old) = (self.unencoded.clone(), Arc::clone(&self.old));
        let count = move || {
            known.run_pending_tasks();
            known.entry_count() + old.read().encoded.len() as u64
        };
        (self, count)
    }

    async fn find(&self, name: &PackageName, part: Part) -> Result<Option<Found>, StorageError> {
        let (known, are_all_known) = {
            let old = self.old.read();
            (old.spellings.get(name).copied(), old.are_all_known)
        };
        if let Some(spelling) = known
            && let Some(found) = self.look(name, spelling, part).await?
        {
            return Ok(Some(found));
        }
        if let Some(found) = self.look(name, Spelling::Plain, part).await? {
            return Ok(Some(found));
        }
        if are_all_known && known.is_none() {
            return Ok(None);
        }
        self.find_old(name, part).await
    }

    async fn find_old(
        &self,
        name: &PackageName,
        part: Part,
    ) -> Result<Option<Found>, StorageError> {
        let Some(scope) = name.scope() else {
            return Ok(None);
        };
        let mut found = self.look(name, Spelling::Underscores, part).await?;
        if found.is_none() {
            self.find_encoded(scope).await?;
            let listed = self.old.read().spellings.get(name).copied();
            let spelling = listed.unwrap_or(Spelling::Whole);
            found = self.look(name, spelling, part).await?;
        }
        if let Some(found) = &found {
            let mut old = self.old.write();
            old.spellings.insert(name.clone(), found.spelling);
        }
        Ok(found)
    }

    /// Finds out which folders of `scope` have their slash encoded, once.
    async fn find_encoded(&self, scope: &str) -> Result<(), StorageError> {
        if self.unencoded.contains_key(scope) || self.old.read().encoded.contains(scope) {
            return Ok(());
        }
        let folders = self.bucket.folders(&format!("{scope}%2")).await?;
        if folders.is_empty() {
            self.unencoded.insert(scope.to_owned(), ());
            return Ok(());
        }
        let mut old = self.old.write();
        for folder in folders {
            if let Some(Folder::Of(name, spelling)) = keys::folder_of(&folder) {
                old.spellings.insert(name, spelling);
            }
        }
        old.encoded.insert(scope.to_owned());
        Ok(())
    }

    async fn look(
        &self,
        name: &PackageName,
        spelling: Spelling,
        part: Part,
    ) -> Result<Option<Found>, StorageError> {
        let key = self.bucket.key(&keys::manifest(name, spelling))?;
        let is_ambiguous = keys::is_ambiguous(name, spelling);
        let read = match part {
            Part::Start if !is_ambiguous => self.bucket.read_start(&key, NOTHING_LENGTH).await?,
            _ => self.bucket.read(&key).await?,
        };
        let read = read.filter(|read| !is_nothing(read));
        let read = read.filter(|read| !is_ambiguous || names(&read.bytes).as_ref() == Some(name));
        Ok(read.map(|read| Found { spelling, read }))
    }

    /// Writes a manifest where none is, neither here nor under an older key.
    async fn create(&self, name: &PackageName, json: Bytes) -> Result<Revision, StorageError> {
        let conflict = || StorageError::Conflict(name.clone());
        let key = self.bucket.key(&keys::manifest(name, Spelling::Plain))?;
        let precondition = match self.bucket.read_start(&key, NOTHING_LENGTH).await? {
            Some(read) if is_nothing(&read) => Precondition::Matches(read.tag),
            Some(_) => return Err(conflict()),
            None => Precondition::Absent,
        };
        if self.find_old(name, Part::Start).await?.is_some() {
            return Err(conflict());
        }
        self.write(name, Spelling::Plain, json, &precondition).await
    }

    async fn write(
        &self,
        name: &PackageName,
        spelling: Spelling,
        json: Bytes,
        precondition: &Precondition,
    ) -> Result<Revision, StorageError> {
        let key = self.bucket.key(&keys::manifest(name, spelling))?;
        match self.bucket.write_and_look(&key, json, precondition).await? {
            Written::Done(tag) => Ok(revision(spelling, &tag)),
            // Of the second, whoever tries again finds what has become of it.
            Written::Refused | Written::Unclear => Err(StorageError::Conflict(name.clone())),
        }
    }

    /// Whose manifest the one in this folder is.
    async fn owner(&self, folder: &str) -> Result<Option<PackageName>, StorageError> {
        if let Some(known) = self.old.read().owners.get(folder) {
            return Ok(Some(known.clone()));
        }
        let key = self.bucket.key(&format!("{folder}/package.json"))?;
        let read = self.bucket.read(&key).await?;
        let name = read.and_then(|read| names(&read.bytes));
        let name = name.filter(|name| Spelling::Underscores.folder(name) == folder);
        if let Some(name) = &name {
            let mut old = self.old.write();
            old.owners.insert(folder.to_owned(), name.clone());
        }
        Ok(name)
    }

    /// The package of an object in a listing, if it is a manifest, or was one.
    async fn listed(&self, meta: &ObjectMeta) -> Result<Option<Listed>, StorageError> {
        let key = self.bucket.name_of(&meta.location);
        let Some(Meaning::Manifest(folder)) = key.and_then(keys::meaning) else {
            return Ok(None);
        };
        let (name, spelling) = match folder {
            Folder::Of(name, spelling) => (name, spelling),
            Folder::Ambiguous(folder) => match self.owner(&folder).await? {
                Some(name) => (name, Spelling::Underscores),
                None => return Ok(None),
            },
        };
        if spelling != Spelling::Plain {
            let mut old = self.old.write();
            old.spellings.insert(name.clone(), spelling);
        }
        Ok(Some(Listed {
            name,
            spelling,
            stamp: listed_stamp(meta),
            may_be_nothing: meta.size == NOTHING_LENGTH,
        }))
    }

    /// All manifests in the bucket, and what is left of some.
    fn listing(&self) -> BoxStream<'static, Result<Listed, StorageError>> {
        let store = self.clone();
        let listed = listing::packages(&self.bucket).try_filter_map(move |meta| {
            let store = store.clone();
            async move { store.listed(&meta).await }
        });
        // Only a listing that came to its end knows all of them.
        let old = Arc::clone(&self.old);
        let mut has_failed = false;
        let end = stream::once(async move { Ok(None) });
        let listed = listed.map_ok(Some).chain(end).filter_map(move |listed| {
            has_failed |= listed.is_err();
            let is_end = matches!(listed, Ok(None));
            if is_end && !has_failed {
                old.write().are_all_known = true;
            }
            std::future::ready(listed.transpose())
        });
        listed.boxed()
    }
}

/// A manifest in a listing.
struct Listed {
    name: PackageName,
    spelling: Spelling,
    stamp: Stamp,
    may_be_nothing: bool,
}

#[async_trait]
impl MetadataStore for ObjectMetadata {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let found = self.find(name, Part::Whole).await?;
        Ok(found.map(|Found { spelling, read }| Document {
            revision: revision(spelling, &read.tag),
            stamp: stamp(spelling, &read),
            json: read.bytes,
        }))
    }

    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError> {
        let found = self.find(name, Part::Start).await?;
        Ok(found.map(|found| stamp(found.spelling, &found.read)))
    }

    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        match expected {
            Expected::Absent => self.create(name, json).await,
            Expected::Exactly(revision) => {
                let (spelling, tag) = parse_revision(&revision)
                    .ok_or_else(|| StorageError::Conflict(name.clone()))?;
                let precondition = Precondition::Matches(tag);
                self.write(name, spelling, json, &precondition).await
            }
        }
    }

    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        let nothing = Bytes::from_static(NOTHING);
        let expected = Expected::Exactly(revision.clone());
        self.put(name, nothing, expected).await.map(drop)
    }

    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        let store = self.clone();
        let names = self.listing().try_filter_map(move |listed| {
            let store = store.clone();
            async move {
                let Listed { name, spelling, .. } = listed;
                let is_there = !listed.may_be_nothing
                    || store.look(&name, spelling, Part::Start).await?.is_some();
                Ok(is_there.then_some(name))
            }
        });
        names.boxed()
    }

    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>> {
        let listed = self.listing();
        listed.map_ok(|listed| (listed.name, listed.stamp)).boxed()
    }
}

fn is_nothing(read: &Read) -> bool {
    read.length == NOTHING_LENGTH && read.bytes == NOTHING
}

/// Whose manifest this is, as it says itself.
fn names(json: &[u8]) -> Option<PackageName> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice::<Named>(json)
        .ok()?
        .name
        .parse()
        .ok()
}

fn revision(spelling: Spelling, tag: &Tag) -> Revision {
    Revision::new(format!("{}{}", spelling.letter(), tag.as_str()))
}

fn parse_revision(revision: &Revision) -> Option<(Spelling, Tag)> {
    let mut letters = revision.as_str().chars();
    let spelling = Spelling::of_letter(letters.next()?)?;
    Some((spelling, Tag::new(letters.as_str())))
}

fn stamp(spelling: Spelling, read: &Read) -> Stamp {
    let mut hash = sha2::Sha256::new();
    hash.update(revision(spelling, &read.tag).as_str());
    hash.update(read.length.to_le_bytes());
    to_stamp(hash)
}

/// What a listing tells of a state: not all of them have the tags that reading gives.
fn listed_stamp(meta: &ObjectMeta) -> Stamp {
    let mut hash = sha2::Sha256::new();
    hash.update(meta.location.as_ref());
    hash.update(meta.size.to_le_bytes());
    hash.update(meta.last_modified.timestamp_micros().to_le_bytes());
    hash.update(meta.e_tag.as_deref().unwrap_or_default());
    to_stamp(hash)
}

fn to_stamp(hash: sha2::Sha256) -> Stamp {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.finalize().as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Stamp(words)
}
