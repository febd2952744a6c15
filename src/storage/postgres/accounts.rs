//! [`PgAccounts`]: accounts in Postgres.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use sqlx::{Postgres, Transaction};

use super::{Database, database::failure};
use crate::{
    models::{Organisation, Timestamp, Username},
    storage::{
        AccountEntry, AccountStore, AccountsError, Notice, OrganisationEdit, OrganisationRecord,
        Remember, StorageError, TokenKind, TokenRecord, UserEdit, UserRecord,
        json::{from_json, to_json},
    },
};

const READING: &str = "reading accounts";
const WRITING: &str = "writing accounts";
/// The lock of whoever counts users.
const USERS: &str = "/users";

/// Keeps users, tokens and organisations in rows, as JSON that Postgres does not read.
#[derive(Clone, Debug)]
pub struct PgAccounts {
    database: Database,
}

impl PgAccounts {
    /// The accounts in `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// What `change` comes to, in bounded time.
    async fn bounded<T>(
        &self,
        change: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, AccountsError> {
        let changed = self.database.run_any(WRITING, change).await;
        changed.map_err(|failed| failed.0)
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>, Failed> {
        Ok(self.database.pool.begin().await?)
    }
}

/// Why a change failed.
struct Failed(AccountsError);

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self(failure(WRITING, error).into())
    }
}

impl From<AccountsError> for Failed {
    fn from(error: AccountsError) -> Self {
        Self(error)
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self(error.into())
    }
}

fn user_of(name: &str, json: &[u8]) -> Result<UserRecord, StorageError> {
    from_json(&format!("the account of `{name}`"), json)
}

fn token_of(json: &[u8]) -> Result<TokenRecord, StorageError> {
    from_json("a token", json)
}

fn organisation_of(name: &str, json: &[u8]) -> Result<OrganisationRecord, StorageError> {
    from_json(&format!("the organisation `{name}`"), json)
}

fn kind_of(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Login => "login",
        TokenKind::Npm => "npm",
        TokenKind::Ended => "ended",
    }
}

/// Reads the user `name` for a change that nobody else makes meanwhile.
async fn locked_user(
    transaction: &mut Transaction<'_, Postgres>,
    name: &Username,
) -> Result<UserRecord, Failed> {
    let json: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT record FROM users WHERE name = $1 FOR UPDATE")
            .bind(name.as_str())
            .fetch_optional(&mut **transaction)
            .await?;
    let json = json.ok_or_else(|| AccountsError::NoSuchUser(name.clone()))?;
    Ok(user_of(name.as_str(), &json)?)
}

