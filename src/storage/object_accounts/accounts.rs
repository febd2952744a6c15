//! [`ObjectAccounts`]: accounts as objects in a bucket.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;

use super::{Records, records::Kept};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{
        AccountEntry, AccountStore, AccountsError, Leases, OrganisationEdit, OrganisationRecord,
        Remember, StorageError, TokenKind, TokenRecord, UserEdit, UserRecord, accounts::groups_in,
        object::Precondition,
    },
};

/// The longest that a token which another node has revoked still works, that a changed password is
/// asked for as it was, and that groups last.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(2);

const USERS: &str = "users";
const TOKENS: &str = "tokens";
const TOKENS_OF: &str = "tokens-of";
const ORGANISATIONS: &str = "organisations";
const FOR_EVER: &str = "never";

/// The length of `null`, which is what a user who came too late leaves.
const NOBODY: u64 = 4;
/// Whose turn it is to change what all accounts have in common.
const TURN: &str = "state";

type Organisations = BTreeMap<String, Arc<OrganisationRecord>>;

/// Keeps each user and each token in an object, and all organisations in one.
///
/// Nodes that take turns do so where they would be in each other's way: at the organisations, and
/// where users are counted. A user's own object is changed by hardly anybody but her.
#[derive(Clone, Debug)]
pub struct ObjectAccounts {
    records: Records,
    leases: Leases,
}

impl ObjectAccounts {
    /// The accounts among `records`, changed in turn as far as `leases` go.
    pub fn new(records: Records, leases: Leases) -> Self {
        Self { records, leases }
    }

    fn user_path(&self, name: &str) -> Path {
        self.records.path(&[USERS, name])
    }

    fn token_path(&self, key: &str) -> Path {
        self.records.path(&[TOKENS, key])
    }

    /// Where it is noted that the user of a token has it. Its end is part of the name, so that
    /// whoever looks for ended tokens reads none.
    fn note_path(&self, token: &TokenRecord) -> Path {
        let expires = match token.expires {
            Some(expires) => expires.unix_millis().to_string(),
            None => FOR_EVER.to_owned(),
        };
        let note = format!("{expires}.{}", token.key);
        self.records.path(&[TOKENS_OF, &token.user, &note])
    }

    async fn read_token(&self, key: &str) -> Result<Option<TokenRecord>, StorageError> {
        let found = self.records.get(&self.token_path(key)).await?;
        Ok(found.map(|token| token.record))
    }

    /// The user at `path`, and what has to be true for changing her.
    async fn read_user(
        &self,
        path: &Path,
    ) -> Result<(Option<UserRecord>, Precondition), StorageError> {
        Ok(match self.records.get(path).await? {
            Some(Kept { record, tag }) => (record, Precondition::Matches(tag)),
            None => (None, Precondition::Absent),
        })
    }

    async fn organisations(&self) -> Result<Organisations, StorageError> {
        let found = self
            .records
            .get(&self.records.path(&[ORGANISATIONS]))
            .await?;
        Ok(found.map(|all| all.record).unwrap_or_default())
    }

    /// Changes the organisation `name`.
    async fn change_organisation(
        &self,
        name: &str,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        let _turn = self.leases.hold(TURN).await?;
        let path = self.records.path(&[ORGANISATIONS]);
        let edit = |all: Option<Organisations>| {
            let mut all = all.unwrap_or_default();
            edit(Arc::make_mut(all.entry(name.to_owned()).or_default()))?;
            Ok::<_, AccountsError>(all)
        };
        self.records.change(&path, edit).await
    }

    /// Removes the tokens of `user` that are of the kind `revoked`. Their keys.
    async fn revoke(
        &self,
        user: &Username,
        revoked: TokenKind,
    ) -> Result<Vec<String>, StorageError> {
        let mut keys = Vec::new();
        for token in self.tokens_of(user).await? {
            if token.kind == revoked {
                self.remove(&token).await?;
                keys.push(token.key.clone());
            }
        }
        Ok(keys)
    }

