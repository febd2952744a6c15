//! [`Bucket`]: objects below a prefix, and the few things that are done with them.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, UpdateVersion,
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
    signer::Signer,
};

use crate::{lifecycle::jittered, storage::StorageError};

/// How long one small operation may take, with all its attempts, unless a bucket says otherwise.
const LONGEST: Duration = Duration::from_secs(30);
/// How often a conditional write is tried.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What belongs to the registry itself, and to no package, begins with this.
pub(super) const OWN: &str = ".rustaccio/";

/// What tells one state of an object from others: its entity tag, or its generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// A tag that [`Tag::as_str`] gave.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What has to be true for a write to happen.
#[derive(Clone, Debug)]
pub enum Precondition {
    /// There is no such object.
    Absent,
    /// The object is in the state of this tag.
    Matches(Tag),
}

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It happened; the object now has this tag.
    Done(Tag),
    /// It did not happen: the precondition does not hold.
    Refused,
    /// The store failed in between and then refused: either somebody else was faster, or it happened.
    Unclear,
}

/// An object, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Read {
    /// The bytes that were asked for.
    pub bytes: Bytes,
    /// The length of the object in bytes.
    pub length: u64,
    /// What state it is in.
    pub tag: Tag,
    /// When it was written, in milliseconds.
    pub written: i64,
}

/// A bucket, and what all keys of this registry begin with. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    /// Tries again what may be tried again without a second thought.
    store: Arc<dyn ObjectStore>,
    /// Tries everything once: whether a conditional write may be repeated is decided here.
    once: Arc<dyn ObjectStore>,
    /// Those that only live in memory, for tests, have neither this nor the next.
    signer: Option<Arc<dyn Signer>>,
    pages: Option<Arc<dyn PaginatedListStore>>,
    prefix: Arc<str>,
    /// Whether states are told apart by generation.
    has_generations: bool,
    /// How long one operation may take.
    longest: Duration,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bucket({self})")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.store, self.prefix)
    }
}

impl Bucket {
    pub(super) fn new<S>(store: S, once: S, prefix: &str, has_generations: bool) -> Self
    where
        S: ObjectStore + Signer + PaginatedListStore + Clone,
    {
        Self {
            signer: Some(Arc::new(store.clone())),
            pages: Some(Arc::new(store.clone())),
            store: Arc::new(store),
            once: Arc::new(once),
            prefix: prefix.into(),
            has_generations,
            longest: LONGEST,
        }
    }

