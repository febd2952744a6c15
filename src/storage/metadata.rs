//! [`MetadataStore`]: one JSON document per hosted package, changed by compare-and-swap.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;

use super::{Coherence, StorageError};
use crate::{
    lifecycle::jittered,
    models::{PackageName, Revision},
};

/// So many that even the slowest of several busy nodes comes to write in the end.
const MAX_ATTEMPTS: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A cheap fingerprint of a stored document: equal stamps mean equal documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(pub(super) [u64; 4]);

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct Document {
    /// The JSON, byte for byte as it was stored.
    pub json: Bytes,
    /// What to expect when writing it back.
    pub revision: Revision,
    /// Tells later whether the document has changed.
    pub stamp: Stamp,
}

/// What the writer believes is stored now.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// Exactly this revision.
    Exactly(Revision),
}

impl Expected {
    /// The expectation that `document` is still current.
    pub fn from_read(document: Option<&Document>) -> Self {
        document.map_or(Self::Absent, |document| {
            Self::Exactly(document.revision.clone())
        })
    }
}

/// The contract between the registry and a metadata backend.
///
/// Deliberately minimal: there is no unconditional write, so a lost update cannot be written by
/// accident. Conveniences live in [`MetadataStoreExt`], where no backend can get them wrong.
/// Every implementation passes the suite in `storage/conformance.rs`.
#[async_trait]
pub trait MetadataStore: fmt::Debug + Send + Sync + 'static {
    /// Reads a document; `None` if there is none.
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError>;

    /// The stamp of the document that [`MetadataStore::get`] would read now; `None` if there is
    /// none. Much cheaper than reading.
    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError>;

    /// Writes `json` if what is stored is what `expected` says; else [`StorageError::Conflict`].
    /// Durable once it returns.
    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError>;

    /// Deletes the document if it is still at `revision`; else [`StorageError::Conflict`].
    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError>;

    /// The names of all documents, in no particular order.
    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>>;

    /// The same names, and perhaps some of documents that are gone, each with a stamp that is another
    /// once the document has changed. These stamps compare with one another only. It costs no more
    /// than [`MetadataStore::list`].
    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>>;

    /// What the store says to be hosted and is no name that anybody can ask for.
    async fn strangers(&self) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    /// Whether notices of all changes arrive, so that what was read may be believed without
    /// another look; `None` where there are no notices.
    fn coherence(&self) -> Option<&Arc<Coherence>> {
        None
    }
}

/// A [`MetadataStore`] whose documents can be held as they are, for blobs that are deleted without
/// a condition of their own.
#[async_trait]
pub trait Holding: MetadataStore {
    /// Holds the document at `revision` (`None`: absent) for as long as what it returns lives: no
    /// process changes it meanwhile. `None` if it is at another revision. For what must not happen
    /// once somebody relies on it, such as deleting a blob; short, as writers wait.
    async fn hold(
        &self,
        name: &PackageName,
        revision: Option<&Revision>,
    ) -> Result<Option<Hold>, StorageError>;
}

/// Keeps a document as it is until it is dropped.
pub type Hold = Box<dyn Send>;

/// What the users of a [`MetadataStore`] call.
#[async_trait]
pub trait MetadataStoreExt: MetadataStore {
    /// Reads, lets `edit` compute the new document, writes; again from the start on a conflict,
    /// after a pause that grows and differs between writers.
    ///
    /// `edit` may run several times and must have no side effects. `Ok(None)` leaves the document
    /// as it is.
    async fn update<F, E>(&self, name: &PackageName, mut edit: F) -> Result<Option<Revision>, E>
    where
        F: FnMut(Option<&Document>) -> Result<Option<Bytes>, E> + Send,
        E: From<StorageError> + Send,
    {
        let mut conflicts = Conflicts::default();
        loop {
            let current = self.get(name).await?;
            let Some(json) = edit(current.as_ref())? else {
                return Ok(None);
            };
            let expected = Expected::from_read(current.as_ref());
            match self.put(name, json, expected).await {
                Ok(revision) => return Ok(Some(revision)),
                Err(StorageError::Conflict(_)) => conflicts.pause(name).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<T: MetadataStore + ?Sized> MetadataStoreExt for T {}

/// Counts the conflicts of one write and waits between its attempts.
#[derive(Debug, Default)]
pub struct Conflicts(u32);

impl Conflicts {
    /// Waits before the next attempt; [`StorageError::Conflict`] after too many.
    pub async fn pause(&mut self, name: &PackageName) -> Result<(), StorageError> {
        tracing::debug!(package.name = %name, attempt = self.0 + 1, "document changed meanwhile, trying again");
        if self.wait().await {
            Ok(())
        } else {
            Err(StorageError::Conflict(name.clone()))
        }
    }

    /// Waits before the next attempt; `false` at once after too many.
    pub(super) async fn wait(&mut self) -> bool {
        self.0 += 1;
        if self.0 >= MAX_ATTEMPTS {
            return false;
        }
        let longest = (FIRST_PAUSE * 2_u32.saturating_pow(self.0.min(10))).min(LONGEST_PAUSE);
        tokio::time::sleep(jittered(longest)).await;
        true
    }
}
