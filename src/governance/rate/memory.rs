//! [`MemoryRateLimiter`]: windows of this node alone.

use std::{future::ready, time::Duration};

use futures_util::future::Either;
use parking_lot::Mutex;

use super::{RateLimit, RateLimiter, Verdict};
use crate::{
    governance::{Counted, counts::Counts},
    lifecycle::SharedClock,
    models::Timestamp,
};

/// Windows in memory. Where there are too many keys the oldest window is forgotten.
#[derive(Debug)]
pub struct MemoryRateLimiter {
    limit: RateLimit,
    windows: Mutex<Counts<Timestamp, Window>>,
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

impl RateLimiter for MemoryRateLimiter {
    fn count<'a>(&'a self, key: &'a str) -> Counted<'a, Verdict> {
        let now = self.clock.now();
        let length = u64::try_from(self.limit.window.as_millis()).unwrap_or(u64::MAX);
        // A clock that was set back begins anew, and locks nobody out.
        let is_over = |begun: &Timestamp| now < *begun || now.millis_since(*begun) >= length;
        let new = || Window {
            begun: now,
            requests: 0,
        };
        let mut windows = self.windows.lock();
        windows.forget_while(is_over);
        let verdict = windows.with(key, now, new, |window| {
            if is_over(&window.begun) {
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
        });
        Either::Left(ready(Ok(verdict)))
    }
}
