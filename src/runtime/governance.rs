//! Rate limits and quotas from settings.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{Config, Problem, QuotaBackend, RateLimitBackend},
    error::RegistryError,
    governance::{
        Governance, GovernanceOptions, MemoryQuotas, MemoryRateLimiter, QuotaOptions, RateLimit,
        RateOptions,
    },
    lifecycle::SharedClock,
    telemetry::Metrics,
};

#[cfg(feature = "redis")]
use secrecy::ExposeSecret;

/// How long an answer of Redis or Postgres may take: every request waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

const RATE: &str = "RUSTACCIO_RATE_LIMIT_BACKEND";
const QUOTA: &str = "RUSTACCIO_QUOTA_BACKEND";

/// What is wrong with the settings of limits.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let (rate, quota) = (&config.rate_limit, &config.quota);
    let lacks_redis = rate.backend == RateLimitBackend::Redis && rate.redis_url.is_none();
    let lacks_postgres = quota.backend == QuotaBackend::Postgres && quota.postgres_url.is_none();
    let redis = "needs RUSTACCIO_RATE_LIMIT_REDIS_URL";
    let postgres = "needs RUSTACCIO_QUOTA_POSTGRES_URL";
    let problems = [
        lacks_redis.then(|| config.problem(RATE, "redis", redis)),
        lacks_postgres.then(|| config.problem(QUOTA, "postgres", postgres)),
    ];
    problems.into_iter().flatten().collect()
}

/// The limits that the settings ask for.
pub(super) async fn open(
    config: &Config,
    metrics: &Metrics,
    clock: &SharedClock,
) -> Result<Governance, RegistryError> {
    Ok(Governance::new(GovernanceOptions {
        rate: rate(config, clock)?,
        quotas: Box::pin(quotas(config)).await?,
        metrics: metrics.clone(),
        clock: Arc::clone(clock),
    }))
}

#[cfg_attr(
    not(feature = "redis"),
    expect(clippy::unnecessary_wraps, reason = "the feature fails")
)]
fn rate(config: &Config, clock: &SharedClock) -> Result<Option<RateOptions>, RegistryError> {
    let settings = &config.rate_limit;
    let limit = RateLimit {
        requests: settings.requests,
        window: settings.window,
    };
    if settings.backend == RateLimitBackend::None {
        return Ok(None);
    }
    if limit.requests == 0 {
        tracing::warn!("{RATE} limits nothing: RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW is 0");
        return Ok(None);
    }
    let limiter: Arc<dyn crate::governance::RateLimiter> = match settings.backend {
        #[cfg(feature = "redis")]
        RateLimitBackend::Redis => Arc::new(in_redis(config, limit)?),
        // Of one that is not compiled in, `missing_features` has said so.
        _ => Arc::new(MemoryRateLimiter::new(
            limit,
            settings.max_keys,
            Arc::clone(clock),
        )),
    };
    Ok(Some(RateOptions {
        limiter,
        limit,
        fail_open: settings.fail_open,
        patience: PATIENCE,
    }))
}

#[cfg(feature = "redis")]
fn in_redis(
    config: &Config,
    limit: RateLimit,
) -> Result<crate::governance::RedisRateLimiter, RegistryError> {
    let url = config.rate_limit.redis_url.as_ref();
    let url = url.map(ExposeSecret::expose_secret).unwrap_or_default();
    let limiter = crate::governance::RedisRateLimiter::new(url, limit, PATIENCE);
    limiter.map_err(|_| RegistryError::Settings {
        // The address may hold a password.
        message: "RUSTACCIO_RATE_LIMIT_REDIS_URL: must be an address such as \
                  `redis://127.0.0.1:6379/`, or `rediss://` for TLS"
            .to_owned(),
    })
}

#[cfg_attr(
    not(feature = "postgres"),
    expect(clippy::unused_async, reason = "the feature awaits")
)]
async fn quotas(config: &Config) -> Result<Option<QuotaOptions>, RegistryError> {
    let settings = &config.quota;
    if settings.backend == QuotaBackend::None {
        return Ok(None);
    }
    if settings.requests == 0 && settings.downloads == 0 && settings.publishes == 0 {
        tracing::warn!("{QUOTA} limits nothing: all quotas are 0");
        return Ok(None);
    }
    let store: Arc<dyn crate::governance::QuotaStore> = match settings.backend {
        #[cfg(feature = "postgres")]
        QuotaBackend::Postgres => Arc::new(in_postgres(config).await?),
        // Of one that is not compiled in, `missing_features` has said so.
        _ => Arc::new(MemoryQuotas::new(
            settings.max_keys,
            settings.retention_days,
        )),
    };
    Ok(Some(QuotaOptions {
        store,
        requests: settings.requests,
        downloads: settings.downloads,
        publishes: settings.publishes,
        fail_open: settings.fail_open,
        patience: PATIENCE,
    }))
}

/// A database that is down is put up with where requests are let through without it: its tables are
/// made when it is back.
#[cfg(feature = "postgres")]
async fn in_postgres(config: &Config) -> Result<crate::governance::PgQuotas, RegistryError> {
    use crate::{governance::PgQuotas, storage::postgres::PostgresOptions};

    const URL: &str = "RUSTACCIO_QUOTA_POSTGRES_URL";
    /// More do not count faster: most of the work is on the same rows.
    const CONNECTIONS: u32 = 8;

    let settings = &config.quota;
    let quotas = PgQuotas::new(&PostgresOptions {
        url: settings.postgres_url.clone().unwrap_or_default(),
        setting: URL,
        max_connections: CONNECTIONS,
        timeout: PATIENCE,
    });
    let quotas = quotas.map_err(|_| RegistryError::Settings {
        // The address may hold a password.
        message: format!(
            "{URL}: must be an address such as `postgres://user:password@host/database`"
        ),
    })?;
    match quotas.prepare().await {
        Ok(()) => {}
        Err(error) if settings.fail_open => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the database of quotas does not answer as it should");
        }
        Err(error) => return Err(RegistryError::QuotaUnavailable(error.into())),
    }
    Ok(quotas)
}
