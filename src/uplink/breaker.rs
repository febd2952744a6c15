//! [`Breaker`]: an uplink that keeps failing is left alone for a while.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{UplinkError, standing::Record};
use crate::{lifecycle::SharedClock, models::Timestamp};

/// Opens after `max_fails` failures in a row, for `fail_timeout`; then one request tries.
#[derive(Debug)]
pub(super) struct Breaker {
    clock: SharedClock,
    max_fails: u32,
    fail_timeout: Duration,
    record: Record,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Timestamp>,
}

impl Breaker {
    /// `max_fails` 0 never opens.
    pub(super) fn new(
        clock: SharedClock,
        max_fails: u32,
        fail_timeout: Duration,
        record: Record,
    ) -> Self {
        Self {
            clock,
            max_fails,
            fail_timeout,
            record,
            state: Mutex::default(),
        }
    }

    /// The right to ask the uplink once; else for how much longer it may not be asked.
    pub(super) fn check(self: &Arc<Self>) -> Result<Trial, Duration> {
        let mut state = self.state.lock();
        let trial = |decides| Trial {
            breaker: Arc::clone(self),
            decides,
        };
        let Some(open_until) = state.open_until else {
            return Ok(trial(false));
        };
        let now = self.clock.now();
        let left = open_until.millis_since(now);
        if left > 0 {
            return Err(Duration::from_millis(left));
        }
        // This request tries; others wait for what it finds, at most as long as before.
        state.open_until = Some(self.reopened(now));
        Ok(trial(true))
    }

    fn succeeded(&self) {
        *self.state.lock() = State::default();
    }

    /// Whether the uplink may not be asked now.
    pub(super) fn is_open(&self) -> bool {
        let open_until = self.state.lock().open_until;
        open_until.is_some_and(|until| until.millis_since(self.clock.now()) > 0)
    }

    fn failed(&self) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        if self.max_fails > 0 && state.failures >= self.max_fails {
            state.open_until = Some(self.reopened(self.clock.now()));
        }
    }

    fn reopened(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(i64::try_from(self.fail_timeout.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A request that may be sent. It says how it ended, or that nobody waited for its end.
#[derive(Debug)]
pub(super) struct Trial {
    breaker: Arc<Breaker>,
    /// Whether others wait for what it finds.
    decides: bool,
}

impl Trial {
    /// The right to ask once more, unless others have found meanwhile that one should not.
    pub(super) fn again(self) -> Result<Self, Duration> {
        if self.decides {
            return Ok(self);
        }
        self.breaker.check()
    }

    pub(super) fn succeeded(mut self) {
        self.decides = false;
        self.breaker.succeeded();
    }

    pub(super) fn failed(mut self) {
        self.decides = false;
        self.breaker.failed();
    }

    /// Counts a failure that showed only after the answer had begun.
    pub(super) fn broke_off(&self, error: &UplinkError) {
        self.breaker.record.failed(error, None);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.decides {
            // It found nothing: the next one tries.
            let mut state = self.breaker.state.lock();
            state.open_until = state.open_until.map(|_| self.breaker.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lifecycle::ManualClock, telemetry::UplinkMetrics};

    #[test]
    fn opens_after_failures_and_lets_one_try() {
        let clock = ManualClock::at(Timestamp::from_unix_millis(0));
        let breaker = Breaker::new(
            clock.clone(),
            2,
            Duration::from_secs(10),
            Record::new(UplinkMetrics::default(), clock.clone()),
        );
        let breaker = Arc::new(breaker);
        breaker.failed();
        assert!(breaker.check().is_ok());
        breaker.failed();
        assert_eq!(breaker.check().unwrap_err(), Duration::from_secs(10));
        assert!(breaker.is_open());
        clock.advance(Duration::from_secs(10));
        assert!(!breaker.is_open(), "also when nobody asks");
        let trial = breaker.check().expect("one may try");
        assert!(breaker.check().is_err(), "and only one");
        drop(trial);
        let trial = breaker.check().expect("the first one found nothing");
        assert!(breaker.check().is_err());
        trial.failed();
        assert_eq!(breaker.check().unwrap_err(), Duration::from_secs(10));
        clock.advance(Duration::from_secs(10));
        breaker.check().unwrap().succeeded();
        assert!(breaker.check().is_ok());
        breaker.failed();
        assert!(breaker.check().is_ok(), "a success starts the count again");
    }
}
