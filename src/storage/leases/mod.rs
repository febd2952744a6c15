//! [`Leases`]: one node at a time writes a package, so that nodes need not try again so often.
//!
//! A lease only lowers contention. Manifests change by compare-and-swap whether somebody holds one
//! or not, so one that runs out too early, or is held twice, costs a retry and no write.

#[cfg(test)]
#[cfg(any(feature = "object", feature = "redis"))]
mod conformance;
#[cfg(feature = "object")]
mod object;
#[cfg(feature = "redis")]
mod redis;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "object")]
pub use object::ObjectLeases;
#[cfg(feature = "redis")]
pub use redis::RedisLeases;

use super::StorageError;
use crate::{
    error::{BoxError, RegistryError},
    lifecycle::{Lifecycle, jittered, random_hex},
    telemetry::{Metrics, Waited},
};

/// The least time between two renewals.
const MIN_RENEWAL: Duration = Duration::from_millis(250);

/// Where leases are kept that all nodes see.
///
/// Each call does one step and does not wait for others. `holder` is a text that nobody else has.
#[async_trait]
pub trait LeaseProvider: fmt::Debug + Send + Sync + 'static {
    /// Takes the lease of `scope` for `span` if nobody holds it: its fencing token, which is larger
    /// than that of every lease of this scope before. `None` if somebody else holds it; whoever asks
    /// again for what he holds still has it, so that one may ask again after a failure.
    async fn try_acquire(
        &self,
        scope: &str,
        holder: &str,
        span: Duration,
    ) -> Result<Option<u64>, StorageError>;

    /// Holds the lease for `span` from now on; `false` if `holder` does not hold it any more.
    async fn renew(&self, scope: &str, holder: &str, span: Duration) -> Result<bool, StorageError>;

    /// Gives the lease up if `holder` still holds it.
    async fn release(&self, scope: &str, holder: &str) -> Result<(), StorageError>;
}

/// How leases are taken.
#[derive(Clone, Copy, Debug)]
pub struct LeaseOptions {
    /// How long one lasts unless it is renewed.
    pub span: Duration,
    /// How long somebody waits for one.
    pub acquire_timeout: Duration,
    /// How often he looks meanwhile.
    pub poll_interval: Duration,
    /// Whether to go on without one where the backend fails.
    pub fail_open: bool,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Others held it all the time.
    #[error("state coordination lock timeout")]
    Timeout,
    /// The backend failed.
    #[error("state coordination backend unavailable")]
    Backend(#[source] BoxError),
}

impl From<LeaseError> for RegistryError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Timeout => Self::Unavailable {
                message: error.to_string(),
            },
            LeaseError::Backend(source) => Self::CoordinationUnavailable(source),
        }
    }
}

/// Leases on the names of packages, from a backend or from none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    provider: Arc<dyn LeaseProvider>,
    options: LeaseOptions,
    lifecycle: Lifecycle,
    metrics: Metrics,
}

/// A lease that is renewed until this is dropped, and given up then.
#[derive(Debug, Default)]
pub struct Lease {
    fencing: Option<u64>,
    // Ends the renewals.
    _ended: Option<tokio_util::sync::DropGuard>,
}

impl Lease {
    /// The number that is larger than that of every earlier holder; `None` without a backend, or
    /// where it failed and that was to be put up with.
    pub fn fencing(&self) -> Option<u64> {
        self.fencing
    }
}

impl Leases {
    /// No leases: whoever asks for one goes on at once.
    pub fn none() -> Self {
        Self::default()
    }

    /// Leases from `provider`; renewals belong to `lifecycle`, whose end waits until all are given
    /// up.
    pub fn new(
        provider: Arc<dyn LeaseProvider>,
        options: LeaseOptions,
        lifecycle: Lifecycle,
        metrics: Metrics,
    ) -> Self {
        Self {
            shared: Some(Arc::new(Shared {
                provider,
                options,
                lifecycle,
                metrics,
            })),
        }
    }

    /// Waits for the lease of `scope`.
    pub async fn hold(&self, scope: &str) -> Result<Lease, LeaseError> {
        let Some(shared) = &self.shared else {
            return Ok(Lease::default());
        };
        let (scope, holder) = (safe(scope), random_hex::<16>());
        let acquired = shared.acquire(&scope, &holder).await;
        shared.metrics.waited_for_lease(match &acquired {
            Ok(_) => Waited::Acquired,
            Err(LeaseError::Timeout) => Waited::Timeout,
            Err(LeaseError::Backend(_)) if shared.options.fail_open => Waited::FailedOpen,
            Err(LeaseError::Backend(_)) => Waited::Failed,
        });
        match acquired {
            Ok(fencing) => Ok(Shared::keep(shared, scope, holder, fencing)),
            Err(LeaseError::Backend(error)) if shared.options.fail_open => {
                tracing::warn!(
                    lease.scope = scope,
                    error = &*error as &dyn std::error::Error,
                    "the lease cannot be taken; going on without it"
                );
                Ok(Lease::default())
            }
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    async fn acquire(&self, scope: &str, holder: &str) -> Result<u64, LeaseError> {
        let deadline = Instant::now() + self.options.acquire_timeout;
        loop {
            let tried = self.provider.try_acquire(scope, holder, self.options.span);
            // A backend that does not answer while a lease lasts has failed.
            let patience = self
                .options
                .span
                .min(deadline.duration_since(Instant::now()));
            match tokio::time::timeout(patience.max(MIN_RENEWAL), tried).await {
                Ok(Ok(Some(fencing))) => return Ok(fencing),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(LeaseError::Backend(error.into())),
                Err(elapsed) => return Err(LeaseError::Backend(elapsed.into())),
            }
            let next = Instant::now() + jittered(self.options.poll_interval);
            if next >= deadline {
                return Err(LeaseError::Timeout);
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// Renews the lease in the background until what this returns is dropped.
    fn keep(this: &Arc<Self>, scope: String, holder: String, fencing: u64) -> Lease {
        let ended = CancellationToken::new();
        let (shared, until) = (Arc::clone(this), ended.clone());
        this.lifecycle.spawn(async move {
            shared.renew_until(&until, &scope, &holder).await;
            let released = shared.provider.release(&scope, &holder);
            // Where there is no answer, it has run out by then.
            let released = tokio::time::timeout(shared.options.span, released).await;
            if let Ok(Err(error)) = released {
                tracing::warn!(
                    lease.scope = scope,
                    error = &error as &dyn std::error::Error,
                    "the lease cannot be given up; it runs out"
                );
            }
        });
        Lease {
            fencing: Some(fencing),
            _ended: Some(ended.drop_guard()),
        }
    }

    async fn renew_until(&self, ended: &CancellationToken, scope: &str, holder: &str) {
        let span = self.options.span;
        let interval = (span / 3).max(MIN_RENEWAL);
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            let renewed = tokio::time::timeout(span, self.provider.renew(scope, holder, span));
            let renewed = tokio::select! {
                () = ended.cancelled() => return,
                renewed = renewed => renewed,
            };
            match renewed {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => {
                    tracing::warn!(
                        lease.scope = scope,
                        "the lease ran out; going on without it"
                    );
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        lease.scope = scope,
                        error = &error as &dyn std::error::Error,
                        "the lease cannot be renewed"
                    );
                }
                Err(_) => {
                    tracing::warn!(lease.scope = scope, "the lease is not renewed in time");
                }
            }
        }
    }
}

/// `scope` with only the characters that every backend takes.
fn safe(scope: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || ":_.-".contains(c);
    scope
        .chars()
        .map(|c| if is_safe(c) { c } else { '_' })
        .collect()
}
