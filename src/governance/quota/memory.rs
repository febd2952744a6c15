//! [`MemoryQuotas`]: what this node has seen since it was started.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{QuotaStore, Usage};
use crate::{
    governance::{GovernanceError, counts::Counts},
    models::Timestamp,
};

/// Quotas in memory. Where there are too many keys the oldest is forgotten.
#[derive(Debug)]
pub struct MemoryQuotas {
    kept: Mutex<Kept>,
    retention_days: u32,
}

#[derive(Debug)]
struct Kept {
    used: Counts<Used>,
    /// The day of the last request; what is older than needed was forgotten when it came.
    today: Box<str>,
}

#[derive(Debug)]
struct Used {
    day: Box<str>,
    count: u64,
}

impl MemoryQuotas {
    /// Keeps at most `max_keys` counts at once, each for as many days as `retention_days` says.
    pub fn new(max_keys: usize, retention_days: u32) -> Self {
        Self {
            kept: Mutex::new(Kept {
                used: Counts::new(max_keys),
                today: Box::default(),
            }),
            retention_days: retention_days.max(1),
        }
    }

    /// The first day that is kept on `today`.
    fn first_kept(&self, today: &str) -> String {
        let midnight = Timestamp::parse_rfc3339(&format!("{today}T00:00:00Z"));
        let before = i64::from(self.retention_days - 1).saturating_mul(86_400_000);
        midnight.map_or_else(String::new, |day| day.plus_millis(-before).day())
    }
}

#[async_trait]
impl QuotaStore for MemoryQuotas {
    async fn count(&self, usage: Usage<'_>, limit: u64) -> Result<Option<u64>, GovernanceError> {
        // Neither a day nor a metric has a blank.
        let key = [usage.day, usage.metric.as_str(), usage.tenant].join(" ");
        let mut kept = self.kept.lock();
        let Kept { used, today } = &mut *kept;
        if **today != *usage.day {
            let first_kept = self.first_kept(usage.day);
            // Days are written so that the earlier comes first.
            used.forget_while(|used| *used.day < *first_kept);
            *today = usage.day.into();
        }
        let new = || Used {
            day: usage.day.into(),
            count: 0,
        };
        Ok(used.with(&key, new, |used| {
            if used.count >= limit {
                return None;
            }
            used.count += 1;
            Some(used.count)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governance::Metric;

    async fn use_once(quotas: &MemoryQuotas, day: &str) -> Option<u64> {
        let usage = Usage {
            day,
            tenant: "u=a",
            metric: Metric::Requests,
        };
        quotas.count(usage, 10).await.unwrap()
    }

    #[tokio::test]
    async fn days_are_kept_as_long_as_they_shall() {
        for (retention, expected) in [(1, Some(1)), (2, Some(2)), (3, Some(2))] {
            let quotas = MemoryQuotas::new(100, retention);
            assert_eq!(use_once(&quotas, "2026-02-28").await, Some(1));
            assert_eq!(use_once(&quotas, "2026-03-01").await, Some(1));
            // A clock that was put back meets its day again.
            let again = use_once(&quotas, "2026-02-28").await;
            assert_eq!(again, expected, "{retention}");
        }
    }

    #[tokio::test]
    async fn there_are_no_more_keys_than_allowed() {
        let quotas = MemoryQuotas::new(2, 1);
        let count = async |tenant| {
            let usage = Usage {
                day: "2026-01-01",
                tenant,
                metric: Metric::Requests,
            };
            quotas.count(usage, 1).await.unwrap().is_some()
        };
        assert!(count("a").await && count("b").await && !count("a").await);
        assert!(count("c").await && !count("b").await);
        assert!(count("a").await, "the oldest was forgotten");
    }
}
