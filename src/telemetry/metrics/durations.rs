//! [`Durations`]: how long something took, counted without a lock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric},
};

/// The upper ends of the buckets in nanoseconds; above the last one is one without an end.
const ENDS: [u64; 14] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
];
const NANOS: f64 = 1e9;

/// A histogram of times. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    buckets: [AtomicU64; ENDS.len()],
    /// What took longer than all ends.
    longer: AtomicU64,
    nanos: AtomicU64,
}

impl Durations {
    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = ENDS.iter().position(|end| nanos <= *end);
        let bucket = bucket.and_then(|bucket| self.0.buckets.get(bucket));
        let bucket = bucket.unwrap_or(&self.0.longer);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    #[expect(
        clippy::cast_precision_loss,
        reason = "of years of nanoseconds, the last ones do not matter"
    )]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut buckets = [(f64::INFINITY, 0); ENDS.len() + 1];
        let counts = self.0.buckets.iter().chain([&self.0.longer]);
        for (bucket, counted) in buckets.iter_mut().zip(counts) {
            bucket.1 = counted.load(Ordering::Relaxed);
        }
        for (bucket, end) in buckets.iter_mut().zip(ENDS) {
            bucket.0 = end as f64 / NANOS;
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.nanos.load(Ordering::Relaxed) as f64 / NANOS;
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::prometheus_text::encode, registry::Registry};

    use super::*;

    #[test]
    fn each_time_is_in_the_buckets_that_end_after_it() {
        let durations = Durations::default();
        for micros in [1, 500, 501, 60_000_000] {
            durations.observe(Duration::from_micros(micros));
        }
        let mut registry = Registry::default();
        registry.register("took", "How long", durations);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "took_bucket{le=\"0.0005\"} 2",
            "took_bucket{le=\"0.001\"} 3",
            "took_bucket{le=\"30.0\"} 3",
            "took_bucket{le=\"+Inf\"} 4",
            "took_count 4",
        ] {
            let line = line.replace("30.0", "30");
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(text.contains("took_sum 60.001002"), "{text}");
    }
}
