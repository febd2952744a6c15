//! [`QuotaStore`]: so much on a day, for each tenant.
//!
//! Days are those of UTC. What is refused is not counted.

#[cfg(test)]
mod conformance;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;

use std::fmt;

pub use memory::MemoryQuotas;
#[cfg(feature = "postgres")]
pub use postgres::PgQuotas;

use super::{Class, Counted};
use crate::models::Day;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Tarballs that are read.
    Downloads,
    /// Publishes and other changes of packages, unpublishing too.
    Publishes,
    /// All other requests.
    Requests,
}

impl Metric {
    /// What a request of this class counts as.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Download => Self::Downloads,
            Class::Publish | Class::Unpublish => Self::Publishes,
            Class::Access | Class::Search | Class::Admin | Class::Other => Self::Requests,
        }
    }

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Downloads => "downloads",
            Self::Publishes => "publishes",
            Self::Requests => "requests",
        }
    }
}

/// What is used by whom, and when.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// The day.
    pub day: Day,
    /// Whose quota it is.
    pub tenant: &'a str,
    /// What is used.
    pub metric: Metric,
}

/// Counts what is used.
///
/// [`QuotaStore::count`] is one step, so that however many ask at once, on however many nodes that
/// share a store, no more is used than the limit says.
pub trait QuotaStore: fmt::Debug + Send + Sync + 'static {
    /// Counts one more use if fewer than `limit` were counted: how many there are then; `None` if
    /// the quota is used up.
    fn count<'a>(&'a self, usage: Usage<'a>, limit: u64) -> Counted<'a, Option<u64>>;
}
