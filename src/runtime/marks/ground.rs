//! [`Ground`]: what may have a mark, and is told from others of its kind.

use std::path::PathBuf;

use super::Spot;
use crate::{
    error::RegistryError,
    lifecycle::random_hex,
    storage::{FileKeys, KeyStore as _},
};

#[cfg(feature = "object")]
use crate::storage::object::{Bucket, Precondition};
#[cfg(feature = "postgres")]
use crate::storage::postgres::PgKeys;

/// What tells it from others: those marks name that lead to it.
const IDENTITY: &str = "moved-here";

/// A data folder, a bucket or a database.
#[derive(Clone, Debug)]
pub(in crate::runtime) enum Ground {
    Folder(PathBuf),
    #[cfg(feature = "object")]
    Bucket(Bucket),
    #[cfg(feature = "postgres")]
    Postgres(PgKeys),
}

impl Ground {
    pub(in crate::runtime) fn spot(&self) -> Spot {
        match self {
            Self::Folder(_) => Spot::Folder,
            #[cfg(feature = "object")]
            Self::Bucket(_) => Spot::Bucket,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Spot::Database,
        }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "this data folder",
            #[cfg(feature = "object")]
            Self::Bucket(_) => "this bucket",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "this database",
        }
    }

    /// Where its file `name` is, for messages.
    pub(super) fn path(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            #[cfg(feature = "object")]
            Self::Bucket(bucket) => match bucket.key(&format!(".rustaccio/{name}")) {
                Ok(key) => key.to_string(),
                Err(_) => name.to_owned(),
            },
            #[cfg(feature = "postgres")]
            Self::Postgres(keys) => keys.place(name),
        }
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<String>, RegistryError> {
        let bytes = match self {
            Self::Folder(folder) => FileKeys::new(folder.clone()).read(name).await?,
            #[cfg(feature = "object")]
            Self::Bucket(bucket) => {
                let key = bucket.key(&format!(".rustaccio/{name}"))?;
                let read = bucket.read(&key).await?;
                read.map(|read| read.bytes.to_vec())
            }
            // A row is emptied, and never removed.
            #[cfg(feature = "postgres")]
            Self::Postgres(keys) => keys.read(name).await?.filter(|value| !value.is_empty()),
        };
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes what nobody else writes meanwhile.
    pub(super) async fn write(&self, name: &str, text: &str) -> Result<(), RegistryError> {
        let is_written = match self {
            Self::Folder(folder) => {
                let files = FileKeys::new(folder.clone());
                let before = files.read(name).await?;
                files
                    .write(name, text.as_bytes(), before.as_deref())
                    .await?
            }
            #[cfg(feature = "object")]
            Self::Bucket(bucket) => {
                let key = bucket.key(&format!(".rustaccio/{name}"))?;
                let before = bucket.read(&key).await?;
                let before = before.map_or(Precondition::Absent, |before| {
                    Precondition::Matches(before.tag)
                });
                let bytes = text.to_owned().into();
                let written = bucket.write_and_look(&key, bytes, &before).await?;
                matches!(written, crate::storage::object::Written::Done(_))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(keys) => {
                let before = keys.read(name).await?;
                keys.write(name, text.as_bytes(), before.as_deref()).await?
            }
        };
        if is_written {
            return Ok(());
        }
        Err(RegistryError::Settings {
            message: format!(
                "{} is changed at the same time; stop whoever does it, and run this again",
                self.path(name)
            ),
        })
    }

    /// Takes away what may be there.
    pub(super) async fn remove(&self, name: &str) -> Result<(), RegistryError> {
        match self {
            Self::Folder(folder) => match tokio::fs::remove_file(folder.join(name)).await {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(RegistryError::internal),
            },
            #[cfg(feature = "object")]
            Self::Bucket(bucket) => {
                let key = bucket.key(&format!(".rustaccio/{name}"))?;
                Ok(bucket.delete(&key).await?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => match self.read(name).await? {
                Some(_) => self.write(name, "").await,
                None => Ok(()),
            },
        }
    }

    /// What tells it from others, if something was moved here before.
    pub(in crate::runtime) async fn identity(&self) -> Result<Option<String>, RegistryError> {
        self.read(IDENTITY).await
    }

    /// The same; it is made where nothing was.
    pub(in crate::runtime) async fn make_identity(&self) -> Result<String, RegistryError> {
        if let Some(identity) = self.identity().await? {
            return Ok(identity);
        }
        let identity = random_hex::<16>();
        self.write(IDENTITY, &identity).await?;
        Ok(identity)
    }
}
