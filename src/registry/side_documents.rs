//! [`SideDocuments`]: what uplinks say besides packuments: their signing keys, attestations.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use moka::sync::Cache;

use super::{flight::Flights, keeping::Keeping};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock},
    models::{ContentCoding, Timestamp, UplinkName},
    storage::{CachedDocument, Freshness, StorageError, Store},
    uplink::{Uplink, UplinkError},
};

const MAX_MEMORY: u64 = 16 * 1024 * 1024;
/// An answer is believed for so long: keys change about once a year, attestations hardly ever.
const MAXAGE: Duration = Duration::from_secs(3600);
/// How long after a failure nobody asks again.
const RESPITE: Duration = Duration::from_secs(60);
const MAX_FAILURES: u64 = 10_000;
/// How long a reader waits who can do without.
const MOMENT: Duration = Duration::from_millis(500);
/// What is kept on disk of something that the uplink no longer has; no uplink's answer looks so.
const GONE: &[u8] = b"null";

type Key = (UplinkName, String);

/// A kind of side document.
pub(super) trait SideDocument: Clone + fmt::Debug + Send + Sync + 'static {
    /// Reads what an uplink sent; an error where that is unusable.
    fn parse(body: &Bytes) -> Result<Self, UplinkError>;

    /// Whether an uplink that fails like this has none for us, if it never had.
    fn is_refusal(_error: &UplinkError) -> bool {
        false
    }
}

/// How long somebody waits for an answer that nobody has yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// A moment, and only if nobody has waited in vain lately.
    Moment,
    /// As long as the uplink may take.
    Enough,
}

/// What an uplink answered, and when; `None`: it has no such thing.
#[derive(Clone, Debug)]
struct Known<T> {
    value: Option<T>,
    at: Timestamp,
    length: usize,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
enum Failure {
    Failed(UplinkError),
    /// Somebody waited for a moment, and the question is still on its way.
    Slow,
}

impl Failure {
    fn is_circle(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_circle())
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) => error.into(),
            Failure::Slow => Self::UpstreamTimeout {
                message: "the uplink did not answer in time".to_owned(),
                source: "the answer is still on its way".into(),
            },
        }
    }
}

/// Answers of uplinks, kept in memory and on disk. An old one serves at once, while the uplink is
/// asked again behind it; a failure is remembered, so that an uplink in trouble costs no reader
/// anything.
#[derive(Debug)]
pub(super) struct SideDocuments<T: SideDocument> {
    shelf: Shelf<T>,
    /// Answers on their way from the disk.
    readings: Flights<Key, Option<Known<T>>>,
    /// Questions.
    flights: Flights<Key, Result<Option<T>, Failure>>,
}

/// What a question needs to be asked and its answer to be kept.
#[derive(Clone, Debug)]
struct Shelf<T: SideDocument> {
    store: Store,
    keeping: Keeping<Key>,
    clock: SharedClock,
    known: Cache<Key, Known<T>>,
    failures: Cache<Key, (Timestamp, Failure)>,
}

impl<T: SideDocument> SideDocuments<T> {
    pub(super) fn new(store: Store, clock: SharedClock, lifecycle: Lifecycle) -> Self {
        let weight = |key: &Key, known: &Known<T>| {
            u32::try_from(key.1.len() + known.length + 128).unwrap_or(u32::MAX)
        };
        Self {
            shelf: Shelf {
                store,
                keeping: Keeping::new(lifecycle.clone()),
                clock,
                known: Cache::builder()
                    .max_capacity(MAX_MEMORY)
                    .weigher(weight)
                    .build(),
                failures: Cache::new(MAX_FAILURES),
            },
            readings: Flights::new(lifecycle.clone()),
            flights: Flights::new(lifecycle),
        }
    }

    /// The object at `path` of `uplink`; `None` where it has none.
    pub(super) async fn get(
        &self,
        uplink: &Arc<Uplink>,
        path: &str,
        patience: Patience,
    ) -> Result<Option<T>, RegistryError> {
        let key = (uplink.name().clone(), path.to_owned());
        let now = self.shelf.clock.now();
        let is_older = |at: Timestamp, than| Duration::from_millis(now.millis_since(at)) >= than;
        let known = self.shelf.known.get(&key);
        if let Some(known) = known.as_ref().filter(|known| !is_older(known.at, MAXAGE)) {
            return Ok(known.value.clone());
        }
        let failure = self.shelf.failures.get(&key);
        let rests = failure
            .as_ref()
            .is_some_and(|(at, _)| !is_older(*at, RESPITE));
        let known = match known {
            // Whoever failed has looked on disk before.
            None if failure.is_none() => self.kept(&key).await,
            known => known,
        };
        if let Some(known) = known {
            if is_older(known.at, MAXAGE) && !rests {
                self.begin(uplink, &key, known.value.is_some());
            }
            return Ok(known.value);
        }
        match (failure, patience) {
            (Some((_, failure)), Patience::Moment) => {
                if !rests {
                    self.begin(uplink, &key, false);
                }
                Err(failure.into())
            }
            (Some((_, failure)), Patience::Enough)
                if rests && !matches!(failure, Failure::Slow) =>
            {
                Err(failure.into())
            }
            (_, Patience::Enough) => Ok(self.ask(uplink, &key).await??),
            (None, Patience::Moment) => {
                match tokio::time::timeout(MOMENT, self.ask(uplink, &key)).await {
                    Ok(answer) => Ok(answer??),
                    Err(_) => {
                        self.shelf.failed(key, Failure::Slow);
                        Err(Failure::Slow.into())
                    }
                }
            }
        }
    }

