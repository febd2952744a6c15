//! [`Accounts`]: accounts of a single node, in `state.json`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

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
/// A change returns when it is durable, and goes on when whoever wants it goes away. Changes that
/// come while the file is being written go into the next write together, so that many at once cost
/// few writes. Reads see durable states only; what could not be written never was.
#[derive(Clone, Debug)]
pub struct Accounts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pending: Mutex<Pending>,
    durable: RwLock<Arc<State>>,
}

/// What is to be written.
#[derive(Debug)]
struct Pending {
    /// The durable state with all changes since.
    state: Arc<State>,
    /// Those who wait until `state` is durable.
    waiting: Vec<oneshot::Sender<Result<(), Arc<StorageError>>>>,
    /// Whether somebody is writing, who will see what is added meanwhile.
    is_written: bool,
}

impl Accounts {
    /// Opens the file; a missing or empty one has no users. A damaged one is an error and is left
    /// as it is.
    pub async fn open(path: PathBuf) -> Result<Self, StorageError> {
        blocking(move || Self::open_blocking(path)).await
    }

    /// Whether somebody in the file `path` has a second factor, whose seed is sealed. The file is
    /// only read.
    pub async fn have_second_factors(path: PathBuf) -> Result<bool, StorageError> {
        blocking(move || {
            let (state, _) = read_state(&path)?;
            Ok(state
                .users
                .values()
                .any(|user| user.second_factor.is_some()))
        })
        .await
    }

    fn open_blocking(path: PathBuf) -> Result<Self, StorageError> {
        let failed = |error| StorageError::io(format!("opening {}", path.display()), error);
        if let Some(folder) = path.parent() {
            create_folder_synced(folder).map_err(failed)?;
        }
        let (state, had_raw_tokens) = read_state(&path)?;
        if had_raw_tokens {
            let json = state.to_json().map_err(|error| failed(error.into()))?;
            write_atomic(&path, &json, MODE_SECRET).map_err(failed)?;
            tracing::info!(path = %path.display(), "tokens are kept as hashes from now on");
        }
        let state = Arc::new(state);
        let inner = Inner {
            path,
            pending: Mutex::new(Pending {
                state: Arc::clone(&state),
                waiting: Vec::new(),
                is_written: false,
            }),
            durable: RwLock::new(state),
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
        Arc::clone(&self.inner.durable.read())
    }

    /// Applies `edit` and returns when the result is durable.
    async fn change<T>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        let (done, written) = oneshot::channel();
        let value = {
            let mut pending = self.inner.pending.lock();
            let mut state = State::clone(&pending.state);
            let value = edit(&mut state)?;
            pending.state = Arc::new(state);
            pending.waiting.push(done);
            if !pending.is_written {
                pending.is_written = true;
                let inner = Arc::clone(&self.inner);
                // Begun before anybody can hang up, and nobody's to cancel.
                tokio::task::spawn_blocking(move || inner.write_all());
            }
            value
        };
        match written.await {
            Ok(Ok(())) => Ok(value),
            Ok(Err(error)) => Err(StorageError::shared(&error).into()),
            Err(error) => {
                let operation = format!("writing {}", self.inner.path.display());
                Err(StorageError::backend(operation, error).into())
            }
        }
    }
}

impl Inner {
    /// Writes what is pending until nothing is.
    fn write_all(&self) {
        loop {
            let (state, waiting) = {
                let mut pending = self.pending.lock();
                if pending.waiting.is_empty() {
                    pending.is_written = false;
                    return;
                }
                (
                    Arc::clone(&pending.state),
                    std::mem::take(&mut pending.waiting),
                )
            };
            match self.write(&state) {
                Ok(()) => {
                    *self.durable.write() = state;
                    answer(waiting, &Ok(()));
                }
                Err(error) => {
                    // Later changes were made to a state that never came to be.
                    let later = {
                        let mut pending = self.pending.lock();
                        pending.state = Arc::clone(&self.durable.read());
                        std::mem::take(&mut pending.waiting)
                    };
                    let error = Err(Arc::new(error));
                    answer(waiting, &error);
                    answer(later, &error);
                }
            }
        }
    }

    fn write(&self, state: &State) -> Result<(), StorageError> {
        let path = &self.path;
        let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
        let json = state.to_json().map_err(|error| failed(error.into()))?;
        write_atomic(path, &json, MODE_SECRET).map_err(failed)
    }
}

fn answer(
    waiting: Vec<oneshot::Sender<Result<(), Arc<StorageError>>>>,
    outcome: &Result<(), Arc<StorageError>>,
) {
    for one in waiting {
        // Whoever waited may have gone away.
        let _ = one.send(outcome.clone());
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

/// What the file `path` holds, and whether it has tokens that are not hashed; nothing if there is
/// none.
fn read_state(path: &Path) -> Result<(State, bool), StorageError> {
    let json = read_secret(path)
        .map_err(|error| StorageError::io(format!("opening {}", path.display()), error))?;
    State::from_json(&json.unwrap_or_default()).map_err(|error| StorageError::Damaged {
        what: path.display().to_string(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests;
