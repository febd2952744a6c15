//! Moving accounts: users, tokens and organisations.

use std::{collections::BTreeSet, fmt, future::ready, pin::pin};

use futures_core::Stream;
use futures_util::TryStreamExt as _;

use super::{Moved, Tokens, not_alone};
use crate::{
    models::{Organisation, Username},
    storage::{AccountEntry, AccountStore, StorageError},
};

/// How many accounts are moved at once.
const AT_ONCE: usize = 64;

/// Moves users and organisations.
pub(super) async fn move_owners(
    from: &dyn AccountStore,
    to: &dyn AccountStore,
    overwrite: bool,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let owners = from.entries();
    let owners = owners.try_filter(|entry| ready(!matches!(entry, AccountEntry::Token(_))));
    move_entries(owners, to, |there| may_put(there, overwrite), moved).await
}

/// Moves tokens. Those that only the target has were revoked in the source.
pub(super) async fn move_tokens(
    from: &dyn AccountStore,
    to: &dyn AccountStore,
    overwrite: bool,
    new: Tokens,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let mut keys = BTreeSet::new();
    let tokens = from.entries().try_filter(|entry| {
        if let AccountEntry::Token(token) = entry {
            keys.insert(token.key.clone());
        }
        ready(matches!(entry, AccountEntry::Token(_)))
    });
    let may_put = |there: &There| match (there, new) {
        (There::Nothing, Tokens::OnlyIn(source)) => Err(format!("is only in {source}")),
        _ => may_put(there, overwrite),
    };
    move_entries(tokens, to, may_put, moved).await?;
    // What was revoked here must not be good again there.
    let there: Vec<AccountEntry> = to.entries().try_collect().await?;
    for entry in there {
        let AccountEntry::Token(token) = &entry else {
            continue;
        };
        if keys.contains(&token.key) {
            continue;
        }
        if overwrite {
            to.remove_token(&token.key).await?;
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

/// Why an account is left as it is, if it is.
fn may_put(there: &There, overwrite: bool) -> Result<(), String> {
    match there {
        There::Another if !overwrite => Err("is another in the target".to_owned()),
        _ => Ok(()),
    }
}

async fn move_entries(
    entries: impl Stream<Item = Result<AccountEntry, StorageError>>,
    to: &dyn AccountStore,
    may_put: impl Fn(&There) -> Result<(), String>,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let may_put = &may_put;
    // Several at once: a file takes them all in one write.
    let outcomes = entries.map_ok(|entry| async move { move_account(to, &entry, may_put).await });
    let mut outcomes = pin!(outcomes.try_buffer_unordered(AT_ONCE));
    while let Some(outcome) = outcomes.try_next().await? {
        match outcome {
            Outcome::Moved => moved.accounts.moved += 1,
            Outcome::Same => moved.accounts.same += 1,
            Outcome::Left(why) => moved.conflicts.push(why),
        }
    }
    Ok(())
}

enum Outcome {
    Moved,
    Same,
    /// With the reason.
    Left(String),
}

async fn move_account(
    accounts: &dyn AccountStore,
    entry: &AccountEntry,
    may_put: impl Fn(&There) -> Result<(), String>,
) -> Result<Outcome, StorageError> {
    let there = current(accounts, entry).await?;
    if matches!(there, There::Same) {
        return Ok(Outcome::Same);
    }
    if let Err(why) = may_put(&there) {
        return Ok(Outcome::Left(format!("{} {why}", describe(entry))));
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
