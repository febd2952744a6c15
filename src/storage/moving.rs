//! Moving packages, accounts and keys from one backend to another. What is there already is not
//! moved again, what was moved is read back, and the source is never changed.
//!
//! A package is moved in this order: its manifest is read, the tarballs that it names are copied, the
//! manifest is written. So the target never has a manifest whose tarballs are not there, wherever
//! moving ends. No registry may be running on either end.
//!
//! What cannot be read of one package keeps nothing else from being moved: it is reported, and all that
//! the target has of it stays. Bytes that are known to be the right ones are never replaced by others.

mod accounts;
mod packages;
mod report;
mod tarballs;
mod whole;

use std::fmt;

pub use report::{Moved, Tally};
pub(super) use tarballs::{Hashing, Named, named_in};
pub use whole::{Tokens, move_whole};

use super::{
    AccountStore, Blobs, KeyStore, MetadataStore, StorageError, TemporaryFolder, secrets,
    signing_keys,
};

/// Everything that one backend keeps.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Manifests.
    pub metadata: &'p dyn MetadataStore,
    /// Tarballs.
    pub blobs: &'p dyn Blobs,
    /// Accounts.
    pub accounts: &'p dyn AccountStore,
    /// Keys.
    pub keys: &'p dyn KeyStore,
}

impl Place<'_> {
    /// Succeeds when it answers at all, whatever there is. It is asked about a package that is not among
    /// those that may be damaged.
    pub(super) async fn answers(self) -> Result<(), StorageError> {
        self.keys.read(secrets::KEY).await?;
        if let Ok(nobodys) = "a-package-that-is-not-there".parse() {
            self.metadata.stamp(&nobodys).await?;
            self.blobs.list(&nobodys).await?;
        }
        Ok(())
    }
}

/// How things are moved.
#[derive(Clone, Copy)]
pub struct Moving<'m> {
    /// Whether what is another in the target is replaced, and tokens and tarballs that only the target
    /// has are removed; else they are reported.
    pub overwrite: bool,
    /// Where tarballs are on their way; `None` where they stay where they are.
    pub tarballs: Option<&'m TemporaryFolder>,
    /// Whether the source has the tarballs of one node alone: what it lacks may have come from others.
    pub is_one_of_many: bool,
    /// Hears what was done so far, now and then.
    pub watch: &'m (dyn Fn(&Moved) + Sync),
}

impl fmt::Debug for Moving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Moving");
        shown.field("overwrite", &self.overwrite);
        shown.finish_non_exhaustive()
    }
}

/// Fails where neither end could open what the other has sealed.
pub async fn require_same_key(from: &dyn KeyStore, to: &dyn KeyStore) -> Result<(), StorageError> {
    let Some(key) = from.read(secrets::KEY).await? else {
        return Ok(());
    };
    let there = to.read(secrets::KEY).await?;
    if there.is_some_and(|there| there != key) {
        return Err(other_key());
    }
    Ok(())
}

async fn move_keys(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    for name in [secrets::KEY, signing_keys::KEYS] {
        let Some(mut value) = from.keys.read(name).await? else {
            continue;
        };
        let there = to.keys.read(name).await?;
        // Both may have signed with keys of their own.
        let is_merged = name == signing_keys::KEYS;
        if let Some(there) = &there
            && is_merged
        {
            value = signing_keys::merge(from.keys, &value, to.keys, there)?;
        }
        if there.as_ref() == Some(&value) {
            moved.keys.same += 1;
            continue;
        }
        if there.is_some() && name == secrets::KEY {
            return Err(other_key());
        }
        if there.is_some() && !is_merged && !moving.overwrite {
            moved
                .conflicts
                .push(format!("{name} is another in the target"));
            continue;
        }
        let is_written = to.keys.write(name, &value, there.as_deref()).await?;
        let read_back = to.keys.read(name).await?;
        if !is_written || read_back.as_ref() != Some(&value) {
            return Err(not_alone(name));
        }
        moved.keys.moved += 1;
    }
    Ok(())
}

fn other_key() -> StorageError {
    let message = "the target has a secret.key of its own already; move into one that no registry \
                   was started with";
    StorageError::backend("moving keys", message)
}

fn not_alone(what: &str) -> StorageError {
    let message = "it was changed at the same time; stop all registries that use the target, and \
                   run this again";
    StorageError::backend(format!("moving {what}"), message)
}
