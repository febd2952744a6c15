//! [`Rest`]: a backend that has failed is left alone for a moment, so that requests need not wait
//! for it one after the other.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::GovernanceError;

/// How long one that has failed is left alone.
const REST: Duration = Duration::from_secs(1);

/// Whether a backend is asked at present.
#[derive(Debug)]
pub(super) struct Rest {
    begun: Instant,
    /// Milliseconds after `begun` until which nobody asks; 0 while all is well.
    until: AtomicU64,
    /// How long it lasts.
    lasts: Duration,
    /// How long the one takes at most who asks first afterwards.
    patience: Duration,
}

impl Rest {
    /// For a backend that answers, or has failed, within `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            begun: Instant::now(),
            until: AtomicU64::new(0),
            lasts: REST,
            patience,
        }
    }

    /// What `ask` comes to, in time; [`GovernanceError::Resting`] while it is left alone.
    pub(super) async fn ask<T>(
        &self,
        operation: &'static str,
        ask: impl Future<Output = Result<T, GovernanceError>>,
    ) -> Result<T, GovernanceError> {
        let until = self.until.load(Ordering::Relaxed);
        if until > 0 && !self.is_next(until) {
            return Err(GovernanceError::Resting);
        }
        let done = tokio::time::timeout(self.patience, ask).await;
        let done = done.unwrap_or_else(|elapsed| Err(GovernanceError::backend(operation, elapsed)));
        let until = match &done {
            Ok(_) => 0,
            Err(_) => self.millis_in(self.lasts),
        };
        if until > 0 || self.until.load(Ordering::Relaxed) > 0 {
            self.until.store(until, Ordering::Relaxed);
        }
        done
    }

    /// Whether the rest is over, and nobody else asks first.
    fn is_next(&self, until: u64) -> bool {
        let others_wait = self.millis_in(self.patience);
        self.millis_in(Duration::ZERO) >= until
            && self
                .until
                .compare_exchange(until, others_wait, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// What the time is after `span`; never 0.
    fn millis_in(&self, span: Duration) -> u64 {
        let millis = (self.begun.elapsed() + span).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn rest(lasts: Duration) -> Rest {
        Rest {
            lasts,
            ..Rest::new(SHORT)
        }
    }

    #[tokio::test]
    async fn one_that_failed_is_asked_again_by_one_first() {
        let rest = rest(SHORT * 50);
        let works = || ready(Ok(()));
        rest.ask("asking", works()).await.unwrap();
        let hangs = rest.ask("asking", pending::<Result<(), _>>()).await;
        assert!(matches!(hangs, Err(GovernanceError::Backend { .. })));
        let rested = rest.ask("asking", works()).await;
        assert!(matches!(rested, Err(GovernanceError::Resting)));
        tokio::time::sleep(SHORT * 51).await;
        let first = rest.ask("asking", async {
            tokio::task::yield_now().await;
            Ok(())
        });
        let (first, meanwhile) = futures_util::join!(first, rest.ask("asking", works()));
        assert!(first.is_ok());
        assert!(matches!(meanwhile, Err(GovernanceError::Resting)));
        rest.ask("asking", works()).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_asked_first_and_went_away_keeps_nobody_from_it() {
        let rest = rest(SHORT);
        let failed = async { Err::<(), _>(GovernanceError::Resting) };
        assert!(rest.ask("asking", failed).await.is_err());
        tokio::time::sleep(SHORT * 2).await;
        {
            let mut hung_up = Box::pin(rest.ask("asking", pending::<Result<(), _>>()));
            assert!(futures_util::poll!(&mut hung_up).is_pending());
        }
        tokio::time::sleep(SHORT * 2).await;
        rest.ask("asking", ready(Ok(()))).await.unwrap();
    }
}
