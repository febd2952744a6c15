//! [`ObjectLeases`]: an object for each scope, changed by conditional writes and never deleted, so
//! that its fencing token only rises.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::LeaseProvider;
use crate::{
    lifecycle::SharedClock,
    storage::{
        StorageError,
        json::to_json,
        object::{Bucket, Precondition, Written},
    },
};

/// Leases in a bucket. The nodes' clocks should agree to within a lease.
#[derive(Debug)]
pub struct ObjectLeases {
    bucket: Bucket,
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

impl Held {
    /// By nobody, and never before.
    fn by_nobody() -> Self {
        Self {
            token: String::new(),
            lease_until_ms: 0,
            operation: String::new(),
            fence: 0,
        }
    }
}

impl ObjectLeases {
    /// Leases in `bucket`, which has nothing else below its prefix.
    pub fn new(bucket: Bucket, clock: SharedClock) -> Self {
        Self { bucket, clock }
    }

    fn until(&self, span: Duration) -> i64 {
        self.clock.now().plus(span).unix_millis()
    }

    async fn read(&self, scope: &str) -> Result<(Held, Precondition), StorageError> {
        let key = self.bucket.key(&format!("{scope}.lock"))?;
        Ok(match self.bucket.read(&key).await? {
            None => (Held::by_nobody(), Precondition::Absent),
            Some(read) => {
                // One that nobody can read is held by nobody.
                let held = serde_json::from_slice(&read.bytes);
                let held = held.unwrap_or_else(|_| Held::by_nobody());
                (held, Precondition::Matches(read.tag))
            }
        })
    }

    /// Whether nobody else wrote first. All that one holder writes differs from what others write.
    async fn write(
        &self,
        scope: &str,
        held: &Held,
        as_read: &Precondition,
    ) -> Result<bool, StorageError> {
        let key = self.bucket.key(&format!("{scope}.lock"))?;
        let json = to_json("writing a lease", held)?;
        let written = self.bucket.write_and_look(&key, json.into(), as_read);
        // Whoever cannot tell does not hold it; if he does, it runs out.
        Ok(matches!(written.await?, Written::Done(_)))
    }

    /// Changes the object of `scope` if `holder` still holds it. Whether he does.
    async fn change(
        &self,
        scope: &str,
        holder: &str,
        lease_until_ms: i64,
        operation: &str,
    ) -> Result<bool, StorageError> {
        let (held, as_read) = self.read(scope).await?;
        if held.token != holder {
            return Ok(false);
        }
        let held = Held {
            lease_until_ms,
            operation: operation.to_owned(),
            ..held
        };
        self.write(scope, &held, &as_read).await
    }
}

#[async_trait]
impl LeaseProvider for ObjectLeases {
    async fn try_acquire(
        &self,
        scope: &str,
        holder: &str,
        span: Duration,
    ) -> Result<Option<u64>, StorageError> {
        let (held, as_read) = self.read(scope).await?;
        let is_held = held.lease_until_ms > self.clock.now().unix_millis();
        let is_ours = held.token == holder;
        if is_held && !is_ours {
            return Ok(None);
        }
        let fence = if is_held { held.fence } else { held.fence + 1 };
        let held = Held {
            token: holder.to_owned(),
            lease_until_ms: self.until(span),
            operation: "held".to_owned(),
            fence,
        };
        let is_written = self.write(scope, &held, &as_read).await?;
        Ok(is_written.then_some(fence))
    }

    async fn renew(&self, scope: &str, holder: &str, span: Duration) -> Result<bool, StorageError> {
        self.change(scope, holder, self.until(span), "held").await
    }

    async fn release(&self, scope: &str, holder: &str) -> Result<(), StorageError> {
        self.change(scope, holder, 0, "released").await.map(drop)
    }
}
