//! Records as JSON, for all that keep them somewhere.

use serde::{Serialize, de::DeserializeOwned};

use super::StorageError;

/// The JSON of `record`; `operation` is what it is made for.
pub(super) fn to_json(operation: &str, record: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    serde_json::to_vec(record).map_err(|error| StorageError::backend(operation, error))
}

/// The record that `json` is; `what` it is called where it is damaged.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(json).map_err(|error| StorageError::Damaged {
        what: what.to_owned(),
        source: error.into(),
    })
}
