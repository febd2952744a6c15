//! [`Work`]: work on all that is stored, of which there is one of a kind at a time, and how far it is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::{error::RegistryError, lifecycle::SharedClock, models::Timestamp};

/// How far work of a kind is, and what came of it the last time.
#[derive(Clone, Debug)]
pub struct Progress<T> {
    /// That which is under way.
    pub running: Option<Running>,
    /// The end of the one before it.
    pub last: Option<Ended<T>>,
}

/// Work that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// When it began.
    pub since: Timestamp,
    /// How many packages were looked at.
    pub looked_at: usize,
    /// How many there are, once that is known.
    pub of: Option<usize>,
    /// How many problems there were.
    pub problems: usize,
}

/// Work that is over.
#[derive(Clone, Debug)]
pub struct Ended<T> {
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub how: How<T>,
}

/// How work ended.
#[derive(Clone, Debug)]
pub enum How<T> {
    /// It is done.
    Done(T),
    /// It failed, with this for its reader.
    Failed(String),
    /// Whoever wanted it went away, or the registry stopped.
    GivenUp,
}

/// A kind of work. Clones are the same.
#[derive(Debug)]
pub(super) struct Work<T> {
    clock: SharedClock,
    progress: Arc<Mutex<Progress<T>>>,
}

impl<T> Clone for Work<T> {
    fn clone(&self) -> Self {
        Self {
            clock: Arc::clone(&self.clock),
            progress: Arc::clone(&self.progress),
        }
    }
}

impl<T: Clone> Work<T> {
    pub(super) fn new(clock: SharedClock) -> Self {
        let progress = Progress {
            running: None,
            last: None,
        };
        Self {
            clock,
            progress: Arc::new(Mutex::new(progress)),
        }
    }

    pub(super) fn progress(&self) -> Progress<T> {
        self.progress.lock().clone()
    }

    /// Begins it, unless some of its kind is under way.
    pub(super) fn begin(&self) -> Result<Turn<T>, RegistryError> {
        let running = &mut self.progress.lock().running;
        if running.is_some() {
            let busy = "this registry is doing just that already; wait for its end";
            return Err(RegistryError::conflict(busy));
        }
        *running = Some(Running {
            since: self.clock.now(),
            looked_at: 0,
            of: None,
            problems: 0,
        });
        Ok(Turn {
            work: self.clone(),
            is_over: AtomicBool::new(false),
        })
    }
}

/// The right to do it. Work whose turn is dropped before its end was given up.
#[derive(Debug)]
pub(super) struct Turn<T> {
    work: Work<T>,
    is_over: AtomicBool,
}

impl<T> Turn<T> {
    /// There are so many packages.
    pub(super) fn expects(&self, packages: usize) {
        self.edit(|running| running.of = Some(packages));
    }

    /// Another package was looked at, with so many problems.
    pub(super) fn looked_at_one(&self, problems: usize) {
        self.edit(|running| {
            running.looked_at = running.looked_at.saturating_add(1);
            running.problems = running.problems.saturating_add(problems);
        });
    }

    /// It is over.
    pub(super) fn ended(&self, how: How<T>) {
        // Afterwards, what is under way is another's.
        if self.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        let at = self.work.clock.now();
        let mut progress = self.work.progress.lock();
        progress.running = None;
        progress.last = Some(Ended { at, how });
    }

    fn edit(&self, edit: impl FnOnce(&mut Running)) {
        if let Some(running) = &mut self.work.progress.lock().running {
            edit(running);
        }
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        self.ended(How::GivenUp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::ManualClock;

    #[test]
    fn there_is_one_at_a_time_and_its_end_is_remembered() {
        let clock = ManualClock::at(Timestamp::from_unix_millis(1000));
        let work = Work::<u8>::new(clock.clone());
        assert!(work.progress().last.is_none());
        let turn = work.begin().unwrap();
        assert!(work.begin().is_err());
        turn.expects(2);
        turn.looked_at_one(3);
        let running = work.progress().running.unwrap();
        assert_eq!(
            (running.looked_at, running.of, running.problems),
            (1, Some(2), 3)
        );
        turn.ended(How::Done(7));
        let next = work.begin().unwrap();
        // The first one is over already.
        drop(turn);
        let progress = work.progress();
        assert!(progress.running.is_some());
        assert!(matches!(progress.last.unwrap().how, How::Done(7)));
        drop(next);
        let progress = work.progress();
        assert!(progress.running.is_none());
        assert!(matches!(progress.last.unwrap().how, How::GivenUp));
    }
}
