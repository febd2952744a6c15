//! [`Known`]: accounts, and what each request asks of them remembered for as long as it may be.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{
        AccountEntry, AccountStore, AccountsError, Coherence, Epoch, HashForm, Notice,
        OrganisationEdit, OrganisationRecord, Remember, StorageError, TokenKind, TokenRecord,
        UserEdit, UserRecord,
    },
};

/// Entries of each kind that are remembered.
const MAX_REMEMBERED: u64 = 100_000;

/// Until when an entry is believed.
#[derive(Clone, Copy, Debug)]
enum Trust {
    Until(Instant),
    In(Epoch),
}

/// Accounts of a store. What this node changes shows here at once; what others change shows as soon
/// as [`Remember`] says.
///
/// The reads of [`AccountStore`] always ask the store; those named `known` may remember. Only what
/// is there is remembered: what others add shows at once.
#[derive(Debug)]
pub(super) struct Known {
    store: Arc<dyn AccountStore>,
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    remember: Remember,
    tokens: Cache<String, (Arc<TokenRecord>, Trust)>,
    users: Cache<String, (Arc<UserRecord>, Trust)>,
    groups: Cache<String, (Arc<[String]>, Trust)>,
    /// Counts changes: what was read before one is not kept after it.
    changes: Mutex<u64>,
}

impl Known {
    pub(super) fn new(store: Arc<dyn AccountStore>) -> Self {
        fn cache<V: Clone + Send + Sync + 'static>() -> Cache<String, V> {
            Cache::new(MAX_REMEMBERED)
        }
        let memory = Arc::new(Memory {
            remember: store.remember(),
            tokens: cache(),
            users: cache(),
            groups: cache(),
            changes: Mutex::default(),
        });
        if let Remember::WhileCoherent(coherence) = &memory.remember {
            let memory = Arc::downgrade(&memory);
            let forget = move |notice: &Notice| match memory.upgrade() {
                Some(memory) => {
                    memory.forget(notice);
                    true
                }
                None => false,
            };
            coherence.watch(Box::new(forget));
        }
        Self { store, memory }
    }

    /// The token with this hash.
    pub(super) async fn known_token(
        &self,
        key: &str,
    ) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        let memory = &self.memory;
        memory.ask(&memory.tokens, key, self.store.token(key)).await
    }

    /// The user of this name.
    pub(super) async fn known_user(
        &self,
        name: &Username,
    ) -> Result<Option<Arc<UserRecord>>, StorageError> {
        let memory = &self.memory;
        let read = self.store.user(name);
        memory.ask(&memory.users, name.as_str(), read).await
    }

    /// The groups that `user` holds as a member of organisations and teams.
    pub(super) async fn known_groups(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        let memory = &self.memory;
        if matches!(memory.remember, Remember::Nothing) {
            return self.store.groups_of(user).await;
        }
        let read = async { Ok(Some(Arc::from(self.store.groups_of(user).await?))) };
        let groups = memory.ask(&memory.groups, user.as_str(), read).await?;
        Ok(groups.map(|groups| groups.to_vec()).unwrap_or_default())
    }

    fn forget(&self, notice: &Notice) {
        self.memory.forget(notice);
    }
}

impl Memory {
    /// What is remembered under `key`, or what `read` finds.
    async fn ask<V: Clone + Send + Sync + 'static>(
        &self,
        cache: &Cache<String, (V, Trust)>,
        key: &str,
        read: impl Future<Output = Result<Option<V>, StorageError>>,
    ) -> Result<Option<V>, StorageError> {
        let Some(trust) = self.trust() else {
            return read.await;
        };
        if let Some((value, trusted)) = cache.get(key)
            && self.is_believed(trusted)
        {
            return Ok(Some(value));
        }
        let before = *self.changes.lock();
        let value = read.await?;
        if let Some(value) = &value {
            let changes = self.changes.lock();
            if *changes == before {
                cache.insert(key.to_owned(), (value.clone(), trust));
            }
        }
        Ok(value)
    }

    /// How what is read from now on may be believed, if it may at all.
    fn trust(&self) -> Option<Trust> {
        match &self.remember {
            Remember::Nothing => None,
            Remember::For(span) => Some(Trust::Until(after(*span))),
            Remember::WhileCoherent(coherence) => coherence.epoch().map(Trust::In),
        }
    }

    fn is_believed(&self, trust: Trust) -> bool {
        match trust {
            Trust::Until(end) => Instant::now() < end,
            Trust::In(epoch) => self.epoch() == Some(epoch),
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        match &self.remember {
            Remember::WhileCoherent(coherence) => Coherence::epoch(coherence),
            Remember::Nothing | Remember::For(_) => None,
        }
    }

    fn forget(&self, notice: &Notice) {
        if matches!(self.remember, Remember::Nothing) {
            return;
        }
        let mut changes = self.changes.lock();
        *changes = changes.wrapping_add(1);
        match notice {
            Notice::User(name) => self.users.invalidate(name),
            Notice::Token(key) => self.tokens.invalidate(key),
            Notice::Organisations => self.groups.invalidate_all(),
            Notice::Package(_) => {}
        }
    }
}

fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or(now)
}

#[async_trait]
impl AccountStore for Known {
    async fn user(&self, name: &Username) -> Result<Option<Arc<UserRecord>>, StorageError> {
        self.store.user(name).await
    }

    async fn user_count(&self) -> Result<usize, StorageError> {
        self.store.user_count().await
    }

    async fn users_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Arc<UserRecord>)>, StorageError> {
        self.store.users_after(after, most).await
    }

    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        self.store.token(key).await
    }

    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError> {
        self.store.tokens_of(user).await
    }

    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError> {
        self.store.organisation(name).await
    }

    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        self.store.groups_of(user).await
    }

    async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError> {
        self.store.create_user(name, record, max_users).await
    }

    async fn edit_user(
        &self,
        name: &Username,
        edit: UserEdit<'_>,
        revoked: Option<TokenKind>,
    ) -> Result<Vec<String>, AccountsError> {
        let edited = self.store.edit_user(name, edit, revoked).await;
        // Whatever came of it: a failure may come after the change.
        self.forget(&Notice::User(name.as_str().to_owned()));
        match &edited {
            Ok(keys) => {
                for key in keys {
                    self.forget(&Notice::Token(key.clone()));
                }
            }
            Err(_) if revoked.is_some() => self.memory.tokens.invalidate_all(),
            Err(_) => {}
        }
        edited
    }

    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        let edited = self.store.edit_organisation(name, edit).await;
        self.forget(&Notice::Organisations);
        edited
    }

    async fn remove_token(&self, key: &str) -> Result<bool, StorageError> {
        let removed = self.store.remove_token(key).await;
        self.forget(&Notice::Token(key.to_owned()));
        removed
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StorageError> {
        self.store.prune(now).await
    }

    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>> {
        self.store.entries()
    }

    async fn put(&self, entry: AccountEntry) -> Result<(), StorageError> {
        self.store.put(entry).await
    }

    fn remember(&self) -> Remember {
        self.store.remember()
    }

    fn hash_form(&self) -> HashForm {
        self.store.hash_form()
    }
}
