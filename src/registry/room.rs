//! [`Room`]: memory for what clients send, shared by all who send it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::RegistryError;

/// What is taken at once: as much as all but a few documents have.
pub(super) const STEP: usize = 64 * 1024;

/// Memory for things of one kind.
#[derive(Clone, Debug)]
pub(super) struct Room {
    steps: Arc<Semaphore>,
    /// What they hear for whom there is none.
    refusal: &'static str,
}

/// Memory that was taken; free when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Room,
    steps: OwnedSemaphorePermit,
}

impl Room {
    /// Room for this many `bytes` altogether.
    pub(super) fn of(bytes: usize, refusal: &'static str) -> Self {
        Self {
            steps: Arc::new(Semaphore::new(bytes / STEP)),
            refusal,
        }
    }

    /// A first step.
    pub(super) fn take(&self) -> Result<Taken, RegistryError> {
        Ok(Taken {
            steps: self.step()?,
            room: self.clone(),
        })
    }

    /// A step, or an error: two that wait for each other's room would wait for ever.
    fn step(&self) -> Result<OwnedSemaphorePermit, RegistryError> {
        let step = Arc::clone(&self.steps).try_acquire_owned();
        step.map_err(|_| RegistryError::Unavailable {
            message: self.refusal.to_owned(),
        })
    }
}

impl Taken {
    /// Takes more until it is enough for `bytes`.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), RegistryError> {
        while bytes > self.steps.num_permits() * STEP {
            self.steps.merge(self.room.step()?);
        }
        Ok(())
    }
}
