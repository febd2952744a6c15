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

use tokio::task::JoinHandle;
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
}

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

    /// Waits for all tracked tasks, at most `grace`, or until [`Lifecycle::stop_now`]. Whether
    /// all of them ended.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(grace) => false,
            () = self.hard.cancelled() => false,
        }
    }
}
