//! [`NameLocks`]: one writer a package, so that writers of one process never conflict.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::models::PackageName;

type Locks = Arc<Mutex<HashMap<PackageName, Arc<tokio::sync::Mutex<()>>>>>;

/// Locks by name; only names in use take memory. They only save retries: correctness comes from
/// compare-and-swap.
#[derive(Debug, Default)]
pub(super) struct NameLocks {
    locks: Locks,
}

/// Holds the lock of a name until it is dropped.
pub(super) struct NameGuard {
    name: PackageName,
    locks: Locks,
    held: Option<OwnedMutexGuard<()>>,
}

impl NameLocks {
    /// Waits until nobody else of this process writes `name`.
    pub(super) async fn lock(&self, name: &PackageName) -> NameGuard {
        let lock = Arc::clone(self.locks.lock().entry(name.clone()).or_default());
        NameGuard {
            name: name.clone(),
            locks: Arc::clone(&self.locks),
            held: Some(lock.lock_owned().await),
        }
    }
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        let mut locks = self.locks.lock();
        self.held = None;
        // Those who wait hold a second reference.
        if locks
            .get(&self.name)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_stays() {
        let locks = NameLocks::default();
        let name: PackageName = "n".parse().unwrap();
        let held = locks.lock(&name).await;
        let second = locks.lock(&name);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(locks.lock(&"other".parse().unwrap()).await);
        drop(held);
        drop(second.await);
        assert!(locks.locks.lock().is_empty());
    }
}
