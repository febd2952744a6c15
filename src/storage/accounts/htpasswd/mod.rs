//! [`HtpasswdAccounts`]: users whom a file of Verdaccio's or Apache's names, and what else is kept about
//! them beside it.

mod lines;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(in crate::storage) use lines::fuzz;
use lines::{Entry, Users};

use super::{
    AccountEntry, AccountStore, FileAccounts, HashForm, OrganisationEdit, OrganisationRecord,
    Remember, TokenKind, UserEdit,
    file::{is_of, remove_tokens},
    state::{AccountsError, State, TokenRecord, UserRecord},
};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{StorageError, fs::Watched},
};

/// Accounts whose users are those of a file. Cheap to clone.
///
/// The file says who there is, and what the hash of her password is: a user who is taken out of it is gone
/// at once, and so are her tokens; one who is added is there at once. Everything else is kept beside it,
/// where users have a record only once there is something to keep. Who is there and not in the file does
/// not exist. Of the file, only the lines change that a change is about.
#[derive(Clone, Debug)]
pub struct HtpasswdAccounts {
    file: Arc<Watched<Users>>,
    kept: FileAccounts,
    cost: u32,
    /// Whose turn it is to change something.
    turn: Arc<Mutex<()>>,
    seen: Arc<parking_lot::Mutex<Seen>>,
}

/// What of the file is known already.
#[derive(Debug, Default)]
struct Seen {
    /// Who was in it last.
    users: Option<Arc<Users>>,
    /// Whether there has ever been a user since the start.
    had_some: bool,
    /// Hashes that were written here, by name.
    own: BTreeMap<String, String>,
}

/// What happens to the file, once everything else is durable.
type Then = Box<dyn FnOnce() -> Result<(), AccountsError> + Send>;

impl HtpasswdAccounts {
    /// The users of the file `path`, and what `kept` has of them. New passwords are hashed by bcrypt with
    /// this cost. Says whom of the file, and of `kept`, nobody can be.
    pub async fn open(kept: FileAccounts, path: PathBuf, cost: u32) -> Result<Self, StorageError> {
        let accounts = Self {
            file: Arc::new(Watched::new(path, read)),
            kept,
            cost,
            turn: Arc::default(),
            seen: Arc::default(),
        };
        let users = accounts.users().await?;
        let state = accounts.kept.state().await?;
        let is_lost = |name: &str, record: &UserRecord| {
            !record.password_hash.is_empty() && !users.entries.contains_key(name)
        };
        let lost = state
            .users
            .iter()
            .filter(|(name, record)| is_lost(name, record));
        let count = lost.count();
        if count > 0 {
            tracing::warn!(
                count,
                file = %accounts.file.path().display(),
                "accounts that are not in the file of users cannot be used as long as it is"
            );
        }
        Ok(accounts)
    }

    /// Who is in the file now. Whose hash somebody else has changed has another password, which ends her
    /// logins as it does when she changes it herself.
    async fn users(&self) -> Result<Arc<Users>, StorageError> {
        let users = self.file.get().await?;
        let changed: Vec<String> = {
            let seen = self.seen.lock();
            match &seen.users {
                Some(before) if Arc::ptr_eq(before, &users) => return Ok(users),
                Some(before) => {
                    let has_another = |(name, entry): &(&String, &Entry)| {
                        let before = before.entries.get(*name);
                        before.is_some_and(|before| before.hash != entry.hash)
                            && seen.own.get(*name) != Some(&entry.hash)
                    };
                    let changed = users.entries.iter().filter(has_another);
                    changed.map(|(name, _)| name.clone()).collect()
                }
                None => Vec::new(),
            }
        };
        if !changed.is_empty() {
            let at = self.file.modified().await?;
            let ended = self.kept.change(|state| {
                for name in &changed {
                    end_logins(state, name, &users, at);
                }
                Ok(())
            });
            ended.await.map_err(AccountsError::into_storage)?;
        }
        let mut seen = self.seen.lock();
        seen.had_some |= !users.entries.is_empty();
        seen.users = Some(Arc::clone(&users));
        drop(seen);
        Ok(users)
    }

