//! [`AccountStore`]: users, their tokens and organisations, wherever they are kept.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use super::{AccountsError, OrganisationRecord, TokenKind, TokenRecord, UserRecord};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{Coherence, StorageError},
};

/// A change of a user. It may run several times, each time on what is stored by then, and must have
/// no side effects.
pub type UserEdit<'e> = &'e mut (dyn FnMut(&mut UserRecord) -> Result<(), AccountsError> + Send);

/// A change of an organisation, under the same terms.
pub type OrganisationEdit<'e> =
    &'e mut (dyn FnMut(&mut OrganisationRecord) -> Result<(), AccountsError> + Send);

/// How long what was read of accounts may be believed without another look.
#[derive(Clone, Debug)]
pub enum Remember {
    /// Not at all: reading costs nothing.
    Nothing,
    /// For so long; what others change shows after it at the latest. That something is absent is
    /// never believed.
    For(Duration),
    /// For as long as notices of all changes arrive.
    WhileCoherent(Arc<Coherence>),
}

/// In which form the hash of a new password is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashForm {
    /// The best there is; weaker ones that came from elsewhere are replaced when their users log in.
    Argon2id,
    /// One that others read too.
    Bcrypt {
        /// Twice the work for each step.
        cost: u32,
    },
}

/// One account, for moving them elsewhere.
#[derive(Clone, Debug)]
pub enum AccountEntry {
    /// A user.
    User(String, Arc<UserRecord>),
    /// A token.
    Token(Arc<TokenRecord>),
    /// An organisation.
    Organisation(String, Arc<OrganisationRecord>),
}

/// The contract between the registry and whatever keeps accounts.
///
/// A write returns when it is durable, and goes on when whoever wants it goes away. Reads see
/// durable states only, and all writes of all nodes that have returned. No update is lost, however
/// many nodes write. Every implementation passes the suite in `storage/accounts/conformance.rs`.
#[async_trait]
pub trait AccountStore: fmt::Debug + Send + Sync + 'static {
    /// The user of this name.
    async fn user(&self, name: &Username) -> Result<Option<Arc<UserRecord>>, StorageError>;

    /// How many users there are.
    async fn user_count(&self) -> Result<usize, StorageError>;

    /// At most `most` users that come after the one of this name, or the first ones; in an order of the
    /// store's own that stays as it is.
    async fn users_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Arc<UserRecord>)>, StorageError>;

    /// The token with this hash.
    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError>;

    /// All tokens of `user`, in no particular order.
    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError>;

    /// The organisation of this name.
    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError>;

    /// The groups that `user` holds as a member of organisations and teams.
    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError>;

    /// Adds a user, unless the name is taken or there are `max_users` already.
    async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError>;

    /// Changes what is kept about a user and ends her tokens of the kind `revoked` with it. Their
    /// keys. An error of `edit` leaves all as it is.
    async fn edit_user(
        &self,
        name: &Username,
        edit: UserEdit<'_>,
        revoked: Option<TokenKind>,
    ) -> Result<Vec<String>, AccountsError>;

    /// Changes an organisation; one that is not there begins empty. One whose last member has left
    /// goes on: it can still be asked for its members.
    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError>;

    /// Removes the token with this hash. Whether there was one.
    async fn remove_token(&self, key: &str) -> Result<bool, StorageError>;

    /// Removes tokens that have ended at `now`. How many.
    async fn prune(&self, now: Timestamp) -> Result<usize, StorageError>;

    /// Everything, in no particular order; for moving it elsewhere.
    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>>;

    /// Puts `entry` there as it is, in the place of one with its name. Of what others may change at
    /// the same time, the last one stays.
    async fn put(&self, entry: AccountEntry) -> Result<(), StorageError>;

    /// How long what was read may be believed.
    fn remember(&self) -> Remember;

    /// In which form hashes of new passwords are kept.
    fn hash_form(&self) -> HashForm {
        HashForm::Argon2id
    }
}

/// What the users of an [`AccountStore`] call.
#[async_trait]
pub trait AccountStoreExt: AccountStore {
    /// Adds a token.
    async fn add_token(&self, record: TokenRecord) -> Result<(), StorageError> {
        self.put(AccountEntry::Token(Arc::new(record))).await
    }

    /// Changes a user's password hash and ends her tokens of the kind `revoked`. Their keys.
    async fn set_password(
        &self,
        name: &Username,
        password_hash: String,
        now: Timestamp,
        revoked: TokenKind,
    ) -> Result<Vec<String>, AccountsError> {
        let mut edit = |user: &mut UserRecord| {
            user.password_hash.clone_from(&password_hash);
            user.updated = Some(now);
            user.password_changed = Some(now);
            Ok(())
        };
        self.edit_user(name, &mut edit, Some(revoked)).await
    }

    /// Changes what is kept about a user; what the last run of `edit` came to.
    async fn change_user<T, F>(
        &self,
        name: &Username,
        now: Timestamp,
        mut edit: F,
    ) -> Result<T, AccountsError>
    where
        T: Send,
        F: FnMut(&mut UserRecord) -> Result<T, AccountsError> + Send,
    {
        let mut value = None;
        let mut edit = |user: &mut UserRecord| {
            value = Some(edit(user)?);
            user.updated = Some(now);
            Ok(())
        };
        self.edit_user(name, &mut edit, None).await?;
        value.ok_or_else(|| not_run().into())
    }

    /// Changes an organisation; what the last run of `edit` came to.
    async fn change_organisation<T, F>(
        &self,
        name: &Organisation,
        mut edit: F,
    ) -> Result<T, AccountsError>
    where
        T: Send,
        F: FnMut(&mut OrganisationRecord) -> Result<T, AccountsError> + Send,
    {
        let mut value = None;
        self.edit_organisation(name, &mut |record| {
            value = Some(edit(record)?);
            Ok(())
        })
        .await?;
        value.ok_or_else(|| not_run().into())
    }
}

impl<T: AccountStore + ?Sized> AccountStoreExt for T {}

fn not_run() -> StorageError {
    StorageError::backend("changing accounts", "the change was not made")
}