    /// Removes a token and then its note: one that is good can always be found by its user.
    async fn remove(&self, token: &TokenRecord) -> Result<(), StorageError> {
        self.records.delete(&self.token_path(&token.key)).await?;
        self.records.delete(&self.note_path(token)).await
    }

    async fn put_token(&self, token: &TokenRecord) -> Result<(), StorageError> {
        // The note first: a token that is good can always be found by its user.
        let note = self.note_path(token);
        self.records.put_own_bytes(&note, Bytes::new()).await?;
        let path = self.token_path(&token.key);
        self.records.put_own(&path, token).await
    }

    async fn all_entries(&self) -> Result<Vec<AccountEntry>, StorageError> {
        let paths = |listed: Vec<(Path, u64)>| listed.into_iter().map(|(path, _)| path).collect();
        let users = paths(self.records.list(&[USERS]).await?);
        let users = self.records.get_all::<Option<UserRecord>>(users).await?;
        let users = users.into_iter().filter_map(|(path, user)| {
            let name = decoded(path.filename()?);
            Some(AccountEntry::User(name, Arc::new(user?)))
        });
        let tokens = paths(self.records.list(&[TOKENS]).await?);
        let tokens = self.records.get_all(tokens).await?.into_iter();
        let tokens = tokens.map(|(_, token)| AccountEntry::Token(Arc::new(token)));
        let organisations = self.organisations().await?.into_iter();
        let organisations = organisations.map(|(name, it)| AccountEntry::Organisation(name, it));
        Ok(users.chain(tokens).chain(organisations).collect())
    }
}

/// The name that a key was made from.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part)
        .decode_utf8_lossy()
        .into_owned()
}

/// The end and the hash of a token, from its note.
fn of_note(path: &Path) -> Option<(Option<i64>, &str)> {
    let (expires, key) = path.filename()?.split_once('.')?;
    match expires {
        FOR_EVER => Some((None, key)),
        expires => Some((Some(expires.parse().ok()?), key)),
    }
}

#[async_trait]
impl AccountStore for ObjectAccounts {
    async fn user(&self, name: &Username) -> Result<Option<Arc<UserRecord>>, StorageError> {
        let (user, _) = self.read_user(&self.user_path(name.as_str())).await?;
        Ok(user.map(Arc::new))
    }

    async fn user_count(&self) -> Result<usize, StorageError> {
        let users = self.records.list(&[USERS]).await?;
        Ok(users.iter().filter(|(_, length)| *length != NOBODY).count())
    }