    /// What is below `prefix` of a store that needs no second attempt.
    #[cfg(test)]
    pub(in crate::storage) fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            once: Arc::clone(&store),
            store,
            signer: None,
            pages: None,
            prefix: prefix.into(),
            has_generations: false,
            longest: LONGEST,
        }
    }

    /// The same bucket, where one operation may take no longer than this with all its attempts.
    #[must_use]
    pub fn within(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// A slow store is as good as one that is down.
    async fn bounded<T>(
        &self,
        operation: impl Fn() -> String,
        work: impl Future<Output = T>,
    ) -> Result<T, StorageError> {
        within(self.longest, operation, work).await
    }

    /// The store itself, which tries again what fails; its keys are those of [`Bucket::key`].
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What all keys of this registry begin with: empty, or with a slash at its end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of what this registry calls `name`, such as `.rustaccio/accounts/users/ann`.
    pub fn key(&self, name: &str) -> Result<Path, StorageError> {
        let key = format!("{}{name}", self.prefix);
        Path::parse(&key).map_err(|error| StorageError::backend(format!("naming {key}"), error))
    }

    /// What this registry calls the object at `key`; `None` for others.
    pub fn name_of<'a>(&self, key: &'a Path) -> Option<&'a str> {
        key.as_ref().strip_prefix(&*self.prefix)
    }

    /// The tag of the object that `meta` describes.
    pub(super) fn tag_of(&self, meta: &ObjectMeta) -> Result<Tag, StorageError> {
        self.tag(
            &meta.location,
            meta.e_tag.as_deref(),
            meta.version.as_deref(),
        )
    }

    fn tag(
        &self,
        key: &Path,
        e_tag: Option<&str>,
        version: Option<&str>,
    ) -> Result<Tag, StorageError> {
        let tag = if self.has_generations { version } else { e_tag };
        tag.map(Tag::new).ok_or_else(|| {
            let missing = "the store gives no entity tag";
            StorageError::backend(format!("reading {key}"), missing)
        })
    }

    /// Asks for the object at `key`, or a part of it; `None` if there is none.
    pub(super) async fn get(
        &self,
        key: &Path,
        options: GetOptions,
    ) -> Result<Option<GetResult>, StorageError> {
        let operation = || format!("reading {key}");
        let got = self
            .bounded(operation, self.store.get_opts(key, options))
            .await?;
        found(got, operation)
    }

    /// Reads the object at `key`; `None` if there is none.
    pub async fn read(&self, key: &Path) -> Result<Option<Read>, StorageError> {
        self.read_with(key, GetOptions::default()).await
    }

    /// Reads the first `count` bytes of the object at `key`; `None` if there is none. What a store answers to HEAD does not tell a missing object from a missing bucket, so
    /// this is how to look at one, too.
    pub async fn read_start(&self, key: &Path, count: u64) -> Result<Option<Read>, StorageError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(0..count)),
            ..GetOptions::default()
        };
        match self.read_with(key, options).await {
            // There is no beginning of an empty object.
            Err(error) if is_out_of_range(&error) => self.read(key).await,
            read => read,
        }
    }

    async fn read_with(
        &self,
        key: &Path,
        options: GetOptions,
    ) -> Result<Option<Read>, StorageError> {
        let operation = || format!("reading {key}");
        let Some(got) = self.get(key, options).await? else {
            return Ok(None);
        };
        let meta = got.meta.clone();
        // As long as bytes come, they are waited for.
        let bytes = got.bytes().await;
        Ok(Some(Read {
            bytes: bytes.map_err(|error| failed(operation(), error))?,
            length: meta.size,
            tag: self.tag_of(&meta)?,
            written: meta.last_modified.timestamp_millis(),
        }))
    }

    /// Writes `bytes` at `key` if the precondition holds. The only way to write what others may
    /// write too.
    pub async fn write(
        &self,
        key: &Path,
        bytes: Bytes,
        precondition: &Precondition,
    ) -> Result<Written, StorageError> {
        let operation = || format!("writing {key}");
        let written = self.try_to_write(key, &bytes, precondition);
        self.bounded(operation, written).await?
    }

    /// Like [`Bucket::write`], and where the answer is unclear, looks: an object of these very bytes is as it
    /// should be, whoever wrote it. Where it matters who did, no two writers write the same.
    ///
    /// What is unclear even then was either never written, or written and changed since.
    pub async fn write_and_look(
        &self,
        key: &Path,
        bytes: Bytes,
        precondition: &Precondition,
    ) -> Result<Written, StorageError> {
        let written = self.write(key, bytes.clone(), precondition).await?;
        if written != Written::Unclear {
            return Ok(written);
        }
        let now = self.read(key).await?.filter(|now| now.bytes == bytes);
        Ok(now.map_or(Written::Unclear, |now| Written::Done(now.tag)))
    }

    async fn try_to_write(
        &self,
        key: &Path,
        bytes: &Bytes,
        precondition: &Precondition,
    ) -> Result<Written, StorageError> {
        let mode = match precondition {
            Precondition::Absent => PutMode::Create,
            Precondition::Matches(tag) => PutMode::Update(self.version(tag)),
        };
        // Set once a write has failed that may have happened all the same.
        let mut is_unclear = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let options = PutOptions::from(mode.clone());
            let payload = PutPayload::from_bytes(bytes.clone());
            match self.once.put_opts(key, payload, options).await {
                Ok(done) => {
                    let tag = self.tag(key, done.e_tag.as_deref(), done.version.as_deref());
                    return tag.map(Written::Done);
                }
                // Two writers at the same instant: some stores let neither of them.
                Err(Error::AlreadyExists { source, .. })
                    if attempt < ATTEMPTS && is_momentary(&*source) => {}
                Err(error) if is_refusal(&error, precondition) => {
                    return Ok(if is_unclear {
                        Written::Unclear
                    } else {
                        Written::Refused
                    });
                }
                Err(error) if attempt >= ATTEMPTS || is_final(&error) => {
                    return Err(failed(format!("writing {key}"), error));
                }
                Err(_) => is_unclear = true,
            }
            tokio::time::sleep(jittered(FIRST_PAUSE * 2_u32.pow(attempt))).await;
        }
    }

    fn version(&self, tag: &Tag) -> UpdateVersion {
        let text = Some(tag.as_str().to_owned());
        if self.has_generations {
            UpdateVersion {
                e_tag: None,
                version: text,
            }
        } else {
            UpdateVersion {
                e_tag: text,
                version: None,
            }
        }
    }

    /// Writes an object that nobody else writes.
    pub(in crate::storage) async fn write_own(
        &self,
        key: &Path,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        let operation = || format!("writing {key}");
        let put = self.store.put(key, PutPayload::from_bytes(bytes));
        let done = self.bounded(operation, put).await?;
        done.map(drop).map_err(|error| failed(operation(), error))
    }

    /// Deletes an object that nobody will ever write again. A missing one is no error.
    pub async fn delete(&self, key: &Path) -> Result<(), StorageError> {
        let operation = || format!("deleting {key}");
        let done = self.bounded(operation, self.store.delete(key)).await?;
        found(done, operation).map(drop)
    }

    /// All objects whose names begin with the folder `name`, in the order of their keys.
    pub fn list(&self, name: &str) -> BoxStream<'static, Result<ObjectMeta, StorageError>> {
        self.list_after(name, None)
    }

    /// The same, those whose names come after `after`.
    pub(in crate::storage) fn list_after(
        &self,
        name: &str,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<ObjectMeta, StorageError>> {
        let folder = format!("{}{name}", self.prefix);
        let folder = folder.trim_end_matches('/').to_owned();
        let parsed = Path::parse(&folder).and_then(|path| {
            let after = after.map(|after| Path::parse(format!("{}{after}", self.prefix)));
            Ok((path, after.transpose()?))
        });
        let operation = format!("listing {folder}/");
        match parsed {
            Ok((path, after)) => {
                let path = Some(&path).filter(|_| !folder.is_empty());
                let listed = match &after {
                    Some(after) => self.store.list_with_offset(path, after),
                    None => self.store.list(path),
                };
                listed
                    .map_err(move |error| failed(operation.clone(), error))
                    .boxed()
            }
            Err(error) => {
                let error = StorageError::backend(operation, error);
                stream::once(async move { Err(error) }).boxed()
            }
        }
    }

    /// The names of the folders, not in others, that begin with `start`; what is in them is not listed.
    pub(super) async fn folders(&self, start: &str) -> Result<BTreeSet<String>, StorageError> {
        let prefix = format!("{}{start}", self.prefix);
        let operation = || format!("listing folders {prefix}…");
        let mut folders = BTreeSet::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                page_token: page_token.take(),
                ..PaginatedListOptions::default()
            };
            let Some(pages) = &self.pages else {
                return Ok(folders);
            };
            let page = pages.list_paginated(Some(&prefix), options);
            let page = self.bounded(operation, page).await?;
            let page = page.map_err(|error| failed(operation(), error))?;
            let objects = page.result.objects.iter().map(|meta| &meta.location);
            for path in page.result.common_prefixes.iter().chain(objects) {
                let name = self.name_of(path).unwrap_or_default();
                let folder = name.split('/').next().unwrap_or_default();
                folders.insert(folder.to_owned());
            }
            if page.page_token.is_none() {
                return Ok(folders);
            }
            page_token = page.page_token;
        }
    }

    /// An address that gives the object at `key` to whoever has it, for this long.
    pub(super) async fn signed_url(
        &self,
        key: &Path,
        good_for: Duration,
    ) -> Result<url::Url, StorageError> {
        let operation = || format!("signing an address of {key}");
        let Some(signer) = &self.signer else {
            return Err(StorageError::backend(
                operation(),
                "the store signs nothing",
            ));
        };
        let signed = signer.signed_url(http::Method::GET, key, good_for);
        let signed = self.bounded(operation, signed).await?;
        signed.map_err(|error| failed(operation(), error))
    }
}

