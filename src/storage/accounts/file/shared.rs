//! What several processes have of one file of accounts: who writes it, and who has changed it.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::oneshot;

use super::{Inner, State, Written, parse};
use crate::storage::{
    Stamp, StorageError,
    fs::{
        atomic::{MODE_SECRET, write_atomic},
        lock_file,
        secret::read_secret,
        stamp_at,
    },
};

/// What the file said at one moment.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) state: Arc<State>,
    pub(super) stamp: Option<Stamp>,
}

/// The turn to write the file, which ends with its last clone.
pub(super) type Turn = Arc<File>;

/// Waits until no other process writes the file `path`. Blocks.
pub(super) fn lock(path: &Path) -> Result<File, StorageError> {
    lock_file(&path.with_extension("lock"))
}

/// What the file says, and what it looks like. Blocks.
pub(super) fn read_stamped(
    path: &Path,
    read: impl Fn(&Path) -> io::Result<Option<Vec<u8>>>,
) -> Result<(State, Option<Stamp>), StorageError> {
    for _ in 0..super::MAX_ATTEMPTS {
        let before = stamp(path)?;
        let bytes = read(path).map_err(|error| failed(path, error))?;
        // Taking a large one apart takes longer than others need to replace it.
        if stamp(path)? == before {
            return Ok((parse(path, bytes)?.0, before));
        }
    }
    let error = io::Error::other("the file changes while it is being read");
    Err(failed(path, error))
}

fn stamp(path: &Path) -> Result<Option<Stamp>, StorageError> {
    stamp_at(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> StorageError {
    StorageError::io(format!("opening {}", path.display()), error)
}

impl Inner {
    /// What is known, where that is what the file says.
    pub(super) fn current(&self) -> Result<Option<Arc<State>>, StorageError> {
        let durable = self.durable.read();
        if self.is_foreign || self.is_being_replaced.load(Ordering::Acquire) {
            return Ok(Some(Arc::clone(&durable.state)));
        }
        // As in `FsMetadata::stamp`, a look takes less than handing it to another thread.
        let stamp = stamp(&self.path)?;
        // A file that is gone takes nobody's account away: whoever came next could have it.
        let is_current = stamp.is_none() || stamp == durable.stamp || !self.path.is_file();
        Ok(is_current.then(|| Arc::clone(&durable.state)))
    }

    /// Reads what another process has written, whoever has the turn: it may have been stopped, and nobody
    /// has been told yet of what it is writing. Blocks.
    pub(super) fn read_again(&self) -> Result<Arc<State>, StorageError> {
        let _alone = self.taking_over.lock();
        if let Some(state) = self.current()? {
            return Ok(state);
        }
        let durable = self.take_over()?;
        let mut pending = self.pending.lock();
        if pending.waiting.is_empty() {
            // Changes that wait are made to what was there before, which their writer finds out.
            pending.state = Arc::clone(&durable);
            pending.base = self.durable.read().stamp;
        }
        Ok(durable)
    }

    /// Makes what the file says what is known.
    fn take_over(&self) -> Result<Arc<State>, StorageError> {
        let (state, stamp) = read_stamped(&self.path, read_secret)?;
        let state = Arc::new(state);
        *self.durable.write() = Durable {
            state: Arc::clone(&state),
            stamp,
        };
        Ok(state)
    }

    /// Waits for the turn to write, which those have already who make a change once more.
    fn turn(&self) -> Result<Turn, StorageError> {
        if let Some(turn) = self.pending.lock().turn.upgrade() {
            return Ok(turn);
        }
        let turn = Arc::new(lock(&self.path)?);
        self.pending.lock().turn = Arc::downgrade(&turn);
        Ok(turn)
    }

    /// Writes what is pending until nothing is.
    pub(super) fn write_all(&self) {
        loop {
            let (state, base, waiting) = {
                let mut pending = self.pending.lock();
                if pending.waiting.is_empty() {
                    pending.is_written = false;
                    return;
                }
                (
                    Arc::clone(&pending.state),
                    pending.base,
                    std::mem::take(&mut pending.waiting),
                )
            };
            match self.write(&state, base) {
                Ok(None) => answer(waiting, &Written::Durably),
                // Later changes were made to a state that never came to be.
                Ok(Some(turn)) => self.refuse(waiting, &Written::Outrun(turn)),
                Err(error) => self.refuse(waiting, &Written::Failed(Arc::new(error))),
            }
        }
    }

    fn refuse(&self, waiting: Vec<oneshot::Sender<Written>>, why: &Written) {
        let later = {
            let mut pending = self.pending.lock();
            let durable = self.durable.read();
            pending.state = Arc::clone(&durable.state);
            pending.base = durable.stamp;
            std::mem::take(&mut pending.waiting)
        };
        answer(waiting, why);
        answer(later, why);
    }

    /// Writes `state`, which was made of the file that looked like `base`. Where it does not look so any
    /// more, what it says by now is taken over, and the turn returned: until it ends nobody else writes.
    fn write(&self, state: &Arc<State>, base: Option<Stamp>) -> Result<Option<Turn>, StorageError> {
        let path = &self.path;
        let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
        if self.is_foreign {
            return Err(failed(io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        let json = state.to_json().map_err(|error| failed(error.into()))?;
        let turn = self.turn()?;
        let _alone = self.taking_over.lock();
        let there = stamp_at(path).map_err(failed)?;
        if there.is_some() && there != base {
            self.take_over()?;
            return Ok(Some(turn));
        }
        self.is_being_replaced.store(true, Ordering::Release);
        let written = write_atomic(path, &json, MODE_SECRET).map_err(failed);
        let written = written.and_then(|()| stamp_at(path).map_err(failed));
        if let Ok(stamp) = &written {
            *self.durable.write() = Durable {
                state: Arc::clone(state),
                stamp: *stamp,
            };
            self.pending.lock().base = *stamp;
        }
        self.is_being_replaced.store(false, Ordering::Release);
        written.map(|_| None)
    }
}

fn answer(waiting: Vec<oneshot::Sender<Written>>, outcome: &Written) {
    for one in waiting {
        // Whoever waited may have gone away.
        let _ = one.send(outcome.clone());
    }
}
