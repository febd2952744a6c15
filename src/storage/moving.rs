//! Moving packages, accounts and keys from one backend to another. What is there already is not
//! moved again, what was moved is read back, and the source is never changed.
//!
//! A package is moved in this order: its manifest is read, the tarballs that it names are copied, the
//! manifest is written. So the target never has a manifest whose tarballs are not there, wherever
//! moving ends. It also makes a copy of a registry that goes on serving: tarballs never change, and a
//! publish stores them before the manifest, so that all that a manifest names is there when it is
//! read. Only unpublishing takes some away, after a new manifest: where one is not there any more, the
//! manifest is read again. The other way round (tarballs first) a manifest could name what came later.

mod packages;

use std::{collections::BTreeSet, fmt};

use futures_util::TryStreamExt as _;

use super::{
    AccountEntry, AccountStore, Blobs, KeyStore, MetadataStore, StorageError, TemporaryFolder,
    secrets, signing_keys,
};
use crate::models::{Organisation, Username};

/// How many accounts are moved at once.
const AT_ONCE: usize = 64;

/// What has become of things of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Moved now.
    pub moved: usize,
    /// There already, as in the source.
    pub same: usize,
    /// Taken from the target, because the source does not have them.
    pub removed: usize,
}

/// What has come of moving everything.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// Keys.
    pub keys: Tally,
    /// Users, tokens and organisations.
    pub accounts: Tally,
    /// Manifests.
    pub packages: Tally,
    /// Tarballs; none where they stay where they are.
    pub tarballs: Tally,
    /// Tarballs that a manifest names and the source does not have.
    pub absent: usize,
    /// What is another in the target, and was left as it is there.
    pub conflicts: Vec<String>,
}

impl Moved {
    /// Whether the target has all of the source, and nothing that contradicts it.
    pub fn is_complete(&self) -> bool {
        self.conflicts.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} moved, {} there already", self.moved, self.same)?;
        if self.removed > 0 {
            write!(
                f,
                ", {} removed that the source does not have",
                self.removed
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "keys: {}", self.keys)?;
        writeln!(f, "accounts: {}", self.accounts)?;
        write!(f, "packages: {}", self.packages)?;
        if self.tarballs != Tally::default() {
            write!(f, "\ntarballs: {}", self.tarballs)?;
        }
        if self.absent > 0 {
            let count = self.absent;
            write!(
                f,
                "\ntarballs that a manifest names and nobody has: {count}"
            )?;
        }
        for conflict in &self.conflicts {
            write!(f, "\nleft as it is: {conflict}")?;
        }
        Ok(())
    }
}

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

/// How things are moved.
#[derive(Clone, Copy)]
pub struct Moving<'m> {
    /// Whether what is another in the target is replaced, and tokens and tarballs that only the target
    /// has are removed; else they are reported.
    pub overwrite: bool,
    /// Where tarballs are on their way; `None` where they stay where they are.
    pub tarballs: Option<&'m TemporaryFolder>,
    /// Whether a registry goes on changing the source.
    pub is_live: bool,
    /// Hears what was done so far, now and then.
    pub watch: &'m (dyn Fn(&Moved) + Sync),
}

impl fmt::Debug for Moving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Moving");
        shown.field("overwrite", &self.overwrite);
        shown.field("is_live", &self.is_live);
        shown.finish_non_exhaustive()
    }
}

/// Copies everything of `from` to `to`. Can be run again after it was interrupted.
pub async fn move_everything(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
) -> Result<Moved, StorageError> {
    let mut moved = Moved::default();
    move_keys(from, to, moving.overwrite, &mut moved).await?;
    packages::move_packages(from, to, moving, &mut moved).await?;
    move_accounts(from, to, moving.overwrite, &mut moved).await?;
    if moving.is_live {
        // What was published meanwhile may be signed with a new key.
        let mut again = Moved::default();
        move_keys(from, to, moving.overwrite, &mut again).await?;
        moved.keys.moved += again.keys.moved;
    }
    Ok(moved)
}

