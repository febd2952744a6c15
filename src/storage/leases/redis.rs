//! [`RedisLeases`]: a key that runs out, and a counter beside it that does not.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::LeaseProvider;
use crate::storage::StorageError;

/// How long a connection, and an answer, may take.
const PATIENCE: Duration = Duration::from_secs(2);

const ACQUIRE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
                       return redis.call('INCR', KEYS[2]) end \
                       if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
                       redis.call('PEXPIRE', KEYS[1], ARGV[2]) return redis.call('GET', KEYS[2])";
const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                     return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end";
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                       return redis.call('DEL', KEYS[1]) else return 0 end";

/// Leases in Redis, or what speaks like it.
pub struct RedisLeases {
    connection: ConnectionManager,
    /// What all keys begin with.
    prefix: String,
    acquire: Script,
    renew: Script,
    release: Script,
}

impl fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLeases")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl RedisLeases {
    /// Leases at `url`, in keys that begin with `prefix`. It connects when it is first asked, and
    /// again when the connection was lost.
    pub fn new(url: &str, prefix: String) -> Result<Self, StorageError> {
        let failed = |error| StorageError::backend("reading the address of Redis", error);
        let client = Client::open(url).map_err(failed)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(1);
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?,
            prefix,
            acquire: Script::new(ACQUIRE),
            renew: Script::new(RENEW),
            release: Script::new(RELEASE),
        })
    }

    fn key(&self, scope: &str) -> String {
        format!("{}:{scope}", self.prefix)
    }
}

fn failed(error: RedisError) -> StorageError {
    StorageError::backend("asking Redis for a lease", error)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl LeaseProvider for RedisLeases {
    async fn try_acquire(
        &self,
        scope: &str,
        holder: &str,
        span: Duration,
    ) -> Result<Option<u64>, StorageError> {
        let mut connection = self.connection.clone();
        let key = self.key(scope);
        let mut call = self.acquire.key(&key);
        call.key(format!("{key}:fence"));
        call.arg(holder).arg(millis(span));
        let mut asked = call.invoke_async(&mut connection).await;
        if let Err(error) = &asked
            && error.is_connection_dropped()
        {
            // Redis was started again, or the connection had idled too long; to ask twice does no harm.
            asked = call.invoke_async(&mut connection).await;
        }
        let fencing: u64 = asked.map_err(failed)?;
        Ok((fencing > 0).then_some(fencing))
    }

    async fn renew(&self, scope: &str, holder: &str, span: Duration) -> Result<bool, StorageError> {
        let mut connection = self.connection.clone();
        let mut call = self.renew.key(self.key(scope));
        call.arg(holder).arg(millis(span));
        let renewed: u64 = call.invoke_async(&mut connection).await.map_err(failed)?;
        Ok(renewed == 1)
    }

    async fn release(&self, scope: &str, holder: &str) -> Result<(), StorageError> {
        let mut connection = self.connection.clone();
        let mut call = self.release.key(self.key(scope));
        call.arg(holder);
        let _: u64 = call.invoke_async(&mut connection).await.map_err(failed)?;
        Ok(())
    }
}
