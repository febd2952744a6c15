//! [`ObjectKeys`]: keys that all nodes share, in a bucket.

use async_trait::async_trait;
use bytes::Bytes;

use super::Records;
use crate::storage::{KeyStore, StorageError, object::Precondition};

/// Keeps each key in an object below `keys/`.
#[derive(Clone, Debug)]
pub struct ObjectKeys {
    records: Records,
}

impl ObjectKeys {
    /// The keys among `records`.
    pub fn new(records: Records) -> Self {
        Self { records }
    }
}

#[async_trait]
impl KeyStore for ObjectKeys {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.records.path(&["keys", name]);
        let found = self.records.bytes(&path).await?;
        Ok(found.map(|key| key.record.to_vec()))
    }

    async fn write(
        &self,
        name: &str,
        value: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        let path = self.records.path(&["keys", name]);
        let precondition = match expected {
            None => Precondition::Absent,
            Some(expected) => match self.records.bytes(&path).await? {
                Some(found) if found.record == expected => Precondition::Matches(found.tag),
                _ => return Ok(false),
            },
        };
        let value = Bytes::copy_from_slice(value);
        let written = self.records.put_bytes(&path, value, &precondition);
        Ok(written.await?.is_some())
    }

    fn place(&self, name: &str) -> String {
        self.records.path(&["keys", name]).to_string()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
