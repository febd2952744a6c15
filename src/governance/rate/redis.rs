//! [`RedisRateLimiter`]: windows that all nodes share.

use std::{fmt, time::Duration};

use futures_util::{FutureExt as _, future::Either};
use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{RateLimit, RateLimiter, Verdict};
use crate::governance::{Counted, GovernanceError};

/// What all keys begin with.
pub(crate) const PREFIX: &str = "rustaccio:ratelimit:";

/// Whether it is let through, how many were, and in how many milliseconds the window has ended. A key
/// without an end, or with one that an earlier setting made later, gets ours. Redis keeps a key
/// through the millisecond of its end (`now > when` in `db.c`), so that one is to be added to what
/// it says, and taken from what it is told.
const COUNT: &str = "local count = tonumber(redis.call('GET', KEYS[1]) or '0') \
                     local allowed = 0 \
                     if count < tonumber(ARGV[1]) then \
                     count = redis.call('INCR', KEYS[1]) allowed = 1 end \
                     local window = tonumber(ARGV[2]) \
                     local ends = redis.call('PTTL', KEYS[1]) + 1 \
                     if ends < 1 or ends > window then \
                     redis.call('PEXPIRE', KEYS[1], window - 1) ends = window end \
                     return {allowed, count, ends}";

/// Windows in Redis, or what speaks like it.
pub struct RedisRateLimiter {
    connection: ConnectionManager,
    limit: RateLimit,
    prefix: String,
    count: Script,
}

impl fmt::Debug for RedisRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRateLimiter")
            .field("limit", &self.limit)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl RedisRateLimiter {
    /// Windows at `url`. It connects when it is first asked, and again when the connection was lost;
    /// an answer may take as long as `patience` says.
    pub fn new(url: &str, limit: RateLimit, patience: Duration) -> Result<Self, GovernanceError> {
        Self::with_prefix(url, limit, patience, PREFIX.to_owned())
    }

    fn with_prefix(
        url: &str,
        limit: RateLimit,
        patience: Duration,
        prefix: String,
    ) -> Result<Self, GovernanceError> {
        let failed =
            |error: RedisError| GovernanceError::backend("reading the address of Redis", error);
        let client = Client::open(url).map_err(failed)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(Some(patience))
            .set_number_of_retries(1);
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?,
            limit,
            prefix,
            count: Script::new(COUNT),
        })
    }
}

impl RateLimiter for RedisRateLimiter {
    fn count<'a>(&'a self, key: &'a str) -> Counted<'a, Verdict> {
        Either::Right(self.ask(key).boxed())
    }
}

impl RedisRateLimiter {
    async fn ask(&self, key: &str) -> Result<Verdict, GovernanceError> {
        let mut connection = self.connection.clone();
        let window = u64::try_from(self.limit.window.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.count.key(format!("{}{key}", self.prefix));
        call.arg(self.limit.requests).arg(window);
        let mut asked = call.invoke_async(&mut connection).await;
        if let Err(error) = &asked
            && error.is_connection_dropped()
        {
            // Redis was started again. At worst one request counts twice.
            asked = call.invoke_async(&mut connection).await;
        }
        let (allowed, count, ends): (u64, u64, u64) = asked
            .map_err(|error| GovernanceError::backend("asking Redis for the rate limit", error))?;
        Ok(Verdict {
            is_allowed: allowed == 1,
            remaining: self.limit.requests.saturating_sub(count),
            resets_in: Duration::from_millis(ends),
        })
    }
}

#[cfg(feature = "test-services")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{config::Env, governance::rate::conformance::conforms, lifecycle::random_hex};

    fn url() -> String {
        let env = Env::of_process();
        let url = env.get("RUSTACCIO_REDIS_IT_URL");
        url.expect("RUSTACCIO_REDIS_IT_URL is not set: run this through ./scripts/test")
            .to_owned()
    }

    fn limiter(requests: u64, window: Duration, prefix: &str) -> RedisRateLimiter {
        let limit = RateLimit { requests, window };
        let patience = Duration::from_secs(20);
        RedisRateLimiter::with_prefix(&url(), limit, patience, prefix.to_owned()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_conforms() {
        // Its clock is its own, and short windows would end between two requests of a busy machine.
        let make = |limit: RateLimit| -> Arc<dyn RateLimiter> {
            let prefix = format!("rustaccio-it:{}:", random_hex::<8>());
            Arc::new(limiter(limit.requests, limit.window, &prefix))
        };
        conforms(make, |span| Box::pin(tokio::time::sleep(span))).await;
    }

    /// Also in the last millisecond of a window, in which many requests find room here.
    #[tokio::test]
    async fn who_is_refused_has_to_wait() {
        let prefix = format!("rustaccio-it:{}:", random_hex::<8>());
        let limiter = limiter(1, Duration::from_millis(20), &prefix);
        let mut windows = 0;
        while windows < 10 {
            let verdict = limiter.count("key").await.unwrap();
            windows += u32::from(verdict.is_allowed);
            assert!(!verdict.resets_in.is_zero(), "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn a_window_without_an_end_gets_one() {
        let prefix = format!("rustaccio-it:{}:", random_hex::<8>());
        let client = Client::open(url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = redis::cmd("SET")
            .arg(format!("{prefix}key"))
            .arg(7)
            .query_async(&mut connection)
            .await
            .unwrap();
        let minute = Duration::from_secs(60);
        let used_up = limiter(5, minute, &prefix).count("key").await.unwrap();
        assert!(!used_up.is_allowed);
        assert_eq!(used_up.resets_in, minute);
        // A window that is to be shorter from now on is.
        let shorter = limiter(9, minute / 2, &prefix).count("key").await.unwrap();
        assert!(shorter.is_allowed);
        assert_eq!(shorter.remaining, 1);
        assert_eq!(shorter.resets_in, minute / 2);
    }
}
