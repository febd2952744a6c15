//! [`RateLimiter`]: so many requests in a window, for each key.
//!
//! The window is fixed: it begins with the first request of a key, and in it so many are let through
//! as the limit says, not one more, at whatever pace they come. What is refused is not counted.

#[cfg(test)]
mod conformance;
mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{fmt, time::Duration};

pub use memory::MemoryRateLimiter;
#[cfg(feature = "redis")]
pub use redis::RedisRateLimiter;

use super::Counted;

/// How many requests a key may make in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The number of requests; at least one.
    pub requests: u64,
    /// The length of a window.
    pub window: Duration,
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is let through.
    pub is_allowed: bool,
    /// How many more would be in this window.
    pub remaining: u64,
    /// When the window ends.
    pub resets_in: Duration,
}

/// Counts requests.
///
/// [`RateLimiter::count`] is one step, so that however many ask at once, on however many nodes that
/// share a backend, no more are let through than the limit says.
pub trait RateLimiter: fmt::Debug + Send + Sync + 'static {
    /// Counts a request of `key`, if the window still has room for it.
    fn count<'a>(&'a self, key: &'a str) -> Counted<'a, Verdict>;
}
