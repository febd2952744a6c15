//! [`Flights`]: one question, one flight. All who ask for the same thing wait for one task.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc};

use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::lifecycle::Lifecycle;

/// The task of a flight ended without an answer: it panicked, or the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work was given up")]
pub(super) struct Lost;

pub(super) type Landing<V> = Shared<oneshot::Receiver<V>>;

/// Tasks that are under way, by what they are for.
#[derive(Debug)]
pub(super) struct Flights<K, V: Clone> {
    lifecycle: Lifecycle,
    under_way: Arc<Mutex<HashMap<K, Landing<V>>>>,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            under_way: Arc::default(),
        }
    }

    /// Waits for the flight for `key`, which is `work` if there is none yet. Who stops waiting
    /// stops nobody else.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<V, Lost>
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.start(key, work).await.map_err(|_| Lost)
    }

    /// The flight for `key`, which is under way whether or not anybody waits for it.
    pub(super) fn start<F>(&self, key: K, work: impl FnOnce() -> F) -> Landing<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(landing) = under_way.get(&key) {
            return landing.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let landing = receiver.shared();
        under_way.insert(key.clone(), landing.clone());
        let work = work();
        let arrival = Arrival {
            key,
            under_way: Arc::clone(&self.under_way),
        };
        self.lifecycle.spawn(async move {
            let value = work.await;
            // Off the board before the answer goes out: who asks afterwards asks anew.
            drop(arrival);
            let _ = sender.send(value);
        });
        landing
    }
}

/// Takes a flight off the board, also when its task panics.
struct Arrival<K: Eq + Hash, V: Clone> {
    key: K,
    under_way: Arc<Mutex<HashMap<K, Landing<V>>>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Arrival<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn many_askers_cost_one_flight() {
        let flights = Arc::new(Flights::new(Lifecycle::new()));
        let flown = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Barrier::new(21));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (flights, flown, gate) =
                (Arc::clone(&flights), Arc::clone(&flown), Arc::clone(&gate));
            tasks.spawn(async move {
                let ask = flights.join("key", || {
                    let (flown, gate) = (Arc::clone(&flown), Arc::clone(&gate));
                    async move {
                        gate.wait().await;
                        flown.fetch_add(1, Ordering::SeqCst)
                    }
                });
                let (answer, _) = tokio::join!(ask, gate.wait());
                answer.unwrap()
            });
        }
        assert_eq!(tasks.join_all().await, vec![0; 20]);
        assert_eq!(flown.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_next_one_tries_again() {
        let flights: Flights<&str, u8> = Flights::new(Lifecycle::new());
        let lost = flights.join("key", || async { panic!("on purpose") }).await;
        assert_eq!(lost, Err(Lost));
        assert_eq!(flights.join("key", || async { 1 }).await, Ok(1));
    }
}
