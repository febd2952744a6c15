//! Snapshots: whole copies of everything, each in a data folder of its own that is never changed again.
//! What an earlier one has of a tarball is linked, so that the disk holds each once.
//!
//! **Links are safe** because no registry ever writes into the file of a tarball: it is made whole under
//! another name and linked or renamed into its place, replaced by a rename, and taken away by removing or
//! moving its name. So a snapshot may be served, published to and repaired, and none of that reaches
//! the others. Manifests, accounts and keys are never linked.
//!
//! Of each package the manifest is read first, then the tarballs that it names are taken. Tarballs
//! never change, and a publish stores them before the manifest: so all that a manifest names is there
//! when it is read. Only unpublishing takes some away, after a new manifest: where one is not as it
//! should be, the manifest is read again. The other way round, a manifest could name what came later.
//!
//! What cannot be read is taken from the snapshot before, so that none is worse than that; and it is named.
//! Failures of the snapshot's own disk end it: nothing has come of it then.

mod contents;
mod earlier;
mod packages;
mod report;

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt as _;

pub use earlier::Earlier;
pub use report::Taken;

use self::packages::Filling;
use super::{
    AccountEntry, AccountStore, FileAccounts, KeyStore, Layout, Place, SigningKeys, StorageError,
    TemporaryFolder,
    fs::{
        FsBlobs, FsMetadata,
        atomic::{
            MODE_SECRET, create_folder_synced, sync_folder, sync_parent, write_atomic, write_synced,
        },
        blocking,
        secret::read_foreign,
    },
    secrets, signing_keys,
};
use crate::lifecycle::crash_point;

/// The file of the accounts.
const ACCOUNTS: &str = "state.json";

/// What a snapshot is made of.
#[derive(Clone, Copy)]
pub struct Snapshotting<'s> {
    /// What is copied. It is only read.
    pub from: Place<'s>,
    /// What there is already, newest first; only the last one may be as it was made.
    pub earlier: &'s [Earlier],
    /// Whether the source has the tarballs of one node alone: what it lacks may have come from others.
    pub is_one_of_many: bool,
    /// Whether the source may have tarballs of packages that have no manifest.
    pub may_have_lost: bool,
    /// Whether what is linked is read, and compared with its manifest.
    pub verify: bool,
    /// Hears what was done so far, now and then.
    pub watch: &'s (dyn Fn(&Taken) + Sync),
}

impl fmt::Debug for Snapshotting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Snapshotting");
        shown.field("earlier", &self.earlier);
        shown.finish_non_exhaustive()
    }
}

/// The keys of a registry, as far as they tell it from others.
#[derive(Clone)]
pub struct KeysOf {
    secret: Option<Vec<u8>>,
    signing: Option<Vec<u8>>,
    ids: BTreeSet<String>,
}

impl fmt::Debug for KeysOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysOf")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

impl KeysOf {
    /// Reads them.
    pub async fn read(keys: &dyn KeyStore) -> Result<Self, StorageError> {
        let listed = SigningKeys::list(keys).await?;
        Ok(Self {
            secret: keys.read(secrets::KEY).await?,
            signing: keys.read(signing_keys::KEYS).await?,
            ids: listed.into_iter().map(|key| key.keyid).collect(),
        })
    }

    /// Why they are not those of the registry that had `earlier` keys; `None` if they may be.
    pub fn differ_from(&self, earlier: &Self) -> Option<&'static str> {
        match (&self.secret, &earlier.secret) {
            (Some(own), Some(earlier)) if own != earlier => {
                return Some("has another secret.key than the backup");
            }
            (Some(_), None) => return Some("has a secret.key, and the backup has none"),
            (None, Some(_)) => return Some("has no secret.key, and the backup has one"),
            _ => {}
        }
        // Those that were replaced stay among them.
        if earlier.ids.is_empty() || !self.ids.is_disjoint(&earlier.ids) {
            None
        } else {
            Some("has none of the signing keys that the backup has")
        }
    }
}

/// A snapshot that is being made, in a folder that nobody takes for one yet.
#[derive(Debug)]
pub struct Snapshot<'s> {
    making: Snapshotting<'s>,
    folder: PathBuf,
    filling: Filling<'s>,
}