/// What `work` comes to in the time that is usual.
pub(super) async fn bounded<T>(
    operation: impl Fn() -> String,
    work: impl Future<Output = T>,
) -> Result<T, StorageError> {
    within(LONGEST, operation, work).await
}

async fn within<T>(
    longest: Duration,
    operation: impl Fn() -> String,
    work: impl Future<Output = T>,
) -> Result<T, StorageError> {
    let done = tokio::time::timeout(longest, work).await;
    done.map_err(|late| StorageError::backend(operation(), late))
}

/// `None` for an object that is not there; a bucket that is not there is a failure.
pub(super) fn found<T>(
    result: object_store::Result<T>,
    operation: impl Fn() -> String,
) -> Result<Option<T>, StorageError> {
    match result {
        Ok(got) => Ok(Some(got)),
        Err(Error::NotFound { source, .. }) if is_without_bucket(&*source) => {
            Err(StorageError::backend(operation(), NoBucket(source)))
        }
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(operation(), error)),
    }
}

pub(super) fn failed(operation: String, error: Error) -> StorageError {
    StorageError::backend(operation, error)
}

/// The store answers, and the bucket is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no such bucket; make it, or set its right name")]
struct NoBucket(#[source] Box<Cause>);

type Cause = dyn std::error::Error + Send + Sync;

/// Whether the store says that there is no bucket. No name has these characters.
fn is_without_bucket(cause: &Cause) -> bool {
    let text = cause.to_string();
    ["NoSuchBucket", "ContainerNotFound"]
        .iter()
        .any(|code| text.contains(&format!("<Code>{code}</Code>")))
}

/// Whether the store says that the precondition does not hold.
fn is_refusal(error: &Error, precondition: &Precondition) -> bool {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => true,
        // What is not there any more does not match.
        Error::NotFound { source, .. } => {
            matches!(precondition, Precondition::Matches(_)) && !is_without_bucket(&**source)
        }
        _ => false,
    }
}

/// Whether a conflict says nothing about the precondition.
fn is_momentary(cause: &Cause) -> bool {
    let text = cause.to_string();
    text.contains("<Code>ConditionalRequestConflict</Code>")
        || text.contains("<Code>OperationAborted</Code>")
}

/// Whether the store has the object and not the range.
fn is_out_of_range(error: &StorageError) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.to_string().contains("416 Range Not Satisfiable"))
}

/// Whether it would be in vain to try again.
fn is_final(error: &Error) -> bool {
    !matches!(error, Error::Generic { .. })
}