    async fn users_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Arc<UserRecord>)>, StorageError> {
        let after = after.map(|name| self.user_path(name));
        let mut users = Vec::new();
        let mut paths = self.records.list_after(&[USERS], after.as_ref());
        while users.len() < most {
            let wanted = most - users.len();
            let page: Vec<Path> = paths.by_ref().take(wanted).try_collect().await?;
            let is_last = page.len() < wanted;
            let mut read = self.records.get_all::<Option<UserRecord>>(page).await?;
            read.sort_by(|(one, _), (other, _)| one.cmp(other));
            users.extend(read.into_iter().filter_map(|(path, user)| {
                // A name of whose user there is nothing any more is only reserved.
                Some((decoded(path.filename()?), Arc::new(user?)))
            }));
            if is_last {
                break;
            }
        }
        Ok(users)
    }

    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        Ok(self.read_token(key).await?.map(Arc::new))
    }

    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError> {
        let notes = self.records.list(&[TOKENS_OF, user.as_str()]).await?;
        let keys = notes.iter().filter_map(|(note, _)| of_note(note));
        let paths = keys.map(|(_, key)| self.token_path(key)).collect();
        let tokens = self.records.get_all(paths).await?.into_iter();
        Ok(tokens.map(|(_, token)| Arc::new(token)).collect())
    }

    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError> {
        Ok(self.organisations().await?.remove(name.as_str()))
    }

    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        Ok(groups_in(&self.organisations().await?, user))
    }

    async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError> {
        let path = self.user_path(name.as_str());
        let Some(max) = max_users else {
            return self.add_user(&path, &record).await.map(drop);
        };
        let _turn = self.leases.hold(TURN).await?;
        if self.user_count().await? >= max {
            let (known, _) = self.read_user(&path).await?;
            return Err(match known {
                Some(_) => AccountsError::UserExists,
                None => AccountsError::TooManyUsers,
            });
        }
        let added = self.add_user(&path, &record).await?;
        // Others may have been added at the same time: better one too few than one too many.
        if self.user_count().await? > max {
            let nobody: Option<UserRecord> = None;
            self.records.put(&path, &nobody, &added).await?;
            return Err(AccountsError::TooManyUsers);
        }
        Ok(())
    }

    async fn edit_user(
        &self,
        name: &Username,
        edit: UserEdit<'_>,
        revoked: Option<TokenKind>,
    ) -> Result<Vec<String>, AccountsError> {
        let path = self.user_path(name.as_str());
        let mut edit = |user: Option<UserRecord>| {
            let mut user = user.ok_or_else(|| AccountsError::NoSuchUser(name.clone()))?;
            edit(&mut user)?;
            Ok::<_, AccountsError>(user)
        };
        let mut keys = Vec::new();
        if let Some(kind) = revoked {
            // What is refused ends no tokens.
            let (user, _) = self.read_user(&path).await?;
            edit(user)?;
            // Before, so that none outlives the change if this ends half-way; and after, for those
            // that were made meanwhile.
            keys.extend(self.revoke(name, kind).await?);
        }
        let change = |user: Option<Option<UserRecord>>| edit(user.flatten()).map(Some);
        self.records.change(&path, change).await?;
        if let Some(kind) = revoked {
            keys.extend(self.revoke(name, kind).await?);
        }
        Ok(keys)
    }

    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        self.change_organisation(name.as_str(), edit).await
    }

    async fn remove_token(&self, key: &str) -> Result<bool, StorageError> {
        let Some(token) = self.read_token(key).await? else {
            return Ok(false);
        };
        self.remove(&token).await?;
        Ok(true)
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StorageError> {
        let mut count = 0;
        for (note, _) in self.records.list(&[TOKENS_OF]).await? {
            if let Some((Some(expires), key)) = of_note(&note)
                && expires <= now.unix_millis()
            {
                self.records.delete(&self.token_path(key)).await?;
                self.records.delete(&note).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>> {
        let entries = stream::once(self.all_entries()).flat_map(|entries| match entries {
            Ok(entries) => stream::iter(entries.into_iter().map(Ok)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        entries.boxed()
    }

    async fn put(&self, entry: AccountEntry) -> Result<(), StorageError> {
        match entry {
            AccountEntry::User(name, user) => {
                self.records.put_own(&self.user_path(&name), &*user).await
            }
            AccountEntry::Token(token) => self.put_token(&token).await,
            AccountEntry::Organisation(name, organisation) => {
                let mut replace = |stored: &mut OrganisationRecord| {
                    stored.clone_from(&organisation);
                    Ok(())
                };
                let changed = self.change_organisation(&name, &mut replace);
                changed.await.map_err(AccountsError::into_storage)
            }
        }
    }

    fn remember(&self) -> Remember {
        Remember::For(REVOKED_WITHIN)
    }
}

impl ObjectAccounts {
    /// Adds a user at `path`; what has to be true for taking her back.
    async fn add_user(
        &self,
        path: &Path,
        user: &UserRecord,
    ) -> Result<Precondition, AccountsError> {
        let (known, precondition) = self.read_user(path).await?;
        if known.is_some() {
            return Err(AccountsError::UserExists);
        }
        match self.records.put(path, user, &precondition).await? {
            Some(tag) => Ok(Precondition::Matches(tag)),
            None => Err(AccountsError::UserExists),
        }
    }
}
