//! [`PgSessions`]: logins that wait for a browser, passes and claims in Postgres.

use async_trait::async_trait;

use super::Database;
use crate::{
    models::{Timestamp, Username},
    storage::{
        StorageError,
        json::{from_json, to_json},
        sessions::{Claim, REMEMBERED_FOR, SessionRecord, SessionStore},
    },
};

const READING: &str = "reading sessions";
const WRITING: &str = "writing sessions";

/// Keeps sessions in rows, until they are pruned.
#[derive(Clone, Debug)]
pub struct PgSessions {
    database: Database,
}

/// The columns that a session is read from: those that change stand beside the record.
type Row = (i64, bool, Option<String>, Vec<u8>);

impl PgSessions {
    /// The sessions in `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Adds a session where there is room. Whether there was.
    async fn add(
        &self,
        session: &SessionRecord,
        record: &[u8],
        now: Timestamp,
    ) -> Result<bool, sqlx::Error> {
        let (owner, limits) = (session.owner(), session.limits());
        let mut transaction = self.database.pool.begin().await?;
        // One after another of each owner, so that none gets past the count.
        let lock = format!("/sessions/{owner}");
        self.database.lock(&mut transaction, &lock).await?;
        sqlx::query("DELETE FROM sessions WHERE expires <= $1")
            .bind(ended_long_before(now))
            .execute(&mut *transaction)
            .await?;
        let (held, total): (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE owner = $1), count(*) FROM sessions \
             WHERE (owner LIKE 'user:%') = ($1 LIKE 'user:%')",
        )
        .bind(&owner)
        .fetch_one(&mut *transaction)
        .await?;
        let is_more = |count: i64, most: usize| usize::try_from(count).is_ok_and(|it| it >= most);
        let loser = if is_more(held, limits.per_owner) {
            Some(owner.clone())
        } else if is_more(total, limits.total) {
            sqlx::query_scalar(
                "SELECT owner FROM sessions WHERE (owner LIKE 'user:%') = ($1 LIKE 'user:%') \
                 GROUP BY owner ORDER BY count(*) DESC LIMIT 1",
            )
            .bind(&owner)
            .fetch_optional(&mut *transaction)
            .await?
        } else {
            None
        };
        if let Some(loser) = loser {
            // One that was answered stays until it is fetched.
            let pushed_out = sqlx::query(
                "DELETE FROM sessions WHERE page = (SELECT page FROM sessions WHERE owner = $1 \
                 AND (NOT is_answered OR expires <= $2) ORDER BY begun LIMIT 1)",
            )
            .bind(loser)
            .bind(now.unix_millis())
            .execute(&mut *transaction)
            .await?;
            if pushed_out.rows_affected() == 0 {
                return Ok(false);
            }
        }
        sqlx::query(
            "INSERT INTO sessions (page, done, owner, expires, record) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&session.page)
        .bind(&session.done)
        .bind(owner)
        .bind(session.expires.unix_millis())
        .bind(record)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn read(
        &self,
        query: &'static str,
        id: &str,
    ) -> Result<Option<SessionRecord>, StorageError> {
        let read = sqlx::query_as(query)
            .bind(id)
            .fetch_optional(&self.database.pool);
        let row: Option<Row> = self.database.run(READING, read).await?;
        row.map(record_of).transpose()
    }
}

/// What ended before this is not remembered any more.
fn ended_long_before(now: Timestamp) -> i64 {
    let span = i64::try_from(REMEMBERED_FOR.as_millis()).unwrap_or_default();
    now.unix_millis() - span
}

fn record_of((expires, is_answered, token, record): Row) -> Result<SessionRecord, StorageError> {
    let record: SessionRecord = from_json("a login session", &record)?;
    Ok(SessionRecord {
        expires: Timestamp::from_unix_millis(expires),
        is_answered,
        token,
        ..record
    })
}

#[async_trait]
impl SessionStore for PgSessions {
    async fn begin(&self, session: SessionRecord, now: Timestamp) -> Result<bool, StorageError> {
        let record = to_json(WRITING, &session)?;
        let added = self.add(&session, &record, now);
        self.database.run(WRITING, added).await
    }

