//! [`ObjectAccounts`]: accounts as objects in a bucket.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use object_store::path::Path;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Bucket,
    bucket::{Attempts, Object},
};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{
        AccountEntry, AccountStore, AccountsError, OrganisationEdit, OrganisationRecord, Remember,
        StorageError, TokenKind, TokenRecord, UserEdit, UserRecord,
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

type Organisations = BTreeMap<String, Arc<OrganisationRecord>>;

/// Keeps each user and each token in an object, and all organisations in one.
#[derive(Clone, Debug)]
pub struct ObjectAccounts {
    bucket: Bucket,
}

fn to_json(record: &impl Serialize) -> Result<Bytes, StorageError> {
    let json = serde_json::to_vec(record);
    Ok(json
        .map_err(|error| StorageError::backend("writing accounts", error))?
        .into())
}

fn from_json<T: DeserializeOwned>(path: &Path, object: &Object) -> Result<T, StorageError> {
    serde_json::from_slice(&object.bytes).map_err(|error| StorageError::Damaged {
        what: path.to_string(),
        source: error.into(),
    })
}

impl ObjectAccounts {
    /// The accounts in `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }

    fn user_path(&self, name: &str) -> Path {
        self.bucket.path(&[USERS, name])
    }

    fn token_path(&self, key: &str) -> Path {
        self.bucket.path(&[TOKENS, key])
    }

    /// Where it is noted that the user of a token has it. Its end is part of the name, so that
    /// whoever looks for ended tokens reads none.
    fn note_path(&self, token: &TokenRecord) -> Path {
        let expires = match token.expires {
            Some(expires) => expires.unix_millis().to_string(),
            None => FOR_EVER.to_owned(),
        };
        let note = format!("{expires}.{}", token.key);
        self.bucket.path(&[TOKENS_OF, &token.user, &note])
    }

    async fn read_token(&self, key: &str) -> Result<Option<TokenRecord>, StorageError> {
        let path = self.token_path(key);
        let found = self.bucket.get(&path).await?;
        found.map(|object| from_json(&path, &object)).transpose()
    }

    /// Changes a user by compare-and-swap.
    async fn change_user(
        &self,
        name: &Username,
        edit: &mut (dyn FnMut(&mut UserRecord) -> Result<(), AccountsError> + Send),
    ) -> Result<(), AccountsError> {
        let path = self.user_path(name.as_str());
        let mut attempts = Attempts::default();
        loop {
            let found = self.bucket.get(&path).await?;
            let found = found.ok_or_else(|| AccountsError::NoSuchUser(name.clone()))?;
            let mut user: UserRecord = from_json(&path, &found)?;
            edit(&mut user)?;
            let json = to_json(&user)?;
            if self.bucket.update(&path, json, found.version).await? {
                return Ok(());
            }
            attempts.pause(&path).await?;
        }
    }

    async fn organisations(&self) -> Result<(Organisations, Option<Object>), StorageError> {
        let path = self.bucket.path(&[ORGANISATIONS]);
        let found = self.bucket.get(&path).await?;
        let organisations = match &found {
            Some(object) => from_json(&path, object)?,
            None => Organisations::new(),
        };
        Ok((organisations, found))
    }

    /// Changes the organisation `name` by compare-and-swap.
    async fn change_organisation(
        &self,
        name: &str,
        edit: &mut (dyn FnMut(&mut OrganisationRecord) -> Result<(), AccountsError> + Send),
    ) -> Result<(), AccountsError> {
        let path = self.bucket.path(&[ORGANISATIONS]);
        let mut attempts = Attempts::default();
        loop {
            let (mut organisations, found) = self.organisations().await?;
            let organisation = organisations.entry(name.to_owned()).or_default();
            edit(Arc::make_mut(organisation))?;
            let json = to_json(&organisations)?;
            let is_written = match found {
                Some(found) => self.bucket.update(&path, json, found.version).await?,
                None => self.bucket.create(&path, json).await?,
            };
            if is_written {
                return Ok(());
            }
            attempts.pause(&path).await?;
        }
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
        self.bucket.delete(&self.token_path(&token.key)).await?;
        self.bucket.delete(&self.note_path(token)).await
    }

    async fn all<T, F>(&self, folder: &str, entry: F) -> Result<Vec<T>, StorageError>
    where
        F: Fn(String, Object, &Path) -> Result<T, StorageError>,
    {
        let mut entries = Vec::new();
        for path in self.bucket.list(&self.bucket.path(&[folder])).await? {
            let name = decoded(path.filename().unwrap_or_default());
            if let Some(object) = self.bucket.get(&path).await? {
                entries.push(entry(name, object, &path)?);
            }
        }
        Ok(entries)
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
        let path = self.user_path(name.as_str());
        let found = self.bucket.get(&path).await?;
        found
            .map(|object| from_json(&path, &object).map(Arc::new))
            .transpose()
    }

    async fn user_count(&self) -> Result<usize, StorageError> {
        let users = self.bucket.list(&self.bucket.path(&[USERS])).await?;
        Ok(users.len())
    }

    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        Ok(self.read_token(key).await?.map(Arc::new))
    }

    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError> {
        let folder = self.bucket.path(&[TOKENS_OF, user.as_str()]);
        let notes = self.bucket.list(&folder).await?;
        let keys = notes.iter().filter_map(of_note);
        let paths = keys.map(|(_, key)| self.token_path(key)).collect();
        let tokens = self.bucket.get_all(paths).await?;
        let tokens = tokens
            .iter()
            .map(|token| from_json(&folder, token).map(Arc::new));
        tokens.collect()
    }

    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError> {
        let (mut organisations, _) = self.organisations().await?;
        Ok(organisations.remove(name.as_str()))
    }

    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        let (organisations, _) = self.organisations().await?;
        Ok(organisations
            .iter()
            .flat_map(|(name, organisation)| organisation.groups_of(name, user))
            .collect())
    }

    async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError> {
        let path = self.user_path(name.as_str());
        if let Some(max) = max_users
            && self.user_count().await? >= max
        {
            return Err(match self.bucket.get(&path).await? {
                Some(_) => AccountsError::UserExists,
                None => AccountsError::TooManyUsers,
            });
        }
        if !self.bucket.create(&path, to_json(&record)?).await? {
            return Err(AccountsError::UserExists);
        }
        // Others may have been created at the same time: better one too few than one too many.
        if let Some(max) = max_users
            && self.user_count().await? > max
        {
            self.bucket.delete(&path).await?;
            return Err(AccountsError::TooManyUsers);
        }
        Ok(())
    }

    async fn set_password(
        &self,
        name: &Username,
        password_hash: String,
        now: Timestamp,
        revoked: TokenKind,
    ) -> Result<Vec<String>, AccountsError> {
        if self.user(name).await?.is_none() {
            return Err(AccountsError::NoSuchUser(name.clone()));
        }
        // Before, so that none outlives the old password if this ends half-way; and after, for
        // those that were made with it meanwhile.
        let mut keys = self.revoke(name, revoked).await?;
        self.change_user(name, &mut |user| {
            user.password_hash.clone_from(&password_hash);
            user.updated = Some(now);
            Ok(())
        })
        .await?;
        keys.extend(self.revoke(name, revoked).await?);
        Ok(keys)
    }

    async fn edit_user(
        &self,
        name: &Username,
        now: Timestamp,
        edit: UserEdit<'_>,
    ) -> Result<(), AccountsError> {
        self.change_user(name, &mut |user| {
            edit(user)?;
            user.updated = Some(now);
            Ok(())
        })
        .await
    }

    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        self.change_organisation(name.as_str(), edit).await
    }

    async fn add_token(&self, record: TokenRecord) -> Result<(), StorageError> {
        // The note first: a token that is good can always be found by its user.
        self.bucket
            .overwrite(&self.note_path(&record), Bytes::new())
            .await?;
        let path = self.token_path(&record.key);
        self.bucket.overwrite(&path, to_json(&record)?).await
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
        for note in self.bucket.list(&self.bucket.path(&[TOKENS_OF])).await? {
            if let Some((Some(expires), key)) = of_note(&note)
                && expires <= now.unix_millis()
            {
                self.bucket.delete(&self.token_path(key)).await?;
                self.bucket.delete(&note).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>> {
        let all = async {
            let users = self.all(USERS, |name, object, path| {
                Ok(AccountEntry::User(
                    name,
                    from_json(path, &object).map(Arc::new)?,
                ))
            });
            let mut entries = users.await?;
            let tokens = self.all(TOKENS, |_, object, path| {
                Ok(AccountEntry::Token(from_json(path, &object).map(Arc::new)?))
            });
            entries.extend(tokens.await?);
            let (organisations, _) = self.organisations().await?;
            let organisations = organisations.into_iter();
            entries.extend(organisations.map(|(name, it)| AccountEntry::Organisation(name, it)));
            Ok(entries)
        };
        stream::once(all)
            .flat_map(
                |entries: Result<Vec<AccountEntry>, StorageError>| match entries {
                    Ok(entries) => stream::iter(entries.into_iter().map(Ok)).boxed(),
                    Err(error) => stream::iter([Err(error)]).boxed(),
                },
            )
            .boxed()
    }

    async fn import(&self, entry: AccountEntry) -> Result<(), StorageError> {
        match entry {
            AccountEntry::User(name, user) => {
                let path = self.user_path(&name);
                self.bucket.overwrite(&path, to_json(&*user)?).await
            }
            AccountEntry::Token(token) => self.add_token((*token).clone()).await,
            AccountEntry::Organisation(name, organisation) => {
                let mut replace = |stored: &mut OrganisationRecord| {
                    stored.clone_from(&organisation);
                    Ok(())
                };
                let changed = self.change_organisation(&name, &mut replace);
                changed.await.map_err(|error| match error {
                    AccountsError::Storage(error) => error,
                    error => StorageError::backend("writing accounts", error),
                })
            }
        }
    }

    fn remember(&self) -> Remember {
        Remember::For(REVOKED_WITHIN)
    }
}