async fn write_token(
    transaction: &mut Transaction<'_, Postgres>,
    token: &TokenRecord,
) -> Result<(), Failed> {
    // Whoever changes her password ends the tokens that are there: this one is there before or
    // comes after that, when it is looked at the password again. Not FOR SHARE: many who log in would
    // keep the one who changes it waiting for ever.
    sqlx::query("SELECT FROM users WHERE name = $1 FOR NO KEY UPDATE")
        .bind(&token.user)
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO tokens (key, user_name, kind, expires, record) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (key) DO UPDATE SET user_name = excluded.user_name, kind = excluded.kind, \
         expires = excluded.expires, record = excluded.record",
    )
    .bind(&token.key)
    .bind(&token.user)
    .bind(kind_of(token.kind))
    .bind(token.expires.map(Timestamp::unix_millis))
    .bind(to_json(WRITING, token)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

#[async_trait]
impl AccountStore for PgAccounts {
    async fn user(&self, name: &Username) -> Result<Option<Arc<UserRecord>>, StorageError> {
        let read = sqlx::query_scalar("SELECT record FROM users WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.database.pool);
        let json: Option<Vec<u8>> = self.database.run(READING, read).await?;
        json.map(|json| user_of(name.as_str(), &json).map(Arc::new))
            .transpose()
    }

    async fn user_count(&self) -> Result<usize, StorageError> {
        let read = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&self.database.pool);
        let count: i64 = self.database.run(READING, read).await?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    async fn users_after(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Arc<UserRecord>)>, StorageError> {
        // No name is empty.
        let query = "SELECT name, record FROM users WHERE name > $1 ORDER BY name LIMIT $2";
        let rows = sqlx::query_as(query)
            .bind(after.unwrap_or_default())
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.database.pool);
        let rows: Vec<(String, Vec<u8>)> = self.database.run(READING, rows).await?;
        let users = rows.into_iter().map(|(name, json)| {
            let user = Arc::new(user_of(&name, &json)?);
            Ok((name, user))
        });
        users.collect()
    }

    async fn token(&self, key: &str) -> Result<Option<Arc<TokenRecord>>, StorageError> {
        let read = sqlx::query_scalar("SELECT record FROM tokens WHERE key = $1")
            .bind(key)
            .fetch_optional(&self.database.pool);
        let json: Option<Vec<u8>> = self.database.run(READING, read).await?;
        json.map(|json| token_of(&json).map(Arc::new)).transpose()
    }

    async fn tokens_of(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, StorageError> {
        let read = sqlx::query_scalar("SELECT record FROM tokens WHERE user_name = $1")
            .bind(user.as_str())
            .fetch_all(&self.database.pool);
        let tokens: Vec<Vec<u8>> = self.database.run(READING, read).await?;
        let tokens = tokens.iter().map(|json| token_of(json).map(Arc::new));
        tokens.collect()
    }

    async fn organisation(
        &self,
        name: &Organisation,
    ) -> Result<Option<Arc<OrganisationRecord>>, StorageError> {
        let read = sqlx::query_scalar("SELECT record FROM organisations WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.database.pool);
        let json: Option<Vec<u8>> = self.database.run(READING, read).await?;
        json.map(|json| organisation_of(name.as_str(), &json).map(Arc::new))
            .transpose()
    }

    async fn groups_of(&self, user: &Username) -> Result<Vec<String>, StorageError> {
        let read = sqlx::query_as(
            "SELECT name, record FROM organisations WHERE users @> ARRAY[$1] ORDER BY name",
        )
        .bind(user.as_str())
        .fetch_all(&self.database.pool);
        let organisations: Vec<(String, Vec<u8>)> = self.database.run(READING, read).await?;
        let mut groups = Vec::new();
        for (name, json) in organisations {
            groups.extend(organisation_of(&name, &json)?.groups_of(&name, user));
        }
        Ok(groups)
    }

    async fn create_user(
        &self,
        name: &Username,
        record: UserRecord,
        max_users: Option<usize>,
    ) -> Result<(), AccountsError> {
        let json = to_json(WRITING, &record)?;
        self.bounded(async {
            let mut transaction = self.begin().await?;
            if let Some(max) = max_users {
                self.database.lock(&mut transaction, USERS).await?;
                let taken =
                    sqlx::query_scalar("SELECT 1 FROM users WHERE name = $1").bind(name.as_str());
                let taken: Option<i32> = taken.fetch_optional(&mut *transaction).await?;
                let count: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
                    .fetch_one(&mut *transaction)
                    .await?;
                if taken.is_none() && usize::try_from(count).is_ok_and(|count| count >= max) {
                    return Err(AccountsError::TooManyUsers.into());
                }
            }
            let created = sqlx::query(
                "INSERT INTO users (name, record) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            );
            let created = created.bind(name.as_str()).bind(json);
            match created.execute(&mut *transaction).await?.rows_affected() {
                0 => Err(AccountsError::UserExists.into()),
                _ => Ok(transaction.commit().await?),
            }
        })
        .await
    }

    async fn edit_user(
        &self,
        name: &Username,
        edit: UserEdit<'_>,
        revoked: Option<TokenKind>,
    ) -> Result<Vec<String>, AccountsError> {
        self.bounded(async {
            let mut transaction = self.begin().await?;
            let mut user = locked_user(&mut transaction, name).await?;
            edit(&mut user)?;
            self.write_user(&mut transaction, name, &user).await?;
            let mut keys = Vec::new();
            if let Some(kind) = revoked {
                keys = self.revoke(&mut transaction, name, kind).await?;
            }
            transaction.commit().await?;
            Ok(keys)
        })
        .await
    }

    async fn edit_organisation(
        &self,
        name: &Organisation,
        edit: OrganisationEdit<'_>,
    ) -> Result<(), AccountsError> {
        self.bounded(async {
            let mut transaction = self.begin().await?;
            // There may be no row yet that could be locked.
            let lock = format!("/organisations/{name}");
            self.database.lock(&mut transaction, &lock).await?;
            let read = sqlx::query_scalar("SELECT record FROM organisations WHERE name = $1")
                .bind(name.as_str());
            let json: Option<Vec<u8>> = read.fetch_optional(&mut *transaction).await?;
            let mut organisation = match json {
                Some(json) => organisation_of(name.as_str(), &json)?,
                None => OrganisationRecord::default(),
            };
            edit(&mut organisation)?;
            let name = name.as_str();
            self.write_organisation(&mut transaction, name, &organisation)
                .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn remove_token(&self, key: &str) -> Result<bool, StorageError> {
        let removed = sqlx::query_scalar(
            "WITH removed AS (DELETE FROM tokens WHERE key = $1 RETURNING key), \
             told AS (SELECT pg_notify($2, $3) FROM removed) SELECT 1 FROM told",
        )
        .bind(key)
        .bind(&*self.database.channel)
        .bind(super::listener::to_text(&Notice::Token(key.to_owned())))
        .fetch_optional(&self.database.pool);
        let told: Option<i32> = self.database.run(WRITING, removed).await?;
        Ok(told.is_some())
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StorageError> {
        // Nobody believes in them any more: they carry their end.
        let pruned = sqlx::query("DELETE FROM tokens WHERE expires <= $1")
            .bind(now.unix_millis())
            .execute(&self.database.pool);
        let pruned = self.database.run(WRITING, pruned).await?;
        Ok(usize::try_from(pruned.rows_affected()).unwrap_or_default())
    }

    fn entries(&self) -> BoxStream<'_, Result<AccountEntry, StorageError>> {
        let users =
            self.pages("SELECT name, record FROM users WHERE name > $1 ORDER BY name LIMIT 500");
        let users = users.map(|row| {
            let (name, json) = row?;
            let user = Arc::new(user_of(&name, &json)?);
            Ok(AccountEntry::User(name, user))
        });
        let tokens =
            self.pages("SELECT key, record FROM tokens WHERE key > $1 ORDER BY key LIMIT 500");
        let tokens = tokens.map(|row| Ok(AccountEntry::Token(Arc::new(token_of(&row?.1)?))));
        let organisations = self.pages(
            "SELECT name, record FROM organisations WHERE name > $1 ORDER BY name LIMIT 500",
        );
        let organisations = organisations.map(|row| {
            let (name, json) = row?;
            let organisation = Arc::new(organisation_of(&name, &json)?);
            Ok(AccountEntry::Organisation(name, organisation))
        });
        users.chain(tokens).chain(organisations).boxed()
    }

    async fn put(&self, entry: AccountEntry) -> Result<(), StorageError> {
        let put = self.bounded(async {
            let mut transaction = self.begin().await?;
            match &entry {
                AccountEntry::User(name, user) => {
                    sqlx::query(
                        "INSERT INTO users (name, record) VALUES ($1, $2) \
                         ON CONFLICT (name) DO UPDATE SET record = excluded.record",
                    )
                    .bind(name)
                    .bind(to_json(WRITING, &**user)?)
                    .execute(&mut *transaction)
                    .await?;
                    let notice = Notice::User(name.clone());
                    self.database.tell(&mut transaction, &notice).await?;
                }
                AccountEntry::Token(token) => write_token(&mut transaction, token).await?,
                AccountEntry::Organisation(name, organisation) => {
                    self.write_organisation(&mut transaction, name, organisation)
                        .await?;
                }
            }
            Ok(transaction.commit().await?)
        });
        put.await.map_err(AccountsError::into_storage)
    }

    fn remember(&self) -> Remember {
        Remember::WhileCoherent(Arc::clone(self.database.coherence()))
    }
}

impl PgAccounts {
    async fn write_user(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        name: &Username,
        user: &UserRecord,
    ) -> Result<(), Failed> {
        sqlx::query("UPDATE users SET record = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(to_json(WRITING, user)?)
            .execute(&mut **transaction)
            .await?;
        let notice = Notice::User(name.as_str().to_owned());
        Ok(self.database.tell(transaction, &notice).await?)
    }

    /// Removes the tokens of `user` that are of this kind. Their keys.
    async fn revoke(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        user: &Username,
        kind: TokenKind,
    ) -> Result<Vec<String>, Failed> {
        let keys: Vec<String> = sqlx::query_scalar(
            "DELETE FROM tokens WHERE user_name = $1 AND kind = $2 RETURNING key",
        )
        .bind(user.as_str())
        .bind(kind_of(kind))
        .fetch_all(&mut **transaction)
        .await?;
        for key in &keys {
            let notice = Notice::Token(key.clone());
            self.database.tell(transaction, &notice).await?;
        }
        Ok(keys)
    }

    async fn write_organisation(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        name: &str,
        organisation: &OrganisationRecord,
    ) -> Result<(), Failed> {
        let teams = organisation.teams.values();
        let mut users: Vec<&str> = teams
            .flat_map(|team| &team.users)
            .chain(organisation.members.keys())
            .map(String::as_str)
            .collect();
        users.sort_unstable();
        users.dedup();
        sqlx::query(
            "INSERT INTO organisations (name, users, record) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET users = excluded.users, record = excluded.record",
        )
        .bind(name)
        .bind(users)
        .bind(to_json(WRITING, organisation)?)
        .execute(&mut **transaction)
        .await?;
        Ok(self
            .database
            .tell(transaction, &Notice::Organisations)
            .await?)
    }

    /// All rows of `query`, which takes the last key of the page before.
    fn pages(&self, query: &'static str) -> BoxStream<'_, Result<(String, Vec<u8>), StorageError>> {
        let pages = stream::try_unfold(String::new(), move |after| async move {
            let rows = sqlx::query_as(query)
                .bind(&after)
                .fetch_all(&self.database.pool);
            let rows: Vec<(String, Vec<u8>)> = self.database.run(READING, rows).await?;
            Ok(rows
                .last()
                .map(|(key, _)| key.clone())
                .map(|last| (rows, last)))
        });
        pages
            .flat_map(|page| match page {
                Ok(rows) => stream::iter(rows.into_iter().map(Ok)).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }
}
