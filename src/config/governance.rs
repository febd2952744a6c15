//! Rate limits and quotas.

use std::time::Duration;

use secrecy::SecretString;

/// Where requests are counted for the rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimitBackend {
    /// Nowhere: there is no limit.
    #[default]
    None,
    /// In memory, on each node for itself.
    Memory,
    /// In Redis, for all nodes together.
    Redis,
}

/// Settings of the rate limit.
#[derive(Clone, Debug)]
pub struct RateLimitConfig {
    /// Where it is counted.
    pub backend: RateLimitBackend,
    /// How many requests there may be in a window; 0 for any number.
    pub requests: u64,
    /// How long a window is.
    pub window: Duration,
    /// The address of Redis.
    pub redis_url: Option<SecretString>,
    /// Whether requests are let through where Redis fails.
    pub fail_open: bool,
    /// How many callers are counted at once in memory.
    pub max_keys: usize,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            backend: RateLimitBackend::None,
            requests: 0,
            window: Duration::from_secs(60),
            redis_url: None,
            fail_open: true,
            max_keys: 10_000,
        }
    }
}

/// Where requests are counted for quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaBackend {
    /// Nowhere: there are none.
    #[default]
    None,
    /// In memory, on each node for itself and until it stops.
    Memory,
    /// In Postgres, for all nodes together.
    Postgres,
}

/// Settings of quotas. One of 0 is none.
#[derive(Clone, Debug)]
pub struct QuotaConfig {
    /// Where they are counted.
    pub backend: QuotaBackend,
    /// How many requests there may be on a day that are neither downloads nor publishes.
    pub requests: u64,
    /// How many tarballs may be read on a day.
    pub downloads: u64,
    /// How many publishes, and other changes of packages, there may be on a day.
    pub publishes: u64,
    /// The database.
    pub postgres_url: Option<SecretString>,
    /// Whether requests are let through where the database fails.
    pub fail_open: bool,
    /// How many counts are in memory at once.
    pub max_keys: usize,
    /// For how many days they are in memory.
    pub retention_days: u32,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            backend: QuotaBackend::None,
            requests: 0,
            downloads: 0,
            publishes: 0,
            postgres_url: None,
            fail_open: true,
            max_keys: 50_000,
            retention_days: 2,
        }
    }
}
