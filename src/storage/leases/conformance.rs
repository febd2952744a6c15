//! What every backend of leases must do.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;

const SPAN: Duration = Duration::from_millis(1500);

fn options(fail_open: bool) -> LeaseOptions {
    LeaseOptions {
        span: SPAN,
        acquire_timeout: Duration::from_secs(60),
        poll_interval: Duration::from_millis(10),
        fail_open,
    }
}

async fn conforms(provider: Arc<dyn LeaseProvider>) {
    one_at_a_time_and_fenced(&*provider).await;
    one_that_is_not_renewed_runs_out(&*provider).await;
    many_take_turns(&provider).await;
    a_long_one_is_renewed(&provider).await;
}

async fn one_at_a_time_and_fenced(provider: &dyn LeaseProvider) {
    let long = Duration::from_secs(60);
    let first = provider
        .try_acquire("one", "a", long)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(provider.try_acquire("one", "b", long).await.unwrap(), None);
    assert!(
        provider
            .try_acquire("other", "b", long)
            .await
            .unwrap()
            .is_some()
    );
    let again = provider.try_acquire("one", "a", long).await.unwrap();
    assert_eq!(again, Some(first), "to ask again does no harm");
    assert!(provider.renew("one", "a", long).await.unwrap());
    assert!(!provider.renew("one", "b", long).await.unwrap());
    provider.release("one", "b").await.unwrap();
    assert_eq!(provider.try_acquire("one", "b", long).await.unwrap(), None);
    provider.release("one", "a").await.unwrap();
    provider.release("one", "a").await.unwrap();
    let second = provider.try_acquire("one", "b", long).await.unwrap();
    assert!(second.unwrap() > first);
    assert!(!provider.renew("one", "a", long).await.unwrap());
}

