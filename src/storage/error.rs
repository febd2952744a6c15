//! [`StorageError`]: why a storage backend failed.

use std::{io, sync::Arc};

use crate::{
    error::{BoxError, RegistryError},
    models::PackageName,
};

/// Why the store failed, in terms that the registry can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Somebody else wrote first; read again and decide again.
    #[error("document of `{0}` changed meanwhile")]
    Conflict(PackageName),
    /// There is no space left.
    #[error("no space left")]
    Full(#[source] BoxError),
    /// What is stored cannot be read as what it should be.
    #[error("{what} is damaged")]
    Damaged {
        /// Which file or object.
        what: String,
        /// How it shows.
        source: BoxError,
    },
    /// A package is hosted, and its manifest is gone.
    #[error("{because}, and {manifest} is gone or says nothing of it: {remedy}")]
    Lost {
        /// Which file or object is missing.
        manifest: String,
        /// How it is known that the package is hosted.
        because: String,
        /// What to do.
        remedy: String,
    },
    /// The backend failed. Never reported as "not found".
    #[error("{operation} failed")]
    Backend {
        /// What was tried, with the file or object.
        operation: String,
        /// What the backend said.
        source: BoxError,
    },
}

impl StorageError {
    /// The failure of `operation`.
    pub fn backend(operation: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Backend {
            operation: operation.into(),
            source: source.into(),
        }
    }

    /// The failure of a file operation, told apart by kind.
    pub fn io(operation: impl Into<String>, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.into()),
            _ => Self::backend(operation, error),
        }
    }
}

impl StorageError {
    /// The same failure for somebody else who waited for the same work.
    pub(crate) fn shared(error: &Arc<Self>) -> Self {
        match **error {
            Self::Full(_) => Self::Full(Arc::clone(error).into()),
            _ => Self::backend("work shared with others", Arc::clone(error)),
        }
    }
}

impl From<StorageError> for RegistryError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Conflict(name) => Self::Conflict {
                message: format!(
                    "Failed to save packument. `{name}` was changed at the same time, try again"
                ),
            },
            StorageError::Full(_) => Self::StorageFull(error.into()),
            StorageError::Damaged { .. }
            | StorageError::Lost { .. }
            | StorageError::Backend { .. } => Self::StorageUnavailable(error.into()),
        }
    }
}
