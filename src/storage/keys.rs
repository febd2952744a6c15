//! [`KeyStore`]: small secrets that must be the same on all nodes.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;

use super::{
    StorageError,
    fs::{
        STATE_LOCK,
        atomic::{MODE_SECRET, create_folder_synced, write_atomic},
        blocking, lock_file,
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
        let (folder, path, value) = (self.folder.clone(), self.folder.join(name), value.to_vec());
        let expected = expected.map(<[u8]>::to_vec);
        blocking(move || {
            let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
            create_folder_synced(&folder).map_err(failed)?;
            // Of a registry and a command that start at once, one makes the key and the other takes it.
            let _alone = lock_file(&folder.join(STATE_LOCK))?;
            if read_secret(&path).map_err(failed)? != expected {
                return Ok(false);
            }
            write_atomic(&path, &value, MODE_SECRET).map_err(failed)?;
            Ok(true)
        })
        .await
    }

    fn place(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_processes_that_make_a_key_one_does() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let name = format!("{round}.key");
            let mut tasks = tokio::task::JoinSet::new();
            for maker in 0..4_u8 {
                let (keys, name) = (FileKeys::new(folder.path().to_owned()), name.clone());
                tasks.spawn(async move {
                    let is_made = keys.write(&name, &[maker], None).await.unwrap();
                    is_made.then_some(maker)
                });
            }
            let made: Vec<u8> = tasks.join_all().await.into_iter().flatten().collect();
            let kept = FileKeys::new(folder.path().to_owned()).read(&name).await;
            assert_eq!(kept.unwrap(), Some(made));
        }
    }
}
