//! [`GovernanceError`]: why nobody could say how often something was done.

use crate::{error::BoxError, storage::StorageError};

/// Why a backend of limits could not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GovernanceError {
    /// It failed, or did not answer in time.
    #[error("{operation} failed")]
    Backend {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        source: BoxError,
    },
    /// It failed a moment ago, and is not asked again yet.
    #[error("it failed a moment ago and is asked again soon")]
    Resting,
}

impl GovernanceError {
    /// The failure of `operation`.
    pub fn backend(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Backend {
            operation,
            source: source.into(),
        }
    }
}

impl From<StorageError> for GovernanceError {
    fn from(error: StorageError) -> Self {
        Self::backend("asking the database", error)
    }
}