    async fn of_page(&self, page: &str) -> Result<Option<SessionRecord>, StorageError> {
        let query = "SELECT expires, is_answered, token, record FROM sessions WHERE page = $1";
        self.read(query, page).await
    }

    async fn of_client(&self, done: &str) -> Result<Option<SessionRecord>, StorageError> {
        let query = "SELECT expires, is_answered, token, record FROM sessions WHERE done = $1";
        self.read(query, done).await
    }

    async fn answer(
        &self,
        page: &str,
        token: Option<String>,
        expires: Timestamp,
    ) -> Result<bool, StorageError> {
        let answered = sqlx::query(
            "UPDATE sessions SET is_answered = true, token = $2, expires = $3 \
             WHERE page = $1 AND NOT is_answered",
        )
        .bind(page)
        .bind(token)
        .bind(expires.unix_millis())
        .execute(&self.database.pool);
        let answered = self.database.run(WRITING, answered).await?;
        Ok(answered.rows_affected() == 1)
    }

    async fn take(&self, done: &str) -> Result<Option<SessionRecord>, StorageError> {
        let query = "DELETE FROM sessions WHERE done = $1 AND is_answered \
                     RETURNING expires, is_answered, token, record";
        self.read(query, done).await
    }

    async fn add_pass(
        &self,
        hash: &str,
        user: &Username,
        expires: Timestamp,
    ) -> Result<(), StorageError> {
        let added = sqlx::query(
            "INSERT INTO passes (hash, user_name, expires) VALUES ($1, $2, $3) \
             ON CONFLICT (hash) DO NOTHING",
        )
        .bind(hash)
        .bind(user.as_str())
        .bind(expires.unix_millis())
        .execute(&self.database.pool);
        self.database.run(WRITING, added).await.map(drop)
    }

    async fn pass(&self, hash: &str) -> Result<Option<(Username, Timestamp)>, StorageError> {
        let read = sqlx::query_as("SELECT user_name, expires FROM passes WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.database.pool);
        let pass: Option<(String, i64)> = self.database.run(READING, read).await?;
        Ok(pass.and_then(|(user, expires)| {
            let user = user.parse().ok()?;
            Some((user, Timestamp::from_unix_millis(expires)))
        }))
    }

    async fn claim(
        &self,
        key: &str,
        claim: Claim,
        until: Timestamp,
    ) -> Result<Claim, StorageError> {
        let claimed = sqlx::query(
            "INSERT INTO claims (key, claimed_by, claimed_at, expires) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (key) DO NOTHING",
        )
        .bind(key)
        .bind(&claim.by)
        .bind(claim.at.unix_millis())
        .bind(until.unix_millis())
        .execute(&self.database.pool);
        let claimed = self.database.run(WRITING, claimed).await?;
        if claimed.rows_affected() == 1 {
            return Ok(claim);
        }
        // It was there, and is pruned long after it matters.
        Ok(self.claimed(key).await?.unwrap_or(claim))
    }

    async fn claimed(&self, key: &str) -> Result<Option<Claim>, StorageError> {
        let read = sqlx::query_as("SELECT claimed_by, claimed_at FROM claims WHERE key = $1")
            .bind(key)
            .fetch_optional(&self.database.pool);
        let claim: Option<(String, i64)> = self.database.run(READING, read).await?;
        Ok(claim.map(|(by, at)| Claim {
            by,
            at: Timestamp::from_unix_millis(at),
        }))
    }

    async fn prune(&self, now: Timestamp) -> Result<(), StorageError> {
        let pruned = async {
            for query in [
                "DELETE FROM passes WHERE expires <= $1",
                "DELETE FROM claims WHERE expires <= $1",
            ] {
                let query = sqlx::query(query).bind(now.unix_millis());
                query.execute(&self.database.pool).await?;
            }
            sqlx::query("DELETE FROM sessions WHERE expires <= $1")
                .bind(ended_long_before(now))
                .execute(&self.database.pool)
                .await
        };
        self.database.run(WRITING, pruned).await.map(drop)
    }
}
