//! Settings of rate limits and quotas.

use super::{
    Kind::{Choice, Number, Seconds, Switch, Text},
    Setting,
};
use crate::config::{QuotaBackend, RateLimitBackend};

/// The largest number that every backend can count to.
const MOST: u64 = i64::MAX.unsigned_abs();
/// The most counters in memory, and the longest window.
const MOST_KEYS: u64 = 100_000_000;
const YEAR: u64 = 366 * 86_400;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_RATE_LIMIT_BACKEND",
        "none",
        Choice(&["none", "memory", "redis"], |target, word| {
            target.config.rate_limit.backend = match word {
                "memory" => RateLimitBackend::Memory,
                "redis" => RateLimitBackend::Redis,
                _ => RateLimitBackend::None,
            };
        }),
        "Where requests are counted for the rate limit: `none`; `memory`, each node for itself; or \
         `redis`, all nodes together. See `docs/limits.md`.",
    ),
    Setting::new(
        "RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW",
        "0",
        Number(0..=MOST, |target, count| {
            target.config.rate_limit.requests = count;
        }),
        "How many requests of one kind a caller may make in a window; 0 for any number.",
    ),
    Setting::new(
        "RUSTACCIO_RATE_LIMIT_WINDOW_SECS",
        "60",
        Seconds(1..=YEAR, |target, span| {
            target.config.rate_limit.window = span;
        }),
        "How long a window is. It begins with a caller's first request.",
    ),
    Setting::new(
        "RUSTACCIO_RATE_LIMIT_REDIS_URL",
        "",
        Text(|target, text| {
            target.config.rate_limit.redis_url = Some(text.into());
            Ok(())
        }),
        "The address of Redis, such as `redis://127.0.0.1:6379/`; with TLS, `rediss://`. The system's \
         authorities are trusted.",
    )
    .secret(),
    Setting::new(
        "RUSTACCIO_RATE_LIMIT_FAIL_OPEN",
        "true",
        Switch(|target, on| target.config.rate_limit.fail_open = on),
        "Whether requests are let through where Redis fails; otherwise the answer is 502.",
    ),
    Setting::new(
        "RUSTACCIO_RATE_LIMIT_MEMORY_MAX_KEYS",
        "10000",
        Number(100..=MOST_KEYS, |target, count| {
            target.config.rate_limit.max_keys = usize::try_from(count).unwrap_or(usize::MAX);
        }),
        "How many windows are in memory at once; the oldest is forgotten first.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_BACKEND",
        "none",
        Choice(&["none", "memory", "postgres"], |target, word| {
            target.config.quota.backend = match word {
                "memory" => QuotaBackend::Memory,
                "postgres" => QuotaBackend::Postgres,
                _ => QuotaBackend::None,
            };
        }),
        "Where requests are counted for quotas: `none`; `memory`, each node for itself and until it \
         stops; or `postgres`, all nodes together. See `docs/limits.md`.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_REQUESTS_PER_DAY",
        "0",
        Number(0..=MOST, |target, count| {
            target.config.quota.requests = count;
        }),
        "How many requests that are neither downloads nor publishes a tenant may make on a day (UTC); \
         0 for any number.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_DOWNLOADS_PER_DAY",
        "0",
        Number(0..=MOST, |target, count| {
            target.config.quota.downloads = count;
        }),
        "How many tarballs a tenant may read on a day; 0 for any number.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_PUBLISHES_PER_DAY",
        "0",
        Number(0..=MOST, |target, count| {
            target.config.quota.publishes = count;
        }),
        "How often a tenant may publish, unpublish or change a package otherwise on a day; 0 for any \
         number.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_POSTGRES_URL",
        "",
        Text(|target, text| {
            target.config.quota.postgres_url = Some(text.into());
            Ok(())
        }),
        "The database: `postgres://user:password@host/database`, with `sslmode` and \
         `options[search_path]` as for `RUSTACCIO_METADATA_POSTGRES_URL`, which it may be.",
    )
    .secret(),
    Setting::new(
        "RUSTACCIO_QUOTA_FAIL_OPEN",
        "true",
        Switch(|target, on| target.config.quota.fail_open = on),
        "Whether requests are let through where the database fails; otherwise the answer is 502.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_MEMORY_MAX_KEYS",
        "50000",
        Number(100..=MOST_KEYS, |target, count| {
            target.config.quota.max_keys = usize::try_from(count).unwrap_or(usize::MAX);
        }),
        "How many counts are in memory at once; the oldest is forgotten first.",
    ),
    Setting::new(
        "RUSTACCIO_QUOTA_MEMORY_RETENTION_DAYS",
        "2",
        Number(1..=3650, |target, count| {
            target.config.quota.retention_days = u32::try_from(count).unwrap_or(2);
        }),
        "For how many days counts are in memory, the present one included.",
    ),
];
