//! [`FileAccounts`]: accounts of a single node, in `state.json`.

mod shared;

use std::{
    fs::File,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Weak, atomic::AtomicBool},
};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::{Mutex, RwLock};
use shared::{Durable, Turn, read_stamped};
use tokio::sync::oneshot;

use super::{
    AccountEntry, AccountStore, OrganisationEdit, OrganisationRecord, Remember, TokenKind,
    UserEdit, groups_in,
    state::{AccountsError, State, TokenRecord, UserRecord},
};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{
        Stamp, StorageError,
        fs::{
            atomic::{MODE_SECRET, create_folder_synced, write_atomic},
            blocking,
            secret::{read_foreign, read_secret},
        },
    },
};

const EMPTIED: &str = "it is empty; put a copy of it back, or remove it to begin without users";
/// How often a change is tried again that others have outrun, of whom not everybody takes turns.
const MAX_ATTEMPTS: usize = 10;

/// Users, tokens and organisations, kept in one file that is replaced atomically. Cheap to clone.
///
/// A change returns when it is durable, and goes on when whoever wants it goes away. Changes that
/// come while the file is being written go into the next write together, so that many at once cost
/// few writes. Reads see durable states only; what could not be written never was.
///
/// Other processes may change the file too, as the command line does while a registry runs: whoever
/// writes holds the lock beside it, and what others have written shows at the next look at the file. A
/// change that another process has outrun is made again before anybody else has a turn.
#[derive(Clone, Debug)]
pub struct FileAccounts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pending: Mutex<Pending>,
    durable: RwLock<Durable>,
    /// Has whoever replaces the file, or makes what it says what is known.
    taking_over: Mutex<()>,
    /// Whether this process is replacing the file: what others see of it meanwhile may not last.
    is_being_replaced: AtomicBool,
    /// Whether the file is another's, and never written.
    is_foreign: bool,
}

/// What came of writing.
#[derive(Clone, Debug)]
enum Written {
    Durably,
    /// Not at all: another process has changed the file meanwhile. Whoever makes the change once more,
    /// and keeps this as long, is not outrun again.
    Outrun(Turn),
    Failed(Arc<StorageError>),
}

/// What is to be written.
#[derive(Debug)]
struct Pending {
    /// The durable state with all changes since.
    state: Arc<State>,
    /// The file that it is of.
    base: Option<Stamp>,
    /// Those who wait until `state` is durable.
    waiting: Vec<oneshot::Sender<Written>>,
    /// Whether somebody is writing, who will see what is added meanwhile.
    is_written: bool,
    /// The turn to write, while this process has it.
    turn: Weak<File>,
}

impl FileAccounts {
    /// Opens the file; a missing one has no users. A damaged one is an error and is left
    /// as it is.
    pub async fn open(path: PathBuf) -> Result<Self, StorageError> {
        blocking(move || Self::open_blocking(path)).await
    }

    /// Reads the file as it is now, to copy it elsewhere. Another process may go on changing it, so
    /// nothing is ever written to it.
    pub async fn read(path: PathBuf) -> Result<Self, StorageError> {
        blocking(move || {
            let (state, stamp) = read_stamped(&path, read_foreign)?;
            Ok(Self::of(path, state, stamp, true))
        })
        .await
    }

    /// Makes the file `path` of all `entries` in one durable write, reads it again, and compares. How
    /// many there are.
    pub async fn make(path: PathBuf, entries: Vec<AccountEntry>) -> Result<usize, StorageError> {
        blocking(move || {
            let failed = |error| StorageError::io(format!("writing {}", path.display()), error);
            let count = entries.len();
            let mut state = State::default();
            for entry in entries {
                state.put(entry);
            }
            let json = state.to_json().map_err(|error| failed(error.into()))?;
            write_atomic(&path, &json, MODE_SECRET).map_err(failed)?;
            let (read_back, _) = read_state(&path, read_foreign)?;
            if !read_back.has_same_accounts(&state) {
                let message = "what was written reads as something else";
                return Err(failed(std::io::Error::other(message)));
            }
            Ok(count)
        })
        .await
    }

