//! What every rate limiter must do.

use std::{collections::BTreeSet, sync::Arc};

use super::*;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(2);

/// `make` makes one that nobody has used, and `wait` lets time pass for it.
pub(super) async fn conforms<W>(
    make: impl Fn(RateLimit) -> Arc<dyn RateLimiter>,
    wait: impl Fn(Duration) -> W,
) where
    W: Future<Output = ()>,
{
    let limit = |requests, window| RateLimit { requests, window };
    so_many_and_no_more(&*make(limit(3, LONG))).await;
    keys_are_apart(&*make(limit(1, LONG))).await;
    many_at_once_get_no_more(&make(limit(20, LONG))).await;
    a_window_ends(&*make(limit(2, SHORT)), wait).await;
}

async fn so_many_and_no_more(limiter: &dyn RateLimiter) {
    for remaining in [2, 1, 0] {
        let verdict = limiter.count("key").await.unwrap();
        assert!(verdict.is_allowed);
        assert_eq!(verdict.remaining, remaining);
        assert!(verdict.resets_in > LONG / 2 && verdict.resets_in <= LONG);
    }
    for _ in 0..3 {
        let verdict = limiter.count("key").await.unwrap();
        assert!(!verdict.is_allowed);
        assert_eq!(verdict.remaining, 0);
        assert!(verdict.resets_in > LONG / 2 && verdict.resets_in <= LONG);
    }
}

async fn keys_are_apart(limiter: &dyn RateLimiter) {
    for key in ["a", "b", "a:b", "A", ""] {
        assert!(limiter.count(key).await.unwrap().is_allowed, "{key}");
        assert!(!limiter.count(key).await.unwrap().is_allowed, "{key}");
    }
}

async fn many_at_once_get_no_more(limiter: &Arc<dyn RateLimiter>) {
    let counts = (0..100).map(|_| limiter.count("shared"));
    let verdicts = futures_util::future::join_all(counts).await;
    let verdicts = verdicts.into_iter().map(Result::unwrap);
    let allowed: Vec<u64> = verdicts
        .filter(|verdict| verdict.is_allowed)
        .map(|verdict| verdict.remaining)
        .collect();
    assert_eq!(allowed.len(), 20);
    // Each got a place of its own.
    let places: BTreeSet<u64> = allowed.into_iter().collect();
    assert_eq!(places, (0..20).collect());
}

/// Neither refused requests nor those that were let through make a window longer.
async fn a_window_ends<W>(limiter: &dyn RateLimiter, wait: impl Fn(Duration) -> W)
where
    W: Future<Output = ()>,
{
    let first = limiter.count("key").await.unwrap();
    assert!(first.is_allowed);
    assert!(limiter.count("key").await.unwrap().is_allowed);
    let refused = limiter.count("key").await.unwrap();
    assert!(!refused.is_allowed, "{refused:?}");
    assert!(refused.resets_in <= first.resets_in);
    wait(refused.resets_in).await;
    let next = limiter.count("key").await.unwrap();
    assert!(next.is_allowed, "{next:?}");
    assert_eq!(next.remaining, 1);
}

#[tokio::test]
async fn memory_conforms() {
    use crate::{
        lifecycle::{ManualClock, SharedClock},
        models::Timestamp,
    };

    let clock = ManualClock::at(Timestamp::from_unix_millis(1_000_000));
    let shared: SharedClock = clock.clone();
    let make = |limit| -> Arc<dyn RateLimiter> {
        Arc::new(MemoryRateLimiter::new(limit, 1000, Arc::clone(&shared)))
    };
    conforms(make, |span| {
        clock.advance(span);
        std::future::ready(())
    })
    .await;
}
