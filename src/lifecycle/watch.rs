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

/// Looks on while something is worked on. It stands still while the work waits for somebody who
/// has limits of his own: a client that sends its body, or an uplink that is asked.
///
/// Cheap to clone; clones share their state.
#[derive(Clone, Debug)]
pub struct Watch(Arc<State>);

#[derive(Debug)]
struct State {
    moved_at: Mutex<Instant>,
    waiting: AtomicUsize,
    /// Those that look on tasks which this work waits for.
    followed: Mutex<Vec<Watch>>,
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
            followed: Mutex::default(),
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

    /// Lets it look on a task which many may wait for, see [`following`].
    pub fn over_task<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), task)
    }

    /// When the work last moved, which is now while it waits for others.
    fn moved_at(&self) -> Instant {
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            return Instant::now();
        }
        let own = *self.0.moved_at.lock();
        let followed = self.0.followed.lock().clone();
        let followed = followed.iter().map(Self::moved_at).max();
        followed.map_or(own, |followed| own.max(followed))
    }

    async fn stalled(&self, limit: Duration) {
        loop {
            let ends = self.moved_at() + limit;
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

/// While it lives, one watch moves with another.
struct Following {
    follower: Watch,
    followed: Watch,
}

impl Following {
    fn begin(follower: &Watch, followed: &Watch) -> Self {
        follower.0.followed.lock().push(followed.clone());
        Self {
            follower: follower.clone(),
            followed: followed.clone(),
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let at = self.followed.moved_at();
        let mut moved_at = self.follower.0.moved_at.lock();
        *moved_at = at.max(*moved_at);
        let mut followed = self.follower.0.followed.lock();
        let is_it = |watch: &Watch| Arc::ptr_eq(&watch.0, &self.followed.0);
        if let Some(position) = followed.iter().position(is_it) {
            followed.swap_remove(position);
        }
    }
}

/// Waits for `work`, which ends with a task that `watch` looks on: the task's own work counts here
/// as ours would, and what it waits for does not.
pub async fn following<F: Future>(watch: &Watch, work: F) -> F::Output {
    let _following = CURRENT.try_with(|own| Following::begin(own, watch)).ok();
    work.await
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
    async fn who_waits_for_a_task_waits_for_what_it_waits_for() {
        let task = Watch::new();
        let waits = async || following(&task, sleep(LIMIT * 5)).await;
        assert!(!ends(waits()).await, "the task itself is stuck");
        let pause = task.pause();
        assert!(ends(waits()).await);
        let stuck_afterwards = async {
            waits().await;
            pending::<()>().await;
        };
        assert!(!ends(stuck_afterwards).await);
        drop(pause);
        assert!(!ends(waits()).await, "the task is stuck afterwards");
        // What it waits for is seen through all those who wait for each other.
        let (between, inner) = (Watch::new(), Watch::new());
        let _pause = inner.pause();
        let chained = between.over_task(following(&inner, sleep(LIMIT * 5)));
        let (ends, ()) = tokio::join!(ends(following(&between, sleep(LIMIT * 4))), chained);
        assert!(ends);
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
