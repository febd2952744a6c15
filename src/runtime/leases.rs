//! Leases from settings.

use crate::{
    config::{Config, CoordinationBackend, Problem},
    error::RegistryError,
    lifecycle::Lifecycle,
    storage::Leases,
};

const BACKEND: &str = "RUSTACCIO_STATE_COORDINATION_BACKEND";

/// Whether nodes take turns.
pub(super) fn are_wanted(config: &Config) -> bool {
    config.coordination.backend != CoordinationBackend::None
}

/// What is wrong with the settings of leases.
pub(super) fn problem(config: &Config) -> Option<Problem> {
    let problem = |value, message| Some(config.problem(BACKEND, value, message));
    match config.coordination.backend {
        CoordinationBackend::Redis if !cfg!(feature = "redis") => problem(
            "redis",
            "was built without the feature `redis`; build with `--features redis`, or use `none`",
        ),
        CoordinationBackend::Redis if config.coordination.redis_url.is_none() => {
            problem("redis", "needs RUSTACCIO_STATE_COORDINATION_REDIS_URL")
        }
        CoordinationBackend::None | CoordinationBackend::Redis => None,
    }
}

/// The leases that the settings ask for.
#[cfg(feature = "redis")]
pub(super) fn open(config: &Config, lifecycle: &Lifecycle) -> Result<Leases, RegistryError> {
    use std::sync::Arc;

    use secrecy::ExposeSecret as _;

    use crate::storage::{LeaseOptions, RedisLeases};

    let settings = &config.coordination;
    let (CoordinationBackend::Redis, Some(url)) = (settings.backend, &settings.redis_url) else {
        return Ok(Leases::none());
    };
    let provider = RedisLeases::new(url.expose_secret(), settings.lock_key.clone());
    let provider = provider.map_err(|_| RegistryError::Settings {
        // The address may hold a password.
        message: "RUSTACCIO_STATE_COORDINATION_REDIS_URL: must be an address such as \
                  `redis://127.0.0.1:6379/`"
            .to_owned(),
    })?;
    let options = LeaseOptions {
        span: settings.lease,
        acquire_timeout: settings.acquire_timeout,
        poll_interval: settings.poll_interval,
        fail_open: settings.fail_open,
    };
    Ok(Leases::new(Arc::new(provider), options, lifecycle.clone()))
}

/// No leases, because no backend is compiled in.
#[cfg(not(feature = "redis"))]
#[expect(clippy::unnecessary_wraps, reason = "with a backend, it may fail")]
pub(super) fn open(_config: &Config, _lifecycle: &Lifecycle) -> Result<Leases, RegistryError> {
    Ok(Leases::none())
}
