//! [`Throttle`]: failed logins make the next try wait, per user and address together; those as nobody
//! who could have an account, per address.

use std::{net::IpAddr, time::Duration};

use moka::{Entry, ops::compute::Op, sync::Cache};

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

type Key = (Option<Username>, Option<IpAddr>);

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

    /// Begins a try, which counts as a failure until it [succeeded](Self::succeeded): those that
    /// come meanwhile must not all be free. How long this user has to wait, if she has to.
    pub(super) fn begin<'a>(
        &self,
        user: impl Into<Option<&'a Username>>,
        address: Option<IpAddr>,
    ) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut wait = 0;
        let key = (user.into().cloned(), address);
        self.failures.entry(key).and_compute_with(|before| {
            let before = before.map(Entry::into_value);
            wait = before.map_or(0, |before| before.blocked_until.millis_since(now));
            if wait > 0 {
                return Op::Nop;
            }
            let count = before.map_or(0, |before| before.count).saturating_add(1);
            Op::Put(Failures {
                count,
                blocked_until: now.plus(delay_after(count)),
            })
        });
        if wait > 0 {
            Err(Duration::from_millis(wait))
        } else {
            Ok(())
        }
    }

    /// Whether this user may try now, without counting it.
    pub(super) fn look(&self, user: &Username, address: Option<IpAddr>) -> Result<(), Duration> {
        let failures = self.failures.get(&(Some(user.clone()), address));
        let until = failures.map(|failures| failures.blocked_until);
        match until.map_or(0, |until| until.millis_since(self.clock.now())) {
            0 => Ok(()),
            wait => Err(Duration::from_millis(wait)),
        }
    }

    /// Notes that nobody could say whether a password was right: the try does not count.
    pub(super) fn take_back(&self, user: &Username, address: Option<IpAddr>) {
        let now = self.clock.now();
        let key = (Some(user.clone()), address);
        self.failures.entry(key).and_compute_with(|before| {
            let count = before.map_or(0, |before| before.into_value().count);
            match count.saturating_sub(1) {
                0 => Op::Remove,
                count => Op::Put(Failures {
                    count,
                    blocked_until: now,
                }),
            }
        });
    }

    /// Notes a right password: all is forgiven.
    pub(super) fn succeeded(&self, user: &Username, address: Option<IpAddr>) {
        self.failures.invalidate(&(Some(user.clone()), address));
    }
}

fn delay_after(failures: u32) -> Duration {
    match failures.saturating_sub(FREE_FAILURES) {
        0 => Duration::ZERO,
        doublings => (FIRST_DELAY * 2_u32.saturating_pow(doublings.min(16) - 1)).min(LONGEST_DELAY),
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
        for _ in 0..4 {
            assert_eq!(throttle.begin(&user, here), Ok(()));
        }
        assert_eq!(throttle.begin(&user, here), Err(Duration::from_secs(1)));
        assert_eq!(throttle.begin(&user, elsewhere), Ok(()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(throttle.begin(&user, here), Ok(()));
        assert_eq!(throttle.begin(&user, here), Err(Duration::from_secs(2)));
        for _ in 0..20 {
            clock.advance(LONGEST_DELAY);
            assert_eq!(throttle.begin(&user, here), Ok(()));
        }
        assert_eq!(throttle.begin(&user, here), Err(LONGEST_DELAY));
        throttle.succeeded(&user, here);
        assert_eq!(throttle.begin(&user, here), Ok(()));
    }

    #[test]
    fn what_nobody_could_say_does_not_count() {
        let clock = ManualClock::at(Timestamp::from_unix_millis(0));
        let throttle = Throttle::new(clock);
        let user: Username = "alice".parse().unwrap();
        for _ in 0..10 {
            assert_eq!(throttle.begin(&user, None), Ok(()));
            throttle.take_back(&user, None);
        }
        for _ in 0..4 {
            assert_eq!(throttle.begin(&user, None), Ok(()));
        }
        throttle.take_back(&user, None);
        assert_eq!(throttle.begin(&user, None), Ok(()));
        assert!(throttle.begin(&user, None).is_err());
    }

    #[test]
    fn tries_at_once_count_one_by_one() {
        let clock = ManualClock::at(Timestamp::from_unix_millis(0));
        let throttle = Throttle::new(clock);
        let user: Username = "alice".parse().unwrap();
        let begun: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let tries = (0..100).map(|_| throttle.begin(&user, None));
                        tries.flatten().count()
                    })
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(begun, 4);
    }
}
