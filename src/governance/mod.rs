//! Floor 5: how often callers may do what: rate limits over a short while, quotas over a day.

mod class;
mod counts;
mod error;
mod guard;
mod key;
mod quota;
mod rate;
mod rest;

pub use class::Class;
pub use error::GovernanceError;
pub use guard::{Admission, Governance, GovernanceOptions, QuotaOptions, RateOptions, Standing};
#[cfg(feature = "postgres")]
pub use quota::PgQuotas;
pub use quota::{MemoryQuotas, Metric, QuotaStore, Usage};
#[cfg(feature = "redis")]
pub use rate::RedisRateLimiter;
pub use rate::{MemoryRateLimiter, RateLimit, RateLimiter, Verdict};
