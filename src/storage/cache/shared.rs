//! [`Shared`]: the tier that all nodes share, and how this node treats it: it never waits long for
//! it, and leaves it alone where it fails.

use std::{error::Error, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};

use super::{
    CachedDocument, Freshness,
    tier::{Place, Tier},
};
use crate::{
    lifecycle::Lifecycle,
    storage::{Blob, StorageError},
};

/// How long a reader waits for an answer before upstream is asked instead.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long he waits for all of a document.
const LONGEST: Duration = Duration::from_secs(10);
/// How long after a failure it is left alone.
const RESPITE: Duration = Duration::from_secs(5);
/// How often the use of an entry is noted by one node: each time is a request.
const STEP: Duration = Duration::from_hours(24);
/// How many entries are remembered whose use was noted.
const MAX_NOTED: u64 = 200_000;
/// How many uses wait to be noted; more are not noted at all.
const MAX_WAITING: usize = 10_000;
/// How many are noted at once.
const AT_ONCE: usize = 4;
/// How many entries are written at once, and how many more wait for that with what they are to
/// write. What comes beyond is not written: another node fetches it from upstream.
pub(super) const WRITES: usize = 16;
pub(super) const WAITING_WRITES: usize = 256;
/// How long one may take.
const LONGEST_WRITE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Shared {
    tier: Arc<dyn Tier>,
    rests_until: Mutex<Option<Instant>>,
    writes: Semaphore,
    pub(super) waiting_writes: Semaphore,
    noted: Cache<Place, ()>,
    uses: mpsc::Sender<Place>,
    /// The other end, until somebody notes them.
    waiting: Mutex<Option<mpsc::Receiver<Place>>>,
}

impl Shared {
    #[cfg_attr(
        not(any(feature = "object", test)),
        expect(dead_code, reason = "needs a bucket")
    )]
    pub(super) fn new(tier: Arc<dyn Tier>) -> Self {
        let (uses, waiting) = mpsc::channel(MAX_WAITING);
        Self {
            tier,
            rests_until: Mutex::default(),
            writes: Semaphore::new(WRITES),
            waiting_writes: Semaphore::new(WRITES + WAITING_WRITES),
            noted: Cache::builder()
                .max_capacity(MAX_NOTED)
                .time_to_live(STEP)
                .build(),
            uses,
            waiting: Mutex::new(Some(waiting)),
        }
    }

    pub(super) fn tier(&self) -> &dyn Tier {
        &*self.tier
    }

    pub(super) async fn document(&self, place: &Place) -> Option<CachedDocument> {
        let found = self.ask(LONGEST, self.tier.document(place)).await?;
        self.note_use(place.clone());
        Some(found)
    }

    pub(super) async fn freshness(&self, place: &Place) -> Option<(String, Freshness)> {
        self.ask(PATIENCE, self.tier.freshness(place)).await
    }

    pub(super) async fn tarball(&self, place: Place) -> Option<Blob> {
        let found = self.ask(PATIENCE, self.tier.tarball(&place)).await?;
        self.note_use(place);
        Some(found)
    }

    /// The answer to a question; a tier that fails is as good as an empty one.
    async fn ask<T>(
        &self,
        patience: Duration,
        question: impl Future<Output = Result<Option<T>, StorageError>>,
    ) -> Option<T> {
        if self.rests() {
            return None;
        }
        match timeout(patience, question).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.failed(&error);
                None
            }
            Err(late) => {
                self.failed(&late);
                None
            }
        }
    }

    /// Writes, unless it is left alone or too much waits to be written.
    pub(super) async fn write(
        &self,
        work: impl Future<Output = Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        let Ok(_waiting) = self.waiting_writes.try_acquire() else {
            return Ok(());
        };
        let _writing = self.writes.acquire().await;
        if self.rests() {
            return Ok(());
        }
        let written = timeout(LONGEST_WRITE, work).await.unwrap_or_else(|late| {
            let operation = "writing to the shared cache";
            Err(StorageError::backend(operation, late))
        });
        if written.is_err() {
            self.rest();
        }
        written
    }

    fn rests(&self) -> bool {
        let until = *self.rests_until.lock();
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        *self.rests_until.lock() = Some(Instant::now() + RESPITE);
    }

    fn failed(&self, error: &(dyn Error + 'static)) {
        tracing::warn!(error, "the shared cache failed; upstream is asked instead");
        self.rest();
    }

    /// Has it noted that somebody uses what is at `place`, at most once in a while. Nobody waits.
    pub(super) fn note_use(&self, place: Place) {
        if self.noted.contains_key(&place) {
            return;
        }
        if self.uses.try_send(place.clone()).is_ok() {
            self.noted.insert(place, ());
        }
    }

    /// Notes uses until `lifecycle` ends.
    pub(super) async fn note_uses(&self, lifecycle: &Lifecycle) {
        let Some(waiting) = self.waiting.lock().take() else {
            return;
        };
        let places = stream::unfold(waiting, |mut waiting| async move {
            let place = waiting.recv().await?;
            Some((place, waiting))
        });
        let noting = places.for_each_concurrent(AT_ONCE, |place| async move {
            if self.rests() {
                return;
            }
            if let Err(error) = self.tier.note_use(&place).await {
                // It is evicted early at worst.
                tracing::debug!(error = &error as &dyn Error, "cannot note a use");
                self.rest();
            }
        });
        tokio::select! {
            () = noting => {}
            () = lifecycle.shutdown_begun() => {}
        }
    }
}
