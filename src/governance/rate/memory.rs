//! [`MemoryRateLimiter`]: windows of this node alone.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{RateLimit, RateLimiter, Verdict};
use crate::{
    governance::{GovernanceError, counts::Counts},
    lifecycle::SharedClock,
    models::Timestamp,
};

/// Windows in memory. Where there are too many keys the oldest window is forgotten.
#[derive(Debug)]
pub struct MemoryRateLimiter {
    limit: RateLimit,
    windows: Mutex<Counts<Window>>,
    clock: SharedClock,
}

#[derive(Debug)]
struct Window {
    begun: Timestamp,
    requests: u64,
}

impl MemoryRateLimiter {
    /// For at most `max_keys` keys at once.
    pub fn new(limit: RateLimit, max_keys: usize, clock: SharedClock) -> Self {
        Self {
            limit,
            windows: Mutex::new(Counts::new(max_keys)),
            clock,
        }
    }
}

#[async_trait]
impl RateLimiter for MemoryRateLimiter {
    async fn count(&self, key: &str) -> Result<Verdict, GovernanceError> {
        let now = self.clock.now();
        let length = u64::try_from(self.limit.window.as_millis()).unwrap_or(u64::MAX);
        // A clock that was set back begins anew, and locks nobody out.
        let is_over =
            |window: &Window| now < window.begun || now.millis_since(window.begun) >= length;
        let new = || Window {
            begun: now,
            requests: 0,
        };
        let mut windows = self.windows.lock();
        windows.forget_while(is_over);
        Ok(windows.with(key, new, |window| {
            if is_over(window) {
                *window = new();
            }
            let is_allowed = window.requests < self.limit.requests;
            window.requests += u64::from(is_allowed);
            let rest = length.saturating_sub(now.millis_since(window.begun));
            Verdict {
                is_allowed,
                remaining: self.limit.requests.saturating_sub(window.requests),
                resets_in: Duration::from_millis(rest),
            }
        }))
    }
}
