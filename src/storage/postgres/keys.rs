//! [`PgKeys`]: keys that all nodes share, in Postgres.

use async_trait::async_trait;

use super::Database;
use crate::storage::{KeyStore, StorageError};

/// Keeps keys in rows of `keys`.
#[derive(Clone, Debug)]
pub struct PgKeys {
    database: Database,
}

impl PgKeys {
    /// The keys in `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl KeyStore for PgKeys {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let read = sqlx::query_scalar("SELECT value FROM keys WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.database.pool);
        self.database.run("reading keys", read).await
    }

    async fn write(
        &self,
        name: &str,
        value: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        let query = match expected {
            None => sqlx::query(
                "INSERT INTO keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            ),
            Some(_) => sqlx::query("UPDATE keys SET value = $2 WHERE name = $1 AND value = $3"),
        };
        let query = query.bind(name).bind(value);
        let query = match expected {
            None => query,
            Some(expected) => query.bind(expected),
        };
        let written = query.execute(&self.database.pool);
        let written = self.database.run("writing keys", written).await?;
        Ok(written.rows_affected() == 1)
    }

    fn place(&self, name: &str) -> String {
        format!("`{name}` in the table `keys`")
    }

    fn is_shared(&self) -> bool {
        true
    }
}
