//! [`SideDocuments`]: what uplinks say besides packuments: their signing keys, attestations.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use moka::sync::Cache;

use super::flight::Flights;
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock, elsewhere},
    models::{Timestamp, UplinkName},
    storage::{CachedDocument, Freshness, StorageError, Store},
    uplink::{Uplink, UplinkError},
};

const MAX_MEMORY: u64 = 16 * 1024 * 1024;

type Key = (UplinkName, String);

/// What an uplink answered, and when; `None`: it has no such thing.
#[derive(Clone, Debug)]
struct Known {
    body: Option<Bytes>,
    at: Timestamp,
}

#[derive(Clone, Debug)]
enum Lookup {
    Answered(Known),
    Failed(UplinkError),
    Damaged(Arc<StorageError>),
}

/// Answers of uplinks, kept in memory and on disk; an old one serves while the uplink fails.
#[derive(Debug)]
pub(super) struct SideDocuments {
    store: Store,
    clock: SharedClock,
    known: Cache<Key, Known>,
    flights: Flights<Key, Lookup>,
}

impl SideDocuments {
    pub(super) fn new(store: Store, clock: SharedClock, lifecycle: Lifecycle) -> Self {
        let weight = |key: &Key, known: &Known| {
            let length = key.1.len() + known.body.as_ref().map_or(0, Bytes::len);
            u32::try_from(length + 128).unwrap_or(u32::MAX)
        };
        Self {
            store,
            clock,
            known: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(weight)
                .build(),
            flights: Flights::new(lifecycle),
        }
    }

    /// The object at `path` of `uplink`, not older than `maxage` if the uplink can be asked;
    /// `None` where it has none.
    pub(super) async fn get(
        &self,
        uplink: &Arc<Uplink>,
        path: &str,
        maxage: Duration,
    ) -> Result<Option<Bytes>, RegistryError> {
        let key = (uplink.name().clone(), path.to_owned());
        let known = match self.known.get(&key) {
            Some(known) => Some(known),
            None => self.kept(&key).await?,
        };
        let now = self.clock.now();
        if let Some(known) = &known {
            let age = Duration::from_millis(now.millis_since(known.at));
            if age < maxage {
                return Ok(known.body.clone());
            }
        }
        let asking = elsewhere(self.flights.join(key.clone(), || {
            ask(
                Arc::clone(uplink),
                path.to_owned(),
                self.store.clone(),
                Arc::clone(&self.clock),
            )
        }));
        match asking.await.map_err(RegistryError::internal)? {
            Lookup::Answered(answer) => {
                self.known.insert(key, answer.clone());
                Ok(answer.body)
            }
            Lookup::Failed(error) => match known {
                Some(known) => {
                    tracing::warn!(uplink.name = %uplink.name(), path, error = &error as &dyn std::error::Error, "upstream failed, using an old answer");
                    Ok(known.body)
                }
                None => Err(error.into()),
            },
            Lookup::Damaged(error) => Err(RegistryError::StorageUnavailable(Box::new(error))),
        }
    }

    async fn kept(&self, key: &Key) -> Result<Option<Known>, RegistryError> {
        let document = self.store.cache().document(&key.0, &key.1).await?;
        let known = document.map(|document| Known {
            body: Some(document.body),
            at: document.freshness.fetched_at,
        });
        if let Some(known) = &known {
            self.known.insert(key.clone(), known.clone());
        }
        Ok(known)
    }
}

async fn ask(uplink: Arc<Uplink>, path: String, store: Store, clock: SharedClock) -> Lookup {
    let body = match uplink.document(&path).await {
        Ok(body) => body,
        Err(error) => return Lookup::Failed(error),
    };
    let at = clock.now();
    if let Some(body) = &body {
        if serde_json::from_slice::<&serde_json::value::RawValue>(body).is_err() {
            return Lookup::Failed(UplinkError::BadBody("it is not JSON"));
        }
        let freshness = Freshness {
            fetched_at: at,
            etag: None,
            last_modified: None,
        };
        let document = CachedDocument::new(body.clone(), freshness);
        let kept = store.cache().put_document(uplink.name(), &path, document);
        if let Err(error) = kept.await {
            return Lookup::Damaged(Arc::new(error));
        }
    }
    Lookup::Answered(Known { body, at })
}
