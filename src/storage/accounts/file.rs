//! [`Accounts`]: accounts of a single node, in `state.json`.

use std::{path::PathBuf, sync::Arc};

use parking_lot::{Mutex, RwLock};

use super::{
    OrganisationRecord,
    state::{AccountsError, State, TokenRecord, UserRecord},
};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{
        StorageError,
        fs::{
            atomic::{MODE_SECRET, create_folder_synced, write_atomic},
            blocking,
            secret::read_secret,
        },
    },
};

/// Users, tokens and organisations, kept in one file that is replaced atomically. Cheap to clone.
///
/// A change returns when it is durable. Changes that come while the file is being written go into
/// the next write together, so that many at once cost few writes. Reads see durable states only.
#[derive(Clone, Debug)]
pub struct Accounts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pending: Mutex<Numbered>,
    durable: RwLock<Numbered>,
    writer: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Numbered {
    number: u64,
    state: Arc<State>,
}

impl Accounts {
    /// Opens the file; a missing or empty one has no users. A damaged one is an error and is left
    /// as it is.
    pub async fn open(path: PathBuf) -> Result<Self, StorageError> {
        blocking(move || Self::open_blocking(path)).await
    }

    fn open_blocking(path: PathBuf) -> Result<Self, StorageError> {
        let failed = |error| StorageError::io(format!("opening {}", path.display()), error);
        if let Some(folder) = path.parent() {
            create_folder_synced(folder).map_err(failed)?;
        }
        let json = read_secret(&path).map_err(failed)?.unwrap_or_default();
        let (state, had_raw_tokens) =
            State::from_json(&json).map_err(|error| StorageError::Damaged {
                what: path.display().to_string(),
                source: error.into(),
            })?;
        if had_raw_tokens {
            let json = state.to_json().map_err(|error| failed(error.into()))?;
            write_atomic(&path, &json, MODE_SECRET).map_err(failed)?;
            tracing::info!(path = %path.display(), "tokens are kept as hashes from now on");
        }
        let numbered = Numbered {
            number: 0,
            state: Arc::new(state),
        };
        let inner = Inner {
            path,
            pending: Mutex::new(numbered.clone()),
            durable: RwLock::new(numbered),
            writer: tokio::sync::Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The user of this name.
    pub fn user(&self, name: &Username) -> Option<Arc<UserRecord>> {
        self.state().users.get(name.as_str()).cloned()
    }

    /// How many users there are.
    pub fn user_count(&self) -> usize {
        self.state().users.len()
    }

    /// The token with this hash.
    pub fn token(&self, key: &str) -> Option<Arc<TokenRecord>> {
        self.state().tokens.get(key).cloned()
    }

    /// All tokens of `user`, by key.
    pub fn tokens_of(&self, user: &Username) -> Vec<Arc<TokenRecord>> {
        let state = self.state();
        let tokens = state.tokens.values();
        tokens
            .filter(|token| token.user == user.as_str())
            .cloned()
            .collect()
    }

    /// Adds a user, unless the name is taken or there are `max_users` already.
    pub async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError> {
        self.change(|state| {
            if state.users.contains_key(name.as_str()) {
                return Err(AccountsError::UserExists);
            }
            if max_users.is_some_and(|max| state.users.len() >= max) {
                return Err(AccountsError::TooManyUsers);
            }
            state
                .users
                .insert(name.as_str().to_owned(), Arc::new(record));
            Ok(())
        })
        .await
    }

    /// Changes a user's password hash and revokes the tokens that `revoke` picks. Their keys.
    pub async fn set_password(
        &self,
        name: &Username,
        password_hash: String,
        now: Timestamp,
        revoke: impl Fn(&TokenRecord) -> bool,
    ) -> Result<Vec<String>, AccountsError> {
        self.change(|state| {
            let user = user_mut(state, name)?;
            user.password_hash = password_hash;
            user.updated = Some(now);
            Ok(remove_tokens(state, |token| {
                token.user == name.as_str() && revoke(token)
            }))
        })
        .await
    }

    /// Changes what is kept about a user.
    pub async fn edit_user<T>(
        &self,
        name: &Username,
        now: Timestamp,
        edit: impl FnOnce(&mut UserRecord) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        self.change(|state| {
            let user = user_mut(state, name)?;
            let value = edit(user)?;
            user.updated = Some(now);
            Ok(value)
        })
        .await
    }

    /// The organisation of this name.
    pub fn organisation(&self, name: &Organisation) -> Option<Arc<OrganisationRecord>> {
        self.state().organisations.get(name.as_str()).cloned()
    }

    /// The groups that `user` holds as a member of organisations and teams.
    pub fn groups_of(&self, user: &Username) -> Vec<String> {
        let state = self.state();
        let organisations = state.organisations.iter();
        organisations
            .flat_map(|(name, organisation)| organisation.groups_of(name, user))
            .collect()
    }

    /// Changes an organisation; one that is not there begins empty. One whose last member has left
    /// goes on: it can still be asked for its members.
    pub async fn edit_organisation<T>(
        &self,
        name: &Organisation,
        edit: impl FnOnce(&mut OrganisationRecord) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        self.change(|state| {
            let known = state.organisations.get(name.as_str());
            let mut organisation = known.map(|known| (**known).clone()).unwrap_or_default();
            let value = edit(&mut organisation)?;
            let name = name.as_str().to_owned();
            state.organisations.insert(name, Arc::new(organisation));
            Ok(value)
        })
        .await
    }

    /// Adds a token.
    pub async fn add_token(&self, record: TokenRecord) -> Result<(), AccountsError> {
        self.change(|state| {
            state.tokens.insert(record.key.clone(), Arc::new(record));
            Ok(())
        })
        .await
    }

    /// Removes the token with this hash. Whether there was one.
    pub async fn remove_token(&self, key: &str) -> Result<bool, AccountsError> {
        if self.token(key).is_none() {
            return Ok(false);
        }
        self.change(|state| Ok(state.tokens.remove(key).is_some()))
            .await
    }

    /// Removes tokens that have ended at `now`. How many.
    pub async fn prune(&self, now: Timestamp) -> Result<usize, AccountsError> {
        if !self
            .state()
            .tokens
            .values()
            .any(|token| token.is_expired(now))
        {
            return Ok(0);
        }
        self.change(|state| Ok(remove_tokens(state, |token| token.is_expired(now)).len()))
            .await
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.inner.durable.read().state)
    }

    /// Applies `edit` and returns when the result is durable.
    async fn change<T>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        let (value, number) = {
            let mut pending = self.inner.pending.lock();
            let mut state = State::clone(&pending.state);
            let value = edit(&mut state)?;
            pending.state = Arc::new(state);
            pending.number += 1;
            (value, pending.number)
        };
        self.persist(number).await?;
        Ok(value)
    }

