//! [`Throttle`]: failed logins make the next try wait, per user and address together.

use std::{net::IpAddr, time::Duration};

use moka::sync::Cache;

use crate::{
    lifecycle::SharedClock,
    models::{Timestamp, Username},
};

/// Failures that cost nothing: people mistype.
const FREE_FAILURES: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How many pairs of user and address are remembered, and for how long.
const MAX_ENTRIES: u64 = 100_000;
const MEMORY: Duration = Duration::from_secs(15 * 60);

type Key = (Username, Option<IpAddr>);

/// Remembers failures. A user cannot be locked out from elsewhere, because the address counts too.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    clock: SharedClock,
    failures: Cache<Key, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    blocked_until: Timestamp,
}

impl Throttle {
    pub(super) fn new(clock: SharedClock) -> Self {
        let failures = Cache::builder()
            .max_capacity(MAX_ENTRIES)
            .time_to_idle(MEMORY)
            .build();
        Self { clock, failures }
    }

    /// How long this user has to wait before a password is looked at again; `None` for not at all.
    pub(super) fn delay(&self, user: &Username, address: Option<IpAddr>) -> Option<Duration> {
        let failures = self.failures.get(&(user.clone(), address))?;
        let left = failures.blocked_until.millis_since(self.clock.now());
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Notes a wrong password.
    pub(super) fn failed(&self, user: &Username, address: Option<IpAddr>) {
        let now = self.clock.now();
        let key = (user.clone(), address);
        self.failures.entry(key).and_upsert_with(|before| {
            let count = before
                .map_or(0, |entry| entry.into_value().count)
                .saturating_add(1);
            let doublings = count.saturating_sub(FREE_FAILURES);
            let delay = if doublings == 0 {
                Duration::ZERO
            } else {
                (FIRST_DELAY * 2_u32.saturating_pow(doublings.min(16) - 1)).min(LONGEST_DELAY)
            };
            let milliseconds = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            Failures {
                count,
                blocked_until: now.plus_millis(milliseconds),
            }
        });
    }

    /// Notes a right password: all is forgiven.
    pub(super) fn succeeded(&self, user: &Username, address: Option<IpAddr>) {
        self.failures.invalidate(&(user.clone(), address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::ManualClock;

    #[test]
    fn waits_grow_and_a_right_password_ends_them() {
        let clock = ManualClock::at(Timestamp::from_unix_millis(0));
        let throttle = Throttle::new(clock.clone());
        let user: Username = "alice".parse().unwrap();
        let here = Some("192.0.2.1".parse().unwrap());
        let elsewhere = Some("192.0.2.2".parse().unwrap());
        for _ in 0..3 {
            throttle.failed(&user, here);
            assert_eq!(throttle.delay(&user, here), None);
        }
        throttle.failed(&user, here);
        assert_eq!(throttle.delay(&user, here), Some(Duration::from_secs(1)));
        assert_eq!(throttle.delay(&user, elsewhere), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(throttle.delay(&user, here), None);
        throttle.failed(&user, here);
        assert_eq!(throttle.delay(&user, here), Some(Duration::from_secs(2)));
        for _ in 0..20 {
            throttle.failed(&user, here);
        }
        assert_eq!(throttle.delay(&user, here), Some(LONGEST_DELAY));
        throttle.succeeded(&user, here);
        assert_eq!(throttle.delay(&user, here), None);
    }
}
