//! Leases from settings.

use crate::{
    config::{Config, CoordinationBackend, Problem},
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock},
    storage::Leases,
    telemetry::Metrics,
};

#[cfg(any(feature = "redis", feature = "s3"))]
use crate::storage::LeaseOptions;
#[cfg(any(feature = "redis", feature = "s3"))]
use std::sync::Arc;

const BACKEND: &str = "RUSTACCIO_STATE_COORDINATION_BACKEND";

/// Leases, and what they are good for.
pub(super) struct Opened {
    pub(super) leases: Leases,
    /// Whether nobody ever writes without one: the store of leases keeps its word, as far as is known,
    /// and where it fails nothing is written.
    pub(super) are_strict: bool,
}

/// What is wrong with the settings of leases.
pub(super) fn problem(config: &Config) -> Option<Problem> {
    let settings = &config.coordination;
    let backend = match settings.backend {
        CoordinationBackend::None => return None,
        CoordinationBackend::Redis => "redis",
        CoordinationBackend::S3 => "s3",
    };
    let problem = |message: &str| Some(config.problem(BACKEND, backend, message));
    let bucket = settings.bucket.with_packages(&config.storage.s3);
    match settings.backend {
        CoordinationBackend::Redis if settings.redis_url.is_none() => {
            problem("needs RUSTACCIO_STATE_COORDINATION_REDIS_URL")
        }
        CoordinationBackend::S3 if bucket.bucket.is_empty() => {
            problem("needs RUSTACCIO_STATE_COORDINATION_S3_BUCKET, or RUSTACCIO_S3_BUCKET")
        }
        CoordinationBackend::S3
            if bucket.access_key_id.is_some() != bucket.secret_access_key.is_some() =>
        {
            problem(
                "needs both RUSTACCIO_STATE_COORDINATION_S3_ACCESS_KEY_ID and \
                 RUSTACCIO_STATE_COORDINATION_S3_SECRET_ACCESS_KEY, or neither",
            )
        }
        _ => None,
    }
}

/// The leases that the settings ask for.
#[cfg_attr(
    not(feature = "s3"),
    expect(clippy::unused_async, reason = "the feature awaits")
)]
pub(super) async fn open(
    config: &Config,
    lifecycle: &Lifecycle,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<Opened, RegistryError> {
    match config.coordination.backend {
        #[cfg(feature = "redis")]
        CoordinationBackend::Redis => in_redis(config, lifecycle, metrics),
        #[cfg(feature = "s3")]
        CoordinationBackend::S3 => in_bucket(config, lifecycle, clock, metrics).await,
        // Of those that are not compiled in, `problem` has said so.
        _ => {
            let _ = (lifecycle, clock, metrics);
            Ok(Opened {
                leases: Leases::none(),
                are_strict: false,
            })
        }
    }
}

#[cfg(any(feature = "redis", feature = "s3"))]
fn options(config: &Config) -> LeaseOptions {
    let settings = &config.coordination;
    LeaseOptions {
        span: settings.lease,
        acquire_timeout: settings.acquire_timeout,
        poll_interval: settings.poll_interval,
        fail_open: settings.fail_open,
    }
}

#[cfg(feature = "redis")]
fn in_redis(
    config: &Config,
    lifecycle: &Lifecycle,
    metrics: &Metrics,
) -> Result<Opened, RegistryError> {
    use secrecy::ExposeSecret;

    use crate::storage::RedisLeases;

    let settings = &config.coordination;
    let url = settings.redis_url.as_ref();
    let url = url.map(ExposeSecret::expose_secret).unwrap_or_default();
    let provider = RedisLeases::new(url, settings.lock_key.clone());
    let provider = provider.map_err(|_| RegistryError::Settings {
        // The address may hold a password.
        message: "RUSTACCIO_STATE_COORDINATION_REDIS_URL: must be an address such as \
                  `redis://127.0.0.1:6379/`, or `rediss://` for TLS"
            .to_owned(),
    })?;
    Ok(Opened {
        leases: Leases::new(
            Arc::new(provider),
            options(config),
            lifecycle.clone(),
            metrics.clone(),
        ),
        are_strict: !settings.fail_open,
    })
}

/// A store that is down is put up with: what that means for writers is for the settings to say. One
/// that lets two hold a lease is not.
#[cfg(feature = "s3")]
async fn in_bucket(
    config: &Config,
    lifecycle: &Lifecycle,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<Opened, RegistryError> {
    use crate::storage::{ObjectLeases, object};

    /// How long a start waits for the store.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

    let settings = &config.coordination;
    let bucket = settings.bucket.with_packages(&config.storage.s3);
    let bucket = object::connect_s3(&bucket)?.within(PATIENCE);
    let probed = tokio::time::timeout(PATIENCE, object::honours_preconditions(&bucket)).await;
    let is_known = match probed {
        Ok(Ok(false)) => {
            return Err(RegistryError::Settings {
                message: format!(
                    "{BACKEND}: the store of `{bucket}` ignores If-None-Match or If-Match, so that \
                     two could hold the same lease; use a store with conditional writes, Redis, or \
                     `none`"
                ),
            });
        }
        Ok(Ok(true)) => true,
        Ok(Err(error)) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(bucket = %bucket, error, "the bucket of leases does not answer as it should");
            false
        }
        Err(_) => {
            tracing::warn!(bucket = %bucket, "the bucket of leases does not answer");
            false
        }
    };
    let provider = Arc::new(ObjectLeases::new(bucket, clock.clone()));
    Ok(Opened {
        leases: Leases::new(
            provider,
            options(config),
            lifecycle.clone(),
            metrics.clone(),
        ),
        are_strict: is_known && !settings.fail_open,
    })
}