    async fn entry(&self, name: &str) -> Result<Option<Entry>, StorageError> {
        Ok(self.users().await?.entries.get(name).cloned())
    }

    /// Fails where the file has lost all its users: it is being written, or its place is not there.
    async fn require_whole(&self) -> Result<Arc<Users>, StorageError> {
        self.file.settled().await?;
        let users = self.users().await?;
        if users.entries.is_empty() && self.seen.lock().had_some {
            let path = self.file.path().display();
            let message =
                "all users are gone from it; put it back, or start again if that is meant";
            let error = std::io::Error::other(message);
            return Err(StorageError::io(format!("access to {path}"), error));
        }
        Ok(users)
    }

    /// What changes the file, when it is somebody's turn.
    fn then(
        &self,
        turn: &Arc<OwnedMutexGuard<()>>,
        mut edit: impl FnMut(&[u8]) -> Result<Vec<u8>, AccountsError> + Send + 'static,
    ) -> Then {
        let (file, turn) = (Arc::clone(&self.file), Arc::clone(turn));
        Box::new(move || {
            let changed = file.change(&mut edit);
            drop(turn);
            changed
        })
    }

    /// Puts a user there with everything that is kept about her.
    async fn put_user(&self, name: &str, record: &UserRecord) -> Result<(), AccountsError> {
        let is_name = name.parse::<Username>().is_ok_and(|it| !it.is_reserved());
        let hash = record.password_hash.clone();
        if !is_name {
            let message = format!("`{name}` cannot be a user of the file of users");
            return Err(AccountsError::Refused(message));
        }
        require_holdable(&hash)?;
        let turn = Arc::new(Arc::clone(&self.turn).lock_owned().await);
        let created = record.created;
        let put = self.kept.change_then(|state| {
            keep(state, name, record.clone());
            let (name, hash) = (name.to_owned(), hash.clone());
            let put = self.then(&turn, move |bytes| {
                let changed = lines::with_hash(bytes, &name, &hash);
                Ok(changed.unwrap_or_else(|| lines::with(bytes, &name, &hash, created)))
            });
            Ok(((), Some(put)))
        });
        put.await
    }
}

/// What the file says; those whom nobody can be are named.
fn read(path: &Path, bytes: &[u8]) -> Users {
    let users = Users::parse(bytes);
    if !users.odd.is_empty() {
        let names: Vec<&str> = users.odd.iter().take(20).map(String::as_str).collect();
        tracing::warn!(
            file = %path.display(),
            count = users.odd.len(),
            names = ?names,
            "lines of the file of users have names that nobody can have here; they are left as they are"
        );
    }
    users
}

/// Ends the logins of a user whose password somebody else has changed.
fn end_logins(state: &mut State, name: &str, users: &Users, at: Timestamp) {
    let Some(entry) = users.entries.get(name) else {
        return;
    };
    let kept = state.users.get(name).map(|kept| &**kept);
    let mut record = composed(entry, kept);
    record.password_changed = Some(at);
    keep(state, name, record);
    remove_tokens(state, |token| {
        token.user == name && token.kind == TokenKind::Login
    });
    tracing::info!(user.name = %name, "the password was changed in the file of users");
}

/// Whether what was made then is of an earlier user of the same name. Verdaccio knows no parts of seconds.
fn is_earlier(made: Timestamp, entry: &Entry) -> bool {
    let seconds = |time: Timestamp| time.unix_millis().div_euclid(1000);
    let created = entry.created.map(seconds);
    created.is_some_and(|created| seconds(made) < created)
}