async fn one_that_is_not_renewed_runs_out(provider: &dyn LeaseProvider) {
    let short = Duration::from_millis(200);
    let first = provider
        .try_acquire("lost", "a", short)
        .await
        .unwrap()
        .unwrap();
    let taken = async {
        loop {
            if let Some(fencing) = provider.try_acquire("lost", "b", SPAN).await.unwrap() {
                return fencing;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let second = tokio::time::timeout(Duration::from_secs(30), taken).await;
    assert!(second.unwrap() > first);
    assert!(!provider.renew("lost", "a", SPAN).await.unwrap());
}

/// How often writers' waiting ended like this.
fn waits(metrics: &Metrics, outcome: &str) -> u64 {
    let start = format!("rustaccio_lease_waits_total{{outcome=\"{outcome}\"}} ");
    let text = metrics.to_text();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines.next().unwrap().parse().unwrap()
}

/// That waiting ended so often like each of these, and in no other way.
#[track_caller]
fn assert_waits(metrics: &Metrics, expected: [(&str, u64); 4]) {
    let counted = expected.map(|(outcome, _)| (outcome, waits(metrics, outcome)));
    assert_eq!(counted, expected);
}

async fn many_take_turns(provider: &Arc<dyn LeaseProvider>) {
    let (lifecycle, metrics) = (Lifecycle::new(), Metrics::counting());
    let (inside, last) = (AtomicU64::new(0), AtomicU64::new(0));
    let turns = (0..16).map(|_| {
        // A node each.
        let leases = Leases::new(
            Arc::clone(provider),
            options(false),
            lifecycle.clone(),
            metrics.clone(),
        );
        let (inside, last) = (&inside, &last);
        async move {
            let lease = leases.hold("package:@s/busy").await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            let fencing = lease.fencing().unwrap();
            assert!(last.swap(fencing, Ordering::SeqCst) < fencing);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    });
    futures_util::future::join_all(turns).await;
    let acquired = [
        ("acquired", 16),
        ("timeout", 0),
        ("failed", 0),
        ("failed_open", 0),
    ];
    assert_waits(&metrics, acquired);
    // All are given up before the server ends.
    assert!(lifecycle.drain(Duration::from_secs(30)).await);
    let free = provider.try_acquire("package:_s_busy", "x", SPAN).await;
    assert!(free.unwrap().is_some());
}

async fn a_long_one_is_renewed(provider: &Arc<dyn LeaseProvider>) {
    let (lifecycle, metrics) = (Lifecycle::new(), Metrics::counting());
    let leases = Leases::new(
        Arc::clone(provider),
        options(false),
        lifecycle.clone(),
        metrics.clone(),
    );
    let lease = leases.hold("long").await.unwrap();
    tokio::time::sleep(2 * SPAN).await;
    assert_eq!(provider.try_acquire("long", "x", SPAN).await.unwrap(), None);
    let impatient = LeaseOptions {
        acquire_timeout: Duration::from_millis(100),
        ..options(true)
    };
    let others = Leases::new(
        Arc::clone(provider),
        impatient,
        lifecycle.clone(),
        metrics.clone(),
    );
    // Failing open is about the backend, not about others.
    assert!(matches!(
        others.hold("long").await,
        Err(LeaseError::Timeout)
    ));
    let ended = [
        ("acquired", 1),
        ("timeout", 1),
        ("failed", 0),
        ("failed_open", 0),
    ];
    assert_waits(&metrics, ended);
    drop(lease);
    assert!(lifecycle.drain(Duration::from_secs(30)).await);
    assert!(
        provider
            .try_acquire("long", "x", SPAN)
            .await
            .unwrap()
            .is_some()
    );
}

/// Whoever cannot ask goes on without a lease, or is told so, and not late.
#[cfg(feature = "redis")]
async fn fails_as_asked(provider: Arc<dyn LeaseProvider>) {
    let (lifecycle, metrics) = (Lifecycle::new(), Metrics::counting());
    let open = Leases::new(
        Arc::clone(&provider),
        options(true),
        lifecycle.clone(),
        metrics.clone(),
    );
    assert_eq!(open.hold("a").await.unwrap().fencing(), None);
    let closed = Leases::new(provider, options(false), lifecycle, metrics.clone());
    let refused = closed.hold("a").await.unwrap_err();
    assert!(matches!(refused, LeaseError::Backend(_)));
    let status = RegistryError::from(refused).status();
    assert_eq!(status.as_u16(), 502);
    let ended = [
        ("acquired", 0),
        ("timeout", 0),
        ("failed", 1),
        ("failed_open", 1),
    ];
    assert_waits(&metrics, ended);
}

#[tokio::test]
async fn without_a_backend_nobody_waits() {
    let leases = Leases::none();
    let (one, two) = (
        leases.hold("a").await.unwrap(),
        leases.hold("a").await.unwrap(),
    );
    assert_eq!((one.fencing(), two.fencing()), (None, None));
}

#[cfg(feature = "object")]
#[tokio::test]
async fn objects_conform() {
    let store = Arc::new(object_store::memory::InMemory::new());
    let clock: crate::lifecycle::SharedClock = Arc::new(crate::lifecycle::SystemClock);
    let bucket = crate::storage::object::Bucket::of(store, "locks/");
    conforms(Arc::new(ObjectLeases::new(bucket, clock))).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_that_is_gone_fails_as_asked() {
    let provider = RedisLeases::new("redis://127.0.0.1:9/", "gone".to_owned()).unwrap();
    fails_as_asked(Arc::new(provider)).await;
}

#[cfg(all(feature = "redis", feature = "test-services"))]
mod redis_server {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "the tests' services are in there"
    )]
    fn provider() -> Arc<dyn LeaseProvider> {
        let url = std::env::var("RUSTACCIO_REDIS_IT_URL")
            .expect("RUSTACCIO_REDIS_IT_URL is not set; run this through ./scripts/test");
        let prefix = format!("rustaccio-it:{}", random_hex::<8>());
        Arc::new(RedisLeases::new(&url, prefix).unwrap())
    }

    #[tokio::test]
    async fn redis_conforms() {
        conforms(provider()).await;
    }
}