impl<'s> Snapshot<'s> {
    /// Begins one in `folder`, which must not be there.
    pub async fn begin(folder: PathBuf, making: Snapshotting<'s>) -> Result<Self, StorageError> {
        let layout = Layout::native(folder.join("tarballs"));
        let (root, tmp) = (layout.root().to_owned(), folder.join("tmp"));
        let temporary = blocking(move || {
            create_folder_synced(&root)
                .map_err(|error| StorageError::io(format!("making {}", root.display()), error))?;
            TemporaryFolder::open(&tmp)
        })
        .await?;
        let blobs = FsBlobs::new(
            layout.clone(),
            FsMetadata::foreign(layout.clone()),
            folder.join("quarantine"),
        );
        Ok(Self {
            making,
            folder,
            filling: Filling::new(making, layout, blobs, temporary),
        })
    }

    /// Takes all packages.
    pub async fn take_packages(&self) -> Result<Taken, StorageError> {
        self.filling.take_all(self.making.watch).await
    }

    /// Takes the accounts, after packages: whoever may do something with them is there. Those of the
    /// snapshot before, where `accounts` say why there are none.
    pub async fn take_accounts(
        &self,
        accounts: Result<&dyn AccountStore, String>,
        taken: &mut Taken,
    ) -> Result<(), StorageError> {
        let entries: Result<Vec<AccountEntry>, String> = match accounts {
            Ok(accounts) => {
                let entries = accounts.entries().try_collect().await;
                entries.map_err(|error: StorageError| crate::error::explain(&error))
            }
            Err(reason) => Err(reason),
        };
        let path = self.folder.join(ACCOUNTS);
        match entries {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => taken.accounts = FileAccounts::make(path, entries).await?,
            Err(reason) => {
                let is_there = self.take_old_accounts(path).await?;
                taken.lacks(if is_there {
                    format!("as they were in the snapshot before: accounts: {reason}")
                } else {
                    format!("failed: accounts: {reason}")
                });
            }
        }
        Ok(())
    }

    async fn take_old_accounts(&self, path: PathBuf) -> Result<bool, StorageError> {
        let Some(base) = earlier::base(self.making.earlier) else {
            return Ok(false);
        };
        let from = base.folder().join(ACCOUNTS);
        let bytes = blocking(move || {
            read_foreign(&from)
                .map_err(|error| StorageError::io(format!("reading {}", from.display()), error))
        });
        // Where that cannot be read either, nothing is.
        let Ok(Some(bytes)) = bytes.await else {
            return Ok(false);
        };
        write(path, bytes).await?;
        Ok(true)
    }

    /// Takes the keys.
    pub async fn take_keys(&self, keys: &KeysOf) -> Result<(), StorageError> {
        for (name, value) in [
            (secrets::KEY, &keys.secret),
            (signing_keys::KEYS, &keys.signing),
        ] {
            if let Some(value) = value {
                write(self.folder.join(name), value.clone()).await?;
            }
        }
        Ok(())
    }

    /// Gives it its name `to`, durably and in one step, with a file `name` that says `text`.
    pub async fn finish(self, to: PathBuf, name: &str, text: String) -> Result<(), StorageError> {
        let state = self.folder.join(name);
        let folder = self.folder;
        drop(self.filling);
        blocking(move || {
            let contents = contents::of(&folder)?;
            let failed = |error| StorageError::io(format!("making {}", to.display()), error);
            write_synced(
                &folder.join(contents::NAME),
                contents.as_bytes(),
                MODE_SECRET,
            )
            .and_then(|()| write_synced(&state, text.as_bytes(), MODE_SECRET))
            .and_then(|()| fs::remove_dir_all(folder.join("tmp")))
            .and_then(|()| sync_folder(&folder.join("tarballs")))
            .and_then(|()| sync_folder(&folder))
            .map_err(failed)?;
            crash_point("snapshot-filled");
            fs::rename(&folder, &to)
                .and_then(|()| sync_parent(&to))
                .map_err(failed)?;
            crash_point("snapshot-placed");
            Ok(())
        })
        .await
    }
}

/// Writes the file `path`, durably, and reads it again.
async fn write(path: PathBuf, bytes: Vec<u8>) -> Result<(), StorageError> {
    blocking(move || {
        let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
        write_atomic(&path, &bytes, MODE_SECRET).map_err(failed)?;
        is_read_back(&path, &bytes)
    })
    .await
}

/// Fails where `path` does not have `bytes`. Blocks.
fn is_read_back(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let failed = |error| StorageError::io(format!("reading {}", path.display()), error);
    if read_foreign(path).map_err(failed)?.as_deref() == Some(bytes) {
        return Ok(());
    }
    let message = "what was written reads as something else";
    Err(failed(std::io::Error::other(message)))
}
