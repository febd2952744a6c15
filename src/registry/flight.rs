//! [`Flights`]: one question, one flight. All who ask for the same thing wait for one task.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc};

use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::lifecycle::{Hops, Lifecycle, Watch, following};

/// The task of a flight ended without an answer: it panicked, or the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work was given up")]
pub(super) struct Lost;

/// A task that is under way, whether or not anybody waits for it.
#[derive(Clone, Debug)]
pub(super) struct Flight<V: Clone> {
    answer: Shared<oneshot::Receiver<V>>,
    watch: Watch,
    /// What the request came through that began it.
    hops: Hops,
}

/// What a flight is for, and for whom if only those may share it who came the same way.
type Berth<K> = (K, Option<Hops>);

type Board<K, V> = Arc<Mutex<HashMap<Berth<K>, Flight<V>>>>;

/// Tasks that are under way, by what they are for.
#[derive(Debug)]
pub(super) struct Flights<K, V: Clone> {
    lifecycle: Lifecycle,
    under_way: Board<K, V>,
}

impl<V: Clone> Flight<V> {
    /// Waits for its answer. Its own work counts as that of the request that waits.
    pub(super) async fn landed(self) -> Result<V, Lost> {
        following(&self.watch, self.answer).await.map_err(|_| Lost)
    }
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
        self.start(key, work).landed().await
    }

    /// The flight for `key`, which is `work` if there is none yet.
    pub(super) fn start<F>(&self, key: K, work: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.board((key, None), work)
    }

    /// Waits for the flight for `key` as [`Flights::join`] does, where `work` asks an uplink. An
    /// answer that is a circle holds for those who came the same way as whoever began the flight;
    /// others ask again.
    pub(super) async fn ask<F>(
        &self,
        key: K,
        is_circle: impl Fn(&V) -> bool,
        work: impl Fn() -> F,
    ) -> Result<V, Lost>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = self.start(key.clone(), &work);
        let hops = Hops::current();
        let is_anothers = flight.hops != hops;
        let answer = flight.landed().await?;
        if is_anothers && is_circle(&answer) {
            return self.board((key, Some(hops)), work).landed().await;
        }
        Ok(answer)
    }

    fn board<F>(&self, berth: Berth<K>, work: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(&berth) {
            return flight.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let flight = Flight {
            answer: receiver.shared(),
            watch: Watch::new(),
            hops: Hops::current(),
        };
        under_way.insert(berth.clone(), flight.clone());
        // What it asks belongs to the trace of whoever began it.
        let work = flight.watch.over_task(work()).in_current_span();
        let arrival = Arrival {
            berth,
            under_way: Arc::clone(&self.under_way),
        };
        self.lifecycle.spawn(async move {
            let value = work.await;
            // Off the board before the answer goes out: who asks afterwards asks anew.
            drop(arrival);
            let _ = sender.send(value);
        });
        flight
    }
}

/// Takes a flight off the board, also when its task panics.
struct Arrival<K: Eq + Hash, V: Clone> {
    berth: Berth<K>,
    under_way: Board<K, V>,
}

impl<K: Eq + Hash, V: Clone> Drop for Arrival<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.berth);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::lifecycle::{elsewhere, random_hex};

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

    #[tokio::test]
    async fn a_circle_is_one_for_those_who_came_the_same_way() {
        let flights: Flights<&str, &str> = Flights::new(Lifecycle::new());
        let flown = AtomicUsize::new(0);
        let (here, there) = (random_hex::<8>().into(), random_hex::<8>());
        let forged = Hops::arrived(Some(&there), &here).unwrap();
        let honest = Hops::arrived(None, &here).unwrap();
        let ask = |hops: &Hops| {
            let asking = flights.ask(
                "key",
                |answer| *answer == "circle",
                || {
                    flown.fetch_add(1, Ordering::SeqCst);
                    async {
                        let hops = Hops::current();
                        let is_forged = hops.as_header().is_some_and(|text| text.contains(','));
                        if is_forged { "circle" } else { "answer" }
                    }
                },
            );
            hops.clone().scope(asking)
        };
        // All of them are on board before anything has landed.
        let asked = [&forged, &honest, &honest, &forged].map(ask);
        let answers = futures_util::future::join_all(asked).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, ["circle", "answer", "answer", "circle"]);
        assert_eq!(flown.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn its_own_work_counts_for_those_who_wait_and_its_waiting_does_not() {
        let flights: Arc<Flights<&str, u8>> = Arc::new(Flights::new(Lifecycle::new()));
        let limit = Duration::from_millis(20);
        let stuck = flights.join("stuck", std::future::pending);
        assert_eq!(Watch::new().over(limit, stuck).await, None);
        let asks = flights.join("asks", || async move {
            elsewhere(tokio::time::sleep(limit * 5)).await;
            1
        });
        assert_eq!(Watch::new().over(limit, asks).await, Some(Ok(1)));
    }
}
