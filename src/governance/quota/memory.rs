//! [`MemoryQuotas`]: what this node has seen since it was started.

use std::future::ready;

use futures_util::future::Either;
use parking_lot::Mutex;

use super::{QuotaStore, Usage};
use crate::{
    governance::{Counted, counts::Counts},
    models::Day,
};

/// Quotas in memory. Where there are too many keys the oldest is forgotten.
#[derive(Debug)]
pub struct MemoryQuotas {
    kept: Mutex<Kept>,
    retention_days: u32,
}

#[derive(Debug)]
struct Kept {
    used: Counts<Day, u64>,
    /// The day of the last request, and as it stands in keys. What is older than needed was
    /// forgotten when it came.
    today: Option<(Day, Box<str>)>,
}

impl MemoryQuotas {
    /// Keeps at most `max_keys` counts at once, each for as many days as `retention_days` says.
    pub fn new(max_keys: usize, retention_days: u32) -> Self {
        Self {
            kept: Mutex::new(Kept {
                used: Counts::new(max_keys),
                today: None,
            }),
            retention_days: retention_days.max(1),
        }
    }
}

impl QuotaStore for MemoryQuotas {
    fn count<'a>(&'a self, usage: Usage<'a>, limit: u64) -> Counted<'a, Option<u64>> {
        let Usage {
            day,
            tenant,
            metric,
        } = usage;
        let mut kept = self.kept.lock();
        let Kept { used, today } = &mut *kept;
        let same_day = today.take_if(|(today, _)| *today == day);
        let (_, written) = today.insert(same_day.unwrap_or_else(|| {
            let first_kept = day.minus(self.retention_days - 1);
            used.forget_while(|day| *day < first_kept);
            (day, day.to_string().into())
        }));
        // Neither a day nor a metric has a blank.
        let key = [written, metric.as_str(), tenant].join(" ");
        let counted = used.with(
            &key,
            day,
            || 0,
            |count| {
                let has_room = *count < limit;
                *count += u64::from(has_room);
                has_room.then_some(*count)
            },
        );
        Either::Left(ready(Ok(counted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{governance::Metric, models::Timestamp};

    fn day(text: &str) -> Day {
        let midnight = Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z"));
        midnight.unwrap().day()
    }

    async fn use_once(quotas: &MemoryQuotas, on: &str) -> Option<u64> {
        let usage = Usage {
            day: day(on),
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
                day: day("2026-01-01"),
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