    /// Whether somebody in the file `path` has a second factor, whose seed is sealed. The file is
    /// only read.
    pub async fn have_second_factors(path: PathBuf) -> Result<bool, StorageError> {
        blocking(move || {
            let (state, _) = read_state(&path, read_secret)?;
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
        let (_, had_raw_tokens) = read_state(&path, read_secret)?;
        if had_raw_tokens {
            let _alone = shared::lock(&path)?;
            // Another process may have done it meanwhile.
            let (state, _) = read_state(&path, read_secret)?;
            let json = state.to_json().map_err(|error| failed(error.into()))?;
            write_atomic(&path, &json, MODE_SECRET).map_err(failed)?;
            tracing::info!(path = %path.display(), "tokens are kept as hashes from now on");
        }
        let (state, stamp) = read_stamped(&path, read_secret)?;
        Ok(Self::of(path, state, stamp, false))
    }

    fn of(path: PathBuf, state: State, stamp: Option<Stamp>, is_foreign: bool) -> Self {
        let state = Arc::new(state);
        let inner = Inner {
            path,
            taking_over: Mutex::default(),
            is_being_replaced: AtomicBool::new(false),
            pending: Mutex::new(Pending {
                state: Arc::clone(&state),
                base: stamp,
                waiting: Vec::new(),
                is_written: false,
                turn: Weak::new(),
            }),
            durable: RwLock::new(Durable { state, stamp }),
            is_foreign,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What the file says now. Where it has not changed, this costs one look at it.
    pub(super) async fn state(&self) -> Result<Arc<State>, StorageError> {
        if let Some(state) = self.inner.current()? {
            return Ok(state);
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.read_again()).await
    }

    /// Applies `edit` and returns when the result is durable. It may run several times.
    pub(super) async fn change<T>(
        &self,
        mut edit: impl FnMut(&mut State) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        let mut turn = None;
        for _ in 0..MAX_ATTEMPTS {
            self.state().await?;
            let (value, written) = self.begin(&mut edit)?;
            turn = self.outcome(written.await)?;
            if turn.is_none() {
                return Ok(value);
            }
        }
        drop(turn);
        Err(self.outrun())
    }

    /// The same; once the result is durable, what `edit` wants done then is done on the blocking pool,
    /// whoever has gone away. Returns after that.
    pub(super) async fn change_then<T, W>(
        &self,
        mut edit: impl FnMut(&mut State) -> Result<(T, Option<W>), AccountsError>,
    ) -> Result<T, AccountsError>
    where
        W: FnOnce() -> Result<(), AccountsError> + Send + 'static,
    {
        let mut turn = None;
        for _ in 0..MAX_ATTEMPTS {
            self.state().await?;
            let ((value, then), written) = self.begin(&mut edit)?;
            turn = if let Some(then) = then {
                let this = self.clone();
                let done = tokio::task::spawn_blocking(move || {
                    let turn = this.outcome(written.blocking_recv())?;
                    if turn.is_none() {
                        then()?;
                    }
                    Ok::<_, AccountsError>(turn)
                });
                let failed = |error| StorageError::backend("work on the blocking pool", error);
                done.await.map_err(failed)??
            } else {
                self.outcome(written.await)?
            };
            if turn.is_none() {
                return Ok(value);
            }
        }
        drop(turn);
        Err(self.outrun())
    }

    /// Applies `edit` and has the result written.
    fn begin<T>(
        &self,
        edit: impl FnOnce(&mut State) -> Result<T, AccountsError>,
    ) -> Result<(T, oneshot::Receiver<Written>), AccountsError> {
        let (done, written) = oneshot::channel();
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
        Ok((value, written))
    }

    /// Nothing where it is durable, and the turn to try again where another process was faster.
    fn outcome(
        &self,
        written: Result<Written, oneshot::error::RecvError>,
    ) -> Result<Option<Turn>, AccountsError> {
        match written {
            Ok(Written::Durably) => Ok(None),
            Ok(Written::Outrun(turn)) => Ok(Some(turn)),
            Ok(Written::Failed(error)) => Err(StorageError::shared(&error).into()),
            Err(error) => Err(StorageError::backend(self.writing(), error).into()),
        }
    }

    fn outrun(&self) -> AccountsError {
        let error = std::io::Error::other("others change it all the time");
        StorageError::io(self.writing(), error).into()
    }

    fn writing(&self) -> String {
        format!("writing {}", self.inner.path.display())
    }
}

#[async_trait]
impl AccountStore for FileAccounts {
    async fn user(&self, name: &Username) -> Result<Option<Arc<UserRecord>>, StorageError> {
        Ok(self.state().await?.users.get(name.as_str()).cloned())
    }

    async fn user_count(&self) -> Result<usize, StorageError> {
        Ok(self.state().await?.users.len())
    }

    async fn users_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Arc<UserRecord>)>, StorageError> {
        let state = self.state().await?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = state.users.range::<str, _>((start, Bound::Unbounded));
        let users = users.map(|(name, user)| (name.clone(), Arc::clone(user)));
        Ok(users.take(most).collect())
    }

    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        Ok(self.state().await?.tokens.get(key).cloned())
    }

    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError> {
        let state = self.state().await?;
        let own = state.tokens.values().filter(|token| is_of(token, user));
        Ok(own.cloned().collect())
    }

    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError> {
        Ok(self
            .state()
            .await?
            .organisations
            .get(name.as_str())
            .cloned())
    }

    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        Ok(groups_in(&self.state().await?.organisations, user))
    }

    async fn create_user(
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
            let name = name.as_str().to_owned();
            state.users.insert(name, Arc::new(record.clone()));
            Ok(())
        })
        .await
    }

    async fn edit_user(
        &self,
        name: &Username,
        edit: UserEdit<'_>,
        revoked: Option<TokenKind>,
    ) -> Result<Vec<String>, AccountsError> {
        self.change(|state| {
            edit(user_mut(state, name)?)?;
            Ok(remove_tokens(state, |token| {
                is_of(token, name) && Some(token.kind) == revoked
            }))
        })
        .await
    }

    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        self.change(|state| {
            let known = state.organisations.get(name.as_str());
            let mut organisation = known.map(|known| (**known).clone()).unwrap_or_default();
            edit(&mut organisation)?;
            let name = name.as_str().to_owned();
            state.organisations.insert(name, Arc::new(organisation));
            Ok(())
        })
        .await
    }

    async fn remove_token(&self, key: &str) -> Result<bool, StorageError> {
        if !self.state().await?.tokens.contains_key(key) {
            return Ok(false);
        }
        let removed = self.change(|state| Ok(state.tokens.remove(key).is_some()));
        removed.await.map_err(AccountsError::into_storage)
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StorageError> {
        let state = self.state().await?;
        if !state.tokens.values().any(|token| token.is_expired(now)) {
            return Ok(0);
        }
        let pruned =
            self.change(|state| Ok(remove_tokens(state, |token| token.is_expired(now)).len()));
        pruned.await.map_err(AccountsError::into_storage)
    }

    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>> {
        let all = async move {
            let state = self.state().await?;
            let entries: Vec<_> = state.entries().map(Ok).collect();
            Ok::<_, StorageError>(stream::iter(entries))
        };
        stream::once(all).try_flatten().boxed()
    }

    async fn put(&self, entry: AccountEntry) -> Result<(), StorageError> {
        let put = self.change(|state| {
            state.put(entry.clone());
            Ok(())
        });
        put.await.map_err(AccountsError::into_storage)
    }

    fn remember(&self) -> Remember {
        Remember::Nothing
    }
}

pub(super) fn is_of(token: &TokenRecord, user: &Username) -> bool {
    token.user == user.as_str()
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

pub(super) fn remove_tokens(
    state: &mut State,
    is_removed: impl Fn(&TokenRecord) -> bool,
) -> Vec<String> {
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
fn read_state(
    path: &Path,
    read: impl FnOnce(&Path) -> std::io::Result<Option<Vec<u8>>>,
) -> Result<(State, bool), StorageError> {
    let json = read(path)
        .map_err(|error| StorageError::io(format!("opening {}", path.display()), error))?;
    parse(path, json)
}

fn parse(path: &Path, json: Option<Vec<u8>>) -> Result<(State, bool), StorageError> {
    let Some(json) = json else {
        return Ok((State::default(), false));
    };
    let parsed = if json.is_empty() {
        // Nobody here writes that, and whoever came next could have anybody's account.
        Err(EMPTIED.into())
    } else {
        State::from_json(&json).map_err(Into::into)
    };
    parsed.map_err(|source| StorageError::Damaged {
        what: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests;
