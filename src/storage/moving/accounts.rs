//! Moving accounts: users, tokens and organisations.

use std::{collections::BTreeSet, fmt};

use futures_util::TryStreamExt as _;

use super::{Moved, not_alone};
use crate::{
    models::{Organisation, Username},
    storage::{AccountEntry, AccountStore, StorageError},
};

/// How many accounts are moved at once.
const AT_ONCE: usize = 64;

pub(super) async fn move_accounts(
    from: &dyn AccountStore,
    to: &dyn AccountStore,
    overwrite: bool,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let mut tokens = BTreeSet::new();
    // Several at once: a file takes them all in one write.
    let outcomes = from.entries().map_ok(|entry| async move {
        let outcome = move_account(to, &entry, overwrite).await?;
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
    let there: Vec<AccountEntry> = to.entries().try_collect().await?;
    for entry in there {
        let AccountEntry::Token(token) = &entry else {
            continue;
        };
        if tokens.contains(&token.key) {
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