    /// Makes at least the state with this `number` durable.
    async fn persist(&self, number: u64) -> Result<(), StorageError> {
        let _writer = self.inner.writer.lock().await;
        if self.inner.durable.read().number >= number {
            return Ok(());
        }
        let next = self.inner.pending.lock().clone();
        let (path, state) = (self.inner.path.clone(), Arc::clone(&next.state));
        blocking(move || {
            let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
            let json = state.to_json().map_err(|error| failed(error.into()))?;
            write_atomic(&path, &json, MODE_SECRET).map_err(failed)
        })
        .await?;
        *self.inner.durable.write() = next;
        Ok(())
    }
}

fn user_mut<'a>(
    state: &'a mut State,
    name: &Username,
) -> Result<&'a mut UserRecord, AccountsError> {
    match state.users.get_mut(name.as_str()) {
        Some(user) => Ok(Arc::make_mut(user)),
        None => Err(AccountsError::NoSuchUser(name.clone())),
    }
}

fn remove_tokens(state: &mut State, is_removed: impl Fn(&TokenRecord) -> bool) -> Vec<String> {
    let keys: Vec<String> = state
        .tokens
        .values()
        .filter(|token| is_removed(token))
        .map(|token| token.key.clone())
        .collect();
    for key in &keys {
        state.tokens.remove(key);
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::storage::Profile;

    fn user() -> UserRecord {
        UserRecord {
            password_hash: "$argon2id$".to_owned(),
            created: Timestamp::from_unix_millis(1),
            updated: None,
            second_factor: None,
            profile: Profile::default(),
        }
    }

    fn name(text: &str) -> Username {
        text.parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parallel_registrations_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let accounts = Accounts::open(path.clone()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..200 {
            let accounts = accounts.clone();
            tasks.spawn(async move {
                accounts
                    .create_user(&name(&format!("user{index}")), user(), None)
                    .await
                    .unwrap();
            });
        }
        tasks.join_all().await;
        let again = Accounts::open(path.clone()).await.unwrap();
        assert_eq!(again.user_count(), 200);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_of_many_gets_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(folder.path().join("state.json"))
            .await
            .unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let accounts = accounts.clone();
            tasks.spawn(async move {
                accounts
                    .create_user(&name("__proto__"), user(), Some(5))
                    .await
                    .is_ok()
            });
        }
        let won = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|&won| won)
            .count();
        assert_eq!(won, 1);
    }

    #[tokio::test]
    async fn raw_tokens_of_earlier_versions_are_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let raw = "ab".repeat(24);
        let old = format!(
            r#"{{"users":{{"a":{{"password_hash":"x","created_at":1}}}},"auth_tokens":{{"{raw}":{{"user":"a","created_at":2}}}},"npm_tokens":[{{"user":"a","token":"abcde...","key":"k","auth_key":"k","cidr":[],"readonly":true,"created":"2026-01-01T00:00:00Z"}}],"login_sessions":{{}},"packages":{{}},"x":1}}"#
        );
        write_atomic(&path, old.as_bytes(), MODE_SECRET).unwrap();
        let accounts = Accounts::open(path.clone()).await.unwrap();
        assert_eq!(accounts.tokens_of(&name("a")).len(), 2);
        let written = fs::read_to_string(&path).unwrap();
        assert!(!written.contains(&raw));
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written["x"], 1);
        assert_eq!(written["packages"], serde_json::json!({}));
        let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&raw));
        assert_eq!(accounts.token(&hash).unwrap().user, "a");
    }

    #[tokio::test]
    async fn a_damaged_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomic(&path, b"{\"users\": {", MODE_SECRET).unwrap();
        let error = Accounts::open(path.clone()).await.unwrap_err();
        assert!(
            error.to_string().contains("state.json is damaged"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"users\": {");
    }
}
