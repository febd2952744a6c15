//! [`Coherence`]: whether notices of all that others change arrive here, so that what was read may
//! be believed.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::models::PackageName;

/// How long notices may stay away (somebody sends some all the time) before nothing is believed:
/// the longest that a node that is cut off shows what others have changed.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// What somebody changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The manifest of this package.
    Package(PackageName),
    /// The user of this name.
    User(String),
    /// The token with this hash.
    Token(String),
    /// Organisations or their teams.
    Organisations,
}

/// A span of time in which no notice was lost.
pub type Epoch = u64;

/// The state of one listener. What was read in an epoch, and of which no notice has come since, is
/// what is stored for as long as the epoch lasts.
pub struct Coherence {
    begun: Instant,
    /// Odd while somebody listens.
    epoch: AtomicU64,
    /// When something was last heard, in milliseconds since `begun`.
    heard: AtomicU64,
    watchers: Mutex<Vec<Watcher>>,
}

/// Drops what is kept of what a notice is about. `false`: it has nothing to drop any more.
pub type Watcher = Box<dyn Fn(&Notice) -> bool + Send + Sync>;

impl fmt::Debug for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coherence")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Default for Coherence {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            epoch: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            watchers: Mutex::default(),
        }
    }
}

impl Coherence {
    /// The epoch that lasts now; `None` while nothing may be believed. To be asked for before
    /// something is read that is to be kept.
    pub fn epoch(&self) -> Option<Epoch> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let silence = self
            .now()
            .saturating_sub(self.heard.load(Ordering::Acquire));
        let is_heard = u128::from(silence) < LONGEST_SILENCE.as_millis();
        (is_odd(epoch) && is_heard).then_some(epoch)
    }

    /// Calls `watcher` with each notice from now on.
    pub fn watch(&self, watcher: Watcher) {
        self.watchers.lock().push(watcher);
    }

    // What the listener says.

    /// The one listener hears everything from now on.
    pub fn begin(&self) {
        self.end();
        self.heard();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The listener may have missed something.
    pub fn end(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        if is_odd(epoch) {
            self.epoch.store(epoch + 1, Ordering::Release);
        }
    }

    /// The listener has heard something.
    pub fn heard(&self) {
        self.heard.store(self.now(), Ordering::Release);
    }

    /// Passes a notice on.
    pub fn pass_on(&self, notice: &Notice) {
        self.watchers.lock().retain(|watcher| watcher(notice));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn is_odd(epoch: Epoch) -> bool {
    epoch % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_believed_without_a_listener_or_across_its_absence() {
        let coherence = Coherence::default();
        assert_eq!(coherence.epoch(), None);
        coherence.begin();
        let first = coherence.epoch().unwrap();
        assert_eq!(coherence.epoch(), Some(first));
        coherence.end();
        assert_eq!(coherence.epoch(), None);
        coherence.begin();
        assert_ne!(coherence.epoch(), Some(first));
        // Silence ends it, and it goes on where it was: nothing was missed meanwhile.
        let second = coherence.epoch();
        coherence.heard.store(0, Ordering::Release);
        let silent = Coherence {
            begun: Instant::now().checked_sub(LONGEST_SILENCE).unwrap(),
            epoch: coherence.epoch,
            heard: coherence.heard,
            watchers: Mutex::default(),
        };
        assert_eq!(silent.epoch(), None);
        silent.heard();
        assert_eq!(silent.epoch(), second);
    }
}
