//! [`ObjectKeys`]: keys that all nodes share, in a bucket.

use async_trait::async_trait;
use bytes::Bytes;

use super::Bucket;
use crate::storage::{KeyStore, StorageError};

/// Keeps each key in an object below `keys/`.
#[derive(Clone, Debug)]
pub struct ObjectKeys {
    bucket: Bucket,
}

impl ObjectKeys {
    /// The keys in `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }
}

#[async_trait]
impl KeyStore for ObjectKeys {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let found = self.bucket.get(&self.bucket.path(&["keys", name])).await?;
        Ok(found.map(|object| object.bytes.to_vec()))
    }

    async fn write(
        &self,
        name: &str,
        value: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        let path = self.bucket.path(&["keys", name]);
        let value = Bytes::copy_from_slice(value);
        let Some(expected) = expected else {
            return self.bucket.create(&path, value).await;
        };
        match self.bucket.get(&path).await? {
            Some(found) if found.bytes == expected => {
                self.bucket.update(&path, value, found.version).await
            }
            _ => Ok(false),
        }
    }

    fn place(&self, name: &str) -> String {
        self.bucket.place(&["keys", name])
    }

    fn is_shared(&self) -> bool {
        true
    }
}
