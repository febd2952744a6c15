//! What was compiled in beyond the essentials.

use super::{
    Config, CoordinationBackend, MetadataBackend, Problem, QuotaBackend, RateLimitBackend,
    TarballBackend,
};

/// The features of the package that add a backend, and whether this build has them.
pub const FEATURES: [(&str, bool); 6] = [
    ("s3", cfg!(feature = "s3")),
    ("gcs", cfg!(feature = "gcs")),
    ("azure", cfg!(feature = "azure")),
    ("postgres", cfg!(feature = "postgres")),
    ("redis", cfg!(feature = "redis")),
    ("otel", cfg!(feature = "otel")),
];

impl Config {
    /// The settings that ask for what a build with these `features` does not have.
    pub fn missing_features(&self, features: &[(&'static str, bool)]) -> Vec<Problem> {
        let has = |wanted: &'static str| features.contains(&(wanted, true));
        let storage = &self.storage;
        let bucket = match storage.tarballs {
            TarballBackend::Local => None,
            TarballBackend::S3 => Some("s3"),
            TarballBackend::Gcs => Some("gcs"),
            TarballBackend::Azure => Some("azure"),
        };
        let leases = match self.coordination.backend {
            CoordinationBackend::None => None,
            CoordinationBackend::Redis => Some("redis"),
            CoordinationBackend::S3 => Some("s3"),
        };
        let is_transactional = storage.metadata == MetadataBackend::Transactional;
        let is_in_redis = self.rate_limit.backend == RateLimitBackend::Redis;
        let is_in_postgres = self.quota.backend == QuotaBackend::Postgres;
        let asked = [
            ("RUSTACCIO_TARBALL_BACKEND", bucket, bucket),
            ("RUSTACCIO_STATE_COORDINATION_BACKEND", leases, leases),
            (
                "RUSTACCIO_METADATA_BACKEND",
                is_transactional.then_some("transactional"),
                Some("postgres"),
            ),
            (
                "RUSTACCIO_RATE_LIMIT_BACKEND",
                is_in_redis.then_some("redis"),
                Some("redis"),
            ),
            (
                "RUSTACCIO_QUOTA_BACKEND",
                is_in_postgres.then_some("postgres"),
                Some("postgres"),
            ),
            (
                "RUSTACCIO_OTEL_ENABLED",
                self.traces.are_on.then_some("true"),
                Some("otel"),
            ),
        ];
        let missing = asked.into_iter().filter_map(|(setting, value, feature)| {
            let (value, feature) = (value?, feature?);
            (!has(feature)).then(|| {
                let message = format!(
                    "is not in this build of rustaccio; build it with `--features {feature}`, or leave \
                     the setting out"
                );
                self.problem(setting, value, &message)
            })
        });
        missing.collect()
    }
}
