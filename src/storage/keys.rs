//! [`KeyStore`]: small secrets that must be the same on all nodes.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;

use super::{
    StorageError,
    fs::{
        atomic::{MODE_SECRET, create_folder_synced, write_atomic},
        blocking,
        secret::{read_foreign, read_secret},
    },
};

/// The contract between the registry and whatever keeps its keys: values change only by
/// compare-and-swap, so that nodes that start at the same time agree.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// What is kept under `name`.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Keeps `value` under `name` if what is there is `expected` (`None`: nothing). Whether it was.
    /// Durable once it returns.
    async fn write(
        &self,
        name: &str,
        value: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<bool, StorageError>;

    /// Where `name` is, for messages.
    fn place(&self, name: &str) -> String;

    /// Whether other nodes read the same keys.
    fn is_shared(&self) -> bool;
}

/// Keys of a single node, in files of mode 0600 in one folder.
#[derive(Clone, Debug)]
pub struct FileKeys {
    folder: PathBuf,
    /// Whether the files are another's, and are left as they are.
    is_foreign: bool,
}

impl FileKeys {
    /// The keys in `folder`, which belongs to this process.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            is_foreign: false,
        }
    }

    /// The keys in `folder`, which are only read: not even their modes are put right.
    pub fn foreign(folder: PathBuf) -> Self {
        Self {
            folder,
            is_foreign: true,
        }
    }
}

#[async_trait]
impl KeyStore for FileKeys {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.folder.join(name);
        let read = if self.is_foreign {
            read_foreign
        } else {
            read_secret
        };
        blocking(move || {
            read(&path)
                .map_err(|error| StorageError::io(format!("opening {}", path.display()), error))
        })
        .await
    }

    async fn write(
        &self,
        name: &str,
        value: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        if self.is_foreign {
            let operation = format!("writing {}", self.place(name));
            let error = std::io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(StorageError::io(operation, error));
        }
        if self.read(name).await?.as_deref() != expected {
            return Ok(false);
        }
        let (folder, path, value) = (self.folder.clone(), self.folder.join(name), value.to_vec());
        blocking(move || {
            create_folder_synced(&folder)
                .and_then(|()| write_atomic(&path, &value, MODE_SECRET))
                .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))
        })
        .await?;
        Ok(true)
    }

    fn place(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn is_shared(&self) -> bool {
        false
    }
}
