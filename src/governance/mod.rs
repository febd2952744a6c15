//! Floor 5: how often callers may do what: rate limits over a short while, quotas over a day.

mod class;
mod counts;
mod error;
mod guard;
mod key;
mod quota;
mod rate;
mod rest;
mod standing;

use std::future::Ready;

use futures_util::future::{BoxFuture, Either};

pub use class::Class;
pub use error::GovernanceError;
pub use guard::{Admission, Governance, GovernanceOptions, QuotaOptions, RateOptions, Told};
#[cfg(feature = "postgres")]
pub use quota::PgQuotas;
pub use quota::{MemoryQuotas, Metric, QuotaStore, Usage};
#[cfg(feature = "redis")]
pub use rate::RedisRateLimiter;
pub use rate::{MemoryRateLimiter, RateLimit, RateLimiter, Verdict};

/// What was counted: there at once where it is counted in memory, and nothing need wait for it.
pub type Counted<'a, T> =
    Either<Ready<Result<T, GovernanceError>>, BoxFuture<'a, Result<T, GovernanceError>>>;