    /// What was kept on disk.
    async fn kept(&self, key: &Key) -> Option<Known<T>> {
        let reading = self.readings.join(key.clone(), || {
            let (shelf, key) = (self.shelf.clone(), key.clone());
            async move { shelf.kept(&key).await }
        });
        reading.await.ok().flatten()
    }

    /// Asks the uplink, or joins those who have asked it for something that is not known.
    async fn ask(
        &self,
        uplink: &Arc<Uplink>,
        key: &Key,
    ) -> Result<Result<Option<T>, Failure>, RegistryError> {
        let is_circle =
            |answer: &Result<_, Failure>| answer.as_ref().is_err_and(Failure::is_circle);
        let asking = self.flights.ask(key.clone(), is_circle, || {
            self.shelf
                .clone()
                .fetch(Arc::clone(uplink), key.clone(), false)
        });
        asking.await.map_err(RegistryError::internal)
    }

    /// Asks the uplink if nobody does. Nobody waits for it.
    fn begin(&self, uplink: &Arc<Uplink>, key: &Key, was_known: bool) {
        self.flights.start(key.clone(), || {
            self.shelf
                .clone()
                .fetch(Arc::clone(uplink), key.clone(), was_known)
        });
    }
}

impl<T: SideDocument> Shelf<T> {
    /// What was kept on disk.
    async fn kept(&self, key: &Key) -> Option<Known<T>> {
        // Somebody may have read or asked between the look at the memory and this one.
        if let Some(known) = self.known.get(key) {
            return Some(known);
        }
        let document = match self.store.cache().document(&key.0, &key.1).await {
            Ok(document) => document?,
            Err(error) => {
                warn_of_cache(key, &error);
                return None;
            }
        };
        let value = match &document.body[..] {
            GONE => None,
            _ => Some(T::parse(&document.body).ok()?),
        };
        let known = Known {
            value,
            at: document.freshness.fetched_at,
            length: document.body.len(),
        };
        self.known.insert(key.clone(), known.clone());
        Some(known)
    }

    async fn fetch(
        self,
        uplink: Arc<Uplink>,
        key: Key,
        was_known: bool,
    ) -> Result<Option<T>, Failure> {
        let body = uplink.document(&key.1).await;
        let answer = body.and_then(|body| {
            let value = body.as_ref().map(T::parse).transpose()?;
            Ok((value, body))
        });
        let outcome = match answer {
            Ok(answer) => Ok(answer),
            Err(error) if !was_known && T::is_refusal(&error) => Ok((None, None)),
            Err(error) => Err(Failure::Failed(error)),
        };
        let kept = match outcome {
            Ok((value, body)) => {
                self.keep(&key, value.clone(), body, was_known);
                Ok(value)
            }
            Err(failure) => Err(failure),
        };
        match &kept {
            Ok(_) => self.failures.invalidate(&key),
            Err(failure) => {
                tracing::warn!(uplink.name = %uplink.name(), path = key.1, was_known, ?failure, "an uplink does not answer");
                // That somebody came round in a circle is no reason to refuse others.
                if !failure.is_circle() {
                    self.failed(key, failure.clone());
                }
            }
        }
        kept
    }

    fn keep(&self, key: &Key, value: Option<T>, body: Option<Bytes>, was_known: bool) {
        let at = self.clock.now();
        let length = body.as_ref().map_or(0, Bytes::len);
        let known = Known { value, at, length };
        self.known.insert(key.clone(), known);
        // What was never there is not worth a file.
        let kept = body.or_else(|| was_known.then(|| Bytes::from_static(GONE)));
        if let Some(body) = kept {
            let freshness = Freshness {
                fetched_at: at,
                etag: None,
                last_modified: None,
            };
            let document = CachedDocument::new(body, ContentCoding::Identity, freshness);
            let (cache, key) = (self.store.cache().clone(), key.clone());
            self.keeping.keep(key.clone(), async move {
                let kept = cache.put_document(&key.0, &key.1, document);
                if let Err(error) = kept.await {
                    // It is asked again after a restart, that is all.
                    warn_of_cache(&key, &error);
                }
            });
        }
    }

    fn failed(&self, key: Key, failure: Failure) {
        self.failures.insert(key, (self.clock.now(), failure));
    }
}

fn warn_of_cache(key: &Key, error: &StorageError) {
    let (uplink, path) = key;
    tracing::warn!(uplink.name = %uplink, path, error = error as &dyn std::error::Error, "the cache of upstream's answers cannot be used");
}