/// A user of the file, with what is `kept` about her, unless that is of an earlier one.
fn composed(entry: &Entry, kept: Option<&UserRecord>) -> UserRecord {
    let kept = kept.filter(|kept| !is_earlier(kept.created, entry));
    let mut record = kept.cloned().unwrap_or_else(|| UserRecord {
        password_hash: String::new(),
        created: entry
            .created
            .unwrap_or_else(|| Timestamp::from_unix_millis(0)),
        updated: None,
        password_changed: None,
        disabled: None,
        second_factor: None,
        profile: super::Profile::default(),
    });
    record.password_hash.clone_from(&entry.hash);
    record
}

/// Keeps everything about a user that the file does not. A hash that was kept before the file was used
/// stays what it was.
fn keep(state: &mut State, name: &str, mut record: UserRecord) {
    let before = state.users.get(name);
    record.password_hash = before
        .map(|before| before.password_hash.clone())
        .unwrap_or_default();
    state.users.insert(name.to_owned(), Arc::new(record));
}

/// Takes a name out of all organisations and teams: whoever has it now is somebody else.
fn leave_organisations(state: &mut State, name: &Username) {
    let is_in = |organisation: &OrganisationRecord| {
        let mut teams = organisation.teams.values();
        organisation.members.contains_key(name.as_str())
            || teams.any(|team| team.users.contains(name.as_str()))
    };
    for organisation in state.organisations.values_mut().filter(|one| is_in(one)) {
        let mut left = OrganisationRecord::clone(organisation);
        left.members.remove(name.as_str());
        for team in left.teams.values_mut() {
            team.users.remove(name.as_str());
        }
        *organisation = Arc::new(left);
    }
}

fn require_holdable(hash: &str) -> Result<(), AccountsError> {
    if lines::can_hold(hash) {
        return Ok(());
    }
    let message = "the file of users cannot hold this hash";
    Err(AccountsError::Refused(message.to_owned()))
}

#[async_trait]
impl AccountStore for HtpasswdAccounts {
    async fn user(&self, name: &Username) -> Result<Option<Arc<UserRecord>>, StorageError> {
        let users = self.users().await?;
        let Some(entry) = users.entries.get(name.as_str()) else {
            return Ok(None);
        };
        let kept = self.kept.user(name).await?;
        Ok(Some(Arc::new(composed(entry, kept.as_deref()))))
    }

    async fn user_count(&self) -> Result<usize, StorageError> {
        Ok(self.users().await?.entries.len())
    }