async fn move_keys(
    from: Place<'_>,
    to: Place<'_>,
    overwrite: bool,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    for name in [secrets::KEY, signing_keys::KEYS] {
        let Some(value) = from.keys.read(name).await? else {
            continue;
        };
        let there = to.keys.read(name).await?;
        if there.as_ref() == Some(&value) {
            moved.keys.same += 1;
            continue;
        }
        if there.is_some() && name == secrets::KEY {
            // Neither can open what the other has sealed.
            let message = "the target has a secret.key of its own already; move into one that no \
                           registry was started with";
            return Err(StorageError::backend("moving keys", message));
        }
        if there.is_some() && !overwrite {
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

async fn move_accounts(
    from: Place<'_>,
    to: Place<'_>,
    overwrite: bool,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let mut tokens = BTreeSet::new();
    // Several at once: a file takes them all in one write.
    let outcomes = from.accounts.entries().map_ok(|entry| async move {
        let outcome = move_account(to.accounts, &entry, overwrite).await?;
        Ok((entry, outcome))
    });
    let mut outcomes = outcomes.try_buffer_unordered(AT_ONCE);
    while let Some((entry, outcome)) = outcomes.try_next().await? {
        match outcome {
            Outcome::Moved => moved.accounts.moved += 1,
            Outcome::Same => moved.accounts.same += 1,
            Outcome::Left => {
                let what = describe(&entry);
                moved
                    .conflicts
                    .push(format!("{what} is another in the target"));
            }
        }
        if let AccountEntry::Token(token) = &entry {
            tokens.insert(token.key.clone());
        }
    }
    // What was revoked here must not be good again there.
    let there: Vec<AccountEntry> = to.accounts.entries().try_collect().await?;
    for entry in there {
        let AccountEntry::Token(token) = &entry else {
            continue;
        };
        if tokens.contains(&token.key) {
            continue;
        }
        if overwrite {
            to.accounts.remove_token(&token.key).await?;
            moved.accounts.removed += 1;
        } else {
            let what = describe(&entry);
            moved
                .conflicts
                .push(format!("{what} is only in the target"));
        }
    }
    Ok(())
}

enum Outcome {
    Moved,
    Same,
    Left,
}

async fn move_account(
    accounts: &dyn AccountStore,
    entry: &AccountEntry,
    overwrite: bool,
) -> Result<Outcome, StorageError> {
    match current(accounts, entry).await? {
        There::Same => return Ok(Outcome::Same),
        There::Another if !overwrite => return Ok(Outcome::Left),
        There::Another | There::Nothing => {}
    }
    accounts.put(entry.clone()).await?;
    if matches!(current(accounts, entry).await?, There::Same) {
        Ok(Outcome::Moved)
    } else {
        Err(not_alone(&describe(entry)))
    }
}

enum There {
    Nothing,
    Same,
    Another,
}

/// What `accounts` has in the place of `entry`.
async fn current(accounts: &dyn AccountStore, entry: &AccountEntry) -> Result<There, StorageError> {
    let unusable = |name: &str, error: &dyn fmt::Display| {
        StorageError::backend(format!("moving the account `{name}`"), error.to_string())
    };
    let is_same = match entry {
        AccountEntry::User(name, user) => {
            let name: Username = name.parse().map_err(|error| unusable(name, &error))?;
            accounts.user(&name).await?.map(|there| there == *user)
        }
        AccountEntry::Token(token) => {
            let there = accounts.token(&token.key).await?;
            there.map(|there| there == *token)
        }
        AccountEntry::Organisation(name, organisation) => {
            let name: Organisation = name.parse().map_err(|error| unusable(name, &error))?;
            let there = accounts.organisation(&name).await?;
            there.map(|there| there == *organisation)
        }
    };
    Ok(match is_same {
        None => There::Nothing,
        Some(true) => There::Same,
        Some(false) => There::Another,
    })
}

fn describe(entry: &AccountEntry) -> String {
    match entry {
        AccountEntry::User(name, _) => format!("the user `{name}`"),
        AccountEntry::Token(token) => format!("the token {}… of `{}`", token.prefix, token.user),
        AccountEntry::Organisation(name, _) => format!("the organisation `{name}`"),
    }
}

fn not_alone(what: &str) -> StorageError {
    let message = "it was changed at the same time; stop all registries that use the target, and \
                   run this again";
    StorageError::backend(format!("moving {what}"), message)
}
