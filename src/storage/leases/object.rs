//! [`ObjectLeases`]: an object for each scope, changed by conditional writes and never deleted, so
//! that its fencing token only rises.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion, path::Path,
};
use serde::{Deserialize, Serialize};

use super::LeaseProvider;
use crate::{lifecycle::SharedClock, storage::StorageError};

/// Leases in a bucket. The nodes' clocks should agree to within a lease.
#[derive(Debug)]
pub struct ObjectLeases {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    clock: SharedClock,
}

/// What the object says.
#[derive(Serialize, Deserialize)]
struct Held {
    token: String,
    lease_until_ms: i64,
    operation: String,
    /// Missing in what older versions wrote.
    #[serde(default)]
    fence: u64,
}

/// An object as it was read.
struct Read {
    held: Held,
    version: UpdateVersion,
}

impl ObjectLeases {
    /// Leases in `store`, in keys that begin with `prefix`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: String, clock: SharedClock) -> Self {
        Self {
            store,
            prefix,
            clock,
        }
    }

    fn path(&self, scope: &str) -> Path {
        Path::from(format!("{}{scope}.lock", self.prefix))
    }

    fn until(&self, span: Duration) -> i64 {
        self.clock.now().plus(span).unix_millis()
    }

    async fn read(&self, scope: &str) -> Result<Option<Read>, StorageError> {
        let got = match self.store.get(&self.path(scope)).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("reading", error)),
        };
        let version = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let json = got
            .bytes()
            .await
            .map_err(|error| failed("reading", error))?;
        // One that nobody can read is held by nobody.
        let held = serde_json::from_slice(&json).unwrap_or_else(|_| Held {
            token: String::new(),
            lease_until_ms: 0,
            operation: String::new(),
            fence: 0,
        });
        Ok(Some(Read { held, version }))
    }

    /// Whether nobody else wrote first.
    async fn write(&self, scope: &str, held: &Held, mode: PutMode) -> Result<bool, StorageError> {
        let json = serde_json::to_vec(held)
            .map_err(|error| StorageError::backend("writing a lease", error))?;
        let options = PutOptions::from(mode);
        let path = self.path(scope);
        match self.store.put_opts(&path, json.into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed("writing", error)),
        }
    }

    /// Changes the object of `scope` if `holder` still holds it. Whether he does.
    async fn change(
        &self,
        scope: &str,
        holder: &str,
        lease_until_ms: i64,
        operation: &str,
    ) -> Result<bool, StorageError> {
        let Some(Read { held, version }) = self.read(scope).await? else {
            return Ok(false);
        };
        if held.token != holder {
            return Ok(false);
        }
        let held = Held {
            lease_until_ms,
            operation: operation.to_owned(),
            ..held
        };
        self.write(scope, &held, PutMode::Update(version)).await
    }
}

fn failed(what: &str, error: Error) -> StorageError {
    StorageError::backend(format!("{what} a lease in the bucket"), error)
}

#[async_trait]
impl LeaseProvider for ObjectLeases {
    async fn try_acquire(
        &self,
        scope: &str,
        holder: &str,
        span: Duration,
    ) -> Result<Option<u64>, StorageError> {
        let (mode, fence) = match self.read(scope).await? {
            None => (PutMode::Create, 1),
            Some(Read { held, version }) => {
                if held.lease_until_ms > self.clock.now().unix_millis() {
                    return Ok(None);
                }
                (PutMode::Update(version), held.fence + 1)
            }
        };
        let held = Held {
            token: holder.to_owned(),
            lease_until_ms: self.until(span),
            operation: "held".to_owned(),
            fence,
        };
        let is_ours = self.write(scope, &held, mode).await?;
        Ok(is_ours.then_some(fence))
    }

    async fn renew(&self, scope: &str, holder: &str, span: Duration) -> Result<bool, StorageError> {
        self.change(scope, holder, self.until(span), "held").await
    }

    async fn release(&self, scope: &str, holder: &str) -> Result<(), StorageError> {
        self.change(scope, holder, 0, "released").await.map(drop)
    }
}