    async fn users_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Arc<UserRecord>)>, StorageError> {
        use std::ops::Bound;
        let users = self.users().await?;
        let state = self.kept.state().await?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = users.entries.range::<str, _>((start, Bound::Unbounded));
        let found = found.take(most).map(|(name, entry)| {
            let kept = state.users.get(name);
            let record = composed(entry, kept.map(|kept| &**kept));
            (name.clone(), Arc::new(record))
        });
        Ok(found.collect())
    }

    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        let users = self.users().await?;
        let token = self.kept.token(key).await?;
        Ok(token.filter(|token| {
            let entry = users.entries.get(&token.user);
            entry.is_some_and(|entry| {
                token.kind == TokenKind::Ended || !is_earlier(token.created, entry)
            })
        }))
    }

    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError> {
        let Some(entry) = self.entry(user.as_str()).await? else {
            return Ok(Vec::new());
        };
        let mut tokens = self.kept.tokens_of(user).await?;
        tokens.retain(|token| !is_earlier(token.created, &entry));
        Ok(tokens)
    }

    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError> {
        self.kept.organisation(name).await
    }

    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        self.kept.groups_of(user).await
    }

    async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError> {
        let hash = record.password_hash.clone();
        require_holdable(&hash)?;
        if name.is_reserved() {
            let message = format!("the name `{name}` is reserved");
            return Err(AccountsError::Refused(message));
        }
        let turn = Arc::new(Arc::clone(&self.turn).lock_owned().await);
        require_room(&*self.require_whole().await?, name, max_users)?;
        let created = record.created;
        let created_user = self.kept.change_then(|state| {
            // Of an earlier user of that name, nothing counts for this one.
            remove_tokens(state, |token| {
                is_of(token, name) && token.kind != TokenKind::Ended
            });
            state.users.remove(name.as_str());
            leave_organisations(state, name);
            keep(state, name.as_str(), record.clone());
            let own = (name.as_str().to_owned(), hash.clone());
            self.seen.lock().own.extend([own]);
            let (name, hash) = (name.clone(), hash.clone());
            let add = self.then(&turn, move |bytes| {
                require_room(&Users::parse(bytes), &name, max_users)?;
                Ok(lines::with(bytes, name.as_str(), &hash, created))
            });
            Ok(((), Some(add)))
        });
        created_user.await
    }

    async fn edit_user(
        &self,
        name: &Username,
        edit: UserEdit<'_>,
        revoked: Option<TokenKind>,
    ) -> Result<Vec<String>, AccountsError> {
        let turn = Arc::new(Arc::clone(&self.turn).lock_owned().await);
        let nobody = || AccountsError::NoSuchUser(name.clone());
        let entry = self.entry(name.as_str()).await?.ok_or_else(nobody)?;
        let edited = self.kept.change_then(|state| {
            let kept = state.users.get(name.as_str()).map(|kept| &**kept);
            let mut record = composed(&entry, kept);
            edit(&mut record)?;
            let hash = record.password_hash.clone();
            let then = if hash == entry.hash {
                None
            } else {
                require_holdable(&hash)?;
                let own = (name.as_str().to_owned(), hash.clone());
                self.seen.lock().own.extend([own]);
                let name = name.clone();
                Some(self.then(&turn, move |bytes| {
                    let changed = lines::with_hash(bytes, name.as_str(), &hash);
                    changed.ok_or_else(|| AccountsError::NoSuchUser(name.clone()))
                }))
            };
            keep(state, name.as_str(), record);
            let keys = remove_tokens(state, |token| {
                is_of(token, name) && Some(token.kind) == revoked
            });
            Ok((keys, then))
        });
        edited.await
    }

    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        self.kept.edit_organisation(name, edit).await
    }

    async fn remove_token(&self, key: &str) -> Result<bool, StorageError> {
        self.kept.remove_token(key).await
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StorageError> {
        self.kept.prune(now).await
    }

    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>> {
        let all = async move {
            let users = self.users().await?;
            let state = self.kept.state().await?;
            let is_there = Arc::clone(&users);
            let others = self.kept.entries().try_filter_map(move |entry| {
                let is_kept = match &entry {
                    AccountEntry::User(..) => false,
                    AccountEntry::Token(token) => is_there.entries.contains_key(&token.user),
                    AccountEntry::Organisation(..) => true,
                };
                async move { Ok(is_kept.then_some(entry)) }
            });
            let users: Vec<_> = users
                .entries
                .iter()
                .map(|(name, entry)| {
                    let kept = state.users.get(name).map(|kept| &**kept);
                    let record = composed(entry, kept);
                    Ok(AccountEntry::User(name.clone(), Arc::new(record)))
                })
                .collect();
            Ok::<_, StorageError>(stream::iter(users).chain(others))
        };
        stream::once(all).try_flatten().boxed()
    }

    async fn put(&self, entry: AccountEntry) -> Result<(), StorageError> {
        match entry {
            AccountEntry::User(name, record) => {
                let put = self.put_user(&name, &record).await;
                put.map_err(AccountsError::into_storage)
            }
            other => self.kept.put(other).await,
        }
    }

    fn remember(&self) -> Remember {
        self.kept.remember()
    }

    fn hash_form(&self) -> HashForm {
        HashForm::Bcrypt { cost: self.cost }
    }
}

fn require_room(
    users: &Users,
    name: &Username,
    max_users: Option<usize>,
) -> Result<(), AccountsError> {
    if users.is_taken(name.as_str()) {
        return Err(AccountsError::UserExists);
    }
    if max_users.is_some_and(|max| users.entries.len() >= max) {
        return Err(AccountsError::TooManyUsers);
    }
    Ok(())
}
