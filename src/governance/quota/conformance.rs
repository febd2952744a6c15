//! What every store of quotas must do.

use std::sync::Arc;

use super::*;
use crate::models::Timestamp;

fn today() -> Day {
    Timestamp::from_unix_millis(1_772_236_800_000).day()
}

/// `stores` are what two nodes have of one store.
pub(super) async fn conforms(stores: &[Arc<dyn QuotaStore>; 2]) {
    so_much_and_no_more(stores).await;
    counts_are_apart(&*stores[0]).await;
    many_at_once_get_no_more(stores).await;
}

fn usage(day: Day, tenant: &str, metric: Metric) -> Usage<'_> {
    Usage {
        day,
        tenant,
        metric,
    }
}

async fn so_much_and_no_more([one, other]: &[Arc<dyn QuotaStore>; 2]) {
    let usage = usage(today(), "u=one", Metric::Publishes);
    assert_eq!(one.count(usage, 3).await.unwrap(), Some(1));
    assert_eq!(other.count(usage, 3).await.unwrap(), Some(2));
    assert_eq!(one.count(usage, 3).await.unwrap(), Some(3));
    for _ in 0..5 {
        assert_eq!(one.count(usage, 3).await.unwrap(), None);
        assert_eq!(other.count(usage, 3).await.unwrap(), None);
    }
    // What was refused did not count: there is room for one more if the limit is higher.
    assert_eq!(one.count(usage, 4).await.unwrap(), Some(4));
    assert_eq!(one.count(usage, 4).await.unwrap(), None);
    assert_eq!(one.count(usage, 1).await.unwrap(), None);
}

async fn counts_are_apart(store: &dyn QuotaStore) {
    for tenant in ["u=a", "u=A", "o=a", "o=a:p=b", "anonymous"] {
        for metric in [Metric::Downloads, Metric::Publishes, Metric::Requests] {
            for day in [today(), today().minus(1)] {
                let usage = usage(day, tenant, metric);
                assert_eq!(store.count(usage, 1).await.unwrap(), Some(1), "{usage:?}");
                assert_eq!(store.count(usage, 1).await.unwrap(), None, "{usage:?}");
            }
        }
    }
}

async fn many_at_once_get_no_more(stores: &[Arc<dyn QuotaStore>; 2]) {
    let usage = usage(today(), "o=many", Metric::Downloads);
    let counts = (0..100).map(|number| stores[number % 2].count(usage, 20));
    let counts = futures_util::future::join_all(counts).await;
    let mut allowed: Vec<u64> = counts.into_iter().filter_map(Result::unwrap).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn memory_conforms() {
    let store: Arc<dyn QuotaStore> = Arc::new(MemoryQuotas::new(1000, 2));
    conforms(&[Arc::clone(&store), store]).await;
}
