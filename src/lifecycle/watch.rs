//! [`Watch`]: how long a piece of work has made no progress of its own.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    static CURRENT: Watch;
}

/// Looks on while a request is worked on. It stands still while the work waits for somebody who
/// has limits of his own: a client that sends its body, or an uplink.
///
/// Cheap to clone; clones share their state.
#[derive(Clone, Debug)]
pub struct Watch(Arc<State>);

#[derive(Debug)]
struct State {
    moved_at: Mutex<Instant>,
    waiting: AtomicUsize,
}

/// While it lives, its watch stands still.
#[derive(Debug)]
pub struct Pause(Watch);

impl Watch {
    /// A watch that begins now.
    #[expect(clippy::new_without_default, reason = "it begins at a time")]
    pub fn new() -> Self {
        Self(Arc::new(State {
            moved_at: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Lets it stand still.
    pub fn pause(&self) -> Pause {
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        Pause(self.clone())
    }

    /// Runs `work` with this watch looking on, or gives it up when it made no progress for `limit`.
    pub async fn over<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = CURRENT.scope(self.clone(), work) => Some(done),
            () = self.stalled(limit) => None,
        }
    }

    async fn stalled(&self, limit: Duration) {
        loop {
            let is_waiting = self.0.waiting.load(Ordering::SeqCst) > 0;
            let since = if is_waiting {
                Instant::now()
            } else {
                *self.0.moved_at.lock()
            };
            let ends = since + limit;
            if ends <= Instant::now() {
                return;
            }
            sleep_until(ends).await;
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        *self.0.0.moved_at.lock() = Instant::now();
        self.0.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits for `work` of somebody who has limits of his own: what looks on stands still meanwhile.
pub async fn elsewhere<F: Future>(work: F) -> F::Output {
    let _pause = CURRENT.try_with(Watch::pause).ok();
    work.await
}

/// `work` for a task of its own, with the same watch looking on as here.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let watch = CURRENT.try_with(Watch::clone).ok();
    async move {
        match watch {
            Some(watch) => CURRENT.scope(watch, work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    async fn ends(work: impl Future) -> bool {
        Watch::new().over(LIMIT, work).await.is_some()
    }

    #[tokio::test]
    async fn own_work_is_given_up_and_waiting_is_not() {
        assert!(ends(ready(())).await);
        assert!(!ends(pending::<()>()).await);
        assert!(ends(elsewhere(sleep(LIMIT * 5))).await);
        let stuck_afterwards = async {
            elsewhere(sleep(LIMIT * 5)).await;
            pending::<()>().await;
        };
        assert!(!ends(stuck_afterwards).await);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "nobody shuts down")]
    async fn tasks_carry_it_along() {
        let task = async {
            let waiting = carried(elsewhere(sleep(LIMIT * 5)));
            tokio::spawn(waiting).await.unwrap();
        };
        assert!(ends(task).await);
    }
}
