//! Floor 2: starting, tracking and stopping work; the clock and the source of randomness.

mod clock;
mod compute;
mod crash;
mod errand;
mod hops;
mod random;
mod request_id;
mod watch;

use std::{future::Future, time::Duration};

use tokio::{sync::watch as channel, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use compute::{compute, compute_on};
pub use crash::crash_point;
pub use errand::Errand;
pub use hops::{Circle, Hops};
pub use random::{jittered, random_bytes, random_hex};
pub use request_id::RequestId;
pub use watch::{Pause, Watch, carried, elsewhere, following};

/// The life of one server: what it still has to finish, and when it has to stop.
///
/// Cheap to clone; clones share their state. Two servers in one process have one each.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    /// Those that write down or hand on what the others have done.
    last: TaskTracker,
    /// Until when those may go on, once the others have ended.
    last_call: channel::Sender<Option<Instant>>,
}

/// How long what comes last has for what is left.
const LAST: Duration = Duration::from_secs(10);

impl Lifecycle {
    /// A life that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` so that shutdown waits for it. It is not cancelled when its caller goes away, and
    /// inherits its caller's [`Errand`].
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(Errand::current().scope(task)))
    }

    /// Runs `task` without making the shutdown wait for it.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_untracked<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(task)
    }

    /// Runs `task`, which takes what other tasks hand to it, until [`Lifecycle::last_call`].
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_last<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.last.track_future(task))
    }

    /// Completes when all other work has ended, with the time by which what is left has to be done.
    pub async fn last_call(&self) -> Instant {
        let mut last_call = self.last_call.subscribe();
        let until = last_call.wait_for(Option::is_some).await;
        until
            .ok()
            .and_then(|until| *until)
            .unwrap_or_else(Instant::now)
    }

    /// Asks everything to come to an end: no new connection, what runs may finish.
    pub fn begin_shutdown(&self) {
        self.soft.cancel();
    }

    /// Asks everything to end now.
    pub fn stop_now(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Completes when shutdown begins. Every loop selects on it.
    pub async fn shutdown_begun(&self) {
        self.soft.cancelled().await;
    }

    /// Completes when everything has to end now.
    pub async fn must_stop(&self) {
        self.hard.cancelled().await;
    }

    /// Whether shutdown has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Waits for all tracked tasks, and then for those that come last, at most `grace` in all, or
    /// until [`Lifecycle::stop_now`]. Whether all of them ended.
    pub async fn drain(&self, grace: Duration) -> bool {
        let ends = Instant::now() + grace;
        let reserve = LAST.min(grace / 6);
        self.tasks.close();
        let has_ended = tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep_until(ends - reserve) => false,
            () = self.hard.cancelled() => return false,
        };
        // A little before the end, so that they can still say what they could not do.
        let until = (Instant::now() + LAST).min(ends - reserve / 8);
        self.last_call.send_replace(Some(until));
        self.last.close();
        tokio::select! {
            () = self.last.wait() => has_ended,
            () = tokio::time::sleep_until(ends) => false,
            () = self.hard.cancelled() => false,
        }
    }
}
