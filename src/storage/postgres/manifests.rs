//! [`PgMetadata`]: manifests in Postgres, compare-and-swap in one statement.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::Digest as _;

use super::Database;
use crate::{
    models::{PackageName, Revision},
    storage::{
        Coherence, Document, Expected, Hold, Holding, MetadataStore, Notice, Stamp, StorageError,
    },
};

/// How many names of a listing are fetched at once.
const PAGE: i64 = 1000;

/// Keeps each manifest in a row of `manifests`, byte for byte.
#[derive(Clone, Debug)]
pub struct PgMetadata {
    pub(super) database: Database,
}

impl PgMetadata {
    /// The manifests in `database`. Notices of changes arrive once it is
    /// [listened to](Database::listen).
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Writes a manifest where there is none. Whether there was none.
    async fn create(
        &self,
        name: &PackageName,
        json: &[u8],
        revision: &str,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.database.pool.begin().await?;
        // Nobody may rely on its absence meanwhile: there is no row that could be locked.
        self.database.lock(&mut transaction, name.as_str()).await?;
        let created = sqlx::query(
            "INSERT INTO manifests (name, json, revision) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(json)
        .bind(revision)
        .execute(&mut *transaction)
        .await?;
        if created.rows_affected() == 0 {
            return Ok(false);
        }
        let notice = Notice::Package(name.clone());
        self.database.tell(&mut transaction, &notice).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Replaces the manifest if it is still at `expected`. Whether it was.
    async fn replace(
        &self,
        name: &PackageName,
        json: &[u8],
        revision: &str,
        expected: &Revision,
    ) -> Result<bool, sqlx::Error> {
        let told: Option<i32> = sqlx::query_scalar(
            "WITH changed AS ( \
                 UPDATE manifests \
                 SET json = $2, revision = $3, stamp = nextval('manifest_stamps'), changed = now() \
                 WHERE name = $1 AND revision = $4 RETURNING name \
             ), told AS (SELECT pg_notify($5, $6) FROM changed) \
             SELECT 1 FROM told",
        )
        .bind(name.as_str())
        .bind(json)
        .bind(revision)
        .bind(expected.as_str())
        .bind(&*self.database.channel)
        .bind(super::listener::to_text(&Notice::Package(name.clone())))
        .fetch_optional(&self.database.pool)
        .await?;
        Ok(told.is_some())
    }
}

#[async_trait]
impl MetadataStore for PgMetadata {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let read = sqlx::query_as("SELECT json, revision, stamp FROM manifests WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.database.pool);
        let read: Option<(Vec<u8>, String, i64)> =
            self.database.run("reading a manifest", read).await?;
        Ok(read.map(|(json, revision, stamp)| Document {
            json: json.into(),
            revision: Revision::new(revision),
            stamp: stamp_of(stamp),
        }))
    }

    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError> {
        let read = sqlx::query_scalar("SELECT stamp FROM manifests WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.database.pool);
        let stamp: Option<i64> = self.database.run("looking at a manifest", read).await?;
        Ok(stamp.map(stamp_of))
    }

    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        let revision = hex::encode(sha2::Sha256::digest(&json));
        let operation = "writing a manifest";
        let is_written = match &expected {
            Expected::Absent => {
                let created = self.create(name, &json, &revision);
                self.database.run(operation, created).await?
            }
            Expected::Exactly(expected) => {
                let replaced = self.replace(name, &json, &revision, expected);
                self.database.run(operation, replaced).await?
            }
        };
        if is_written {
            Ok(Revision::new(revision))
        } else {
            Err(StorageError::Conflict(name.clone()))
        }
    }

    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        let deleted = sqlx::query_scalar(
            "WITH changed AS ( \
                 DELETE FROM manifests WHERE name = $1 AND revision = $2 RETURNING name \
             ), told AS (SELECT pg_notify($3, $4) FROM changed) \
             SELECT 1 FROM told",
        )
        .bind(name.as_str())
        .bind(revision.as_str())
        .bind(&*self.database.channel)
        .bind(super::listener::to_text(&Notice::Package(name.clone())))
        .fetch_optional(&self.database.pool);
        let told: Option<i32> = self.database.run("deleting a manifest", deleted).await?;
        told.map(drop)
            .ok_or_else(|| StorageError::Conflict(name.clone()))
    }

    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.survey().map_ok(|(name, _)| name).boxed()
    }

    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>> {
        let database = self.database.clone();
        // In pages, so that no one who is slow holds a connection.
        let pages = stream::try_unfold(Some(String::new()), move |after| {
            let database = database.clone();
            async move {
                let Some(after) = after else {
                    return Ok(None);
                };
                let found = sqlx::query_as(
                    "SELECT name, stamp FROM manifests WHERE name > $1 ORDER BY name LIMIT $2",
                )
                .bind(&after)
                .bind(PAGE)
                .fetch_all(&database.pool);
                let found: Vec<(String, i64)> = database.run("listing manifests", found).await?;
                let is_full = i64::try_from(found.len()) == Ok(PAGE);
                let last = found.last().filter(|_| is_full);
                let next = last.map(|(name, _)| name.clone());
                Ok(Some((found, next)))
            }
        });
        pages
            .map_ok(|found| {
                let found = found.into_iter();
                let found =
                    found.filter_map(|(name, stamp)| Some((name.parse().ok()?, stamp_of(stamp))));
                stream::iter(found.map(Ok))
            })
            .try_flatten()
            .boxed()
    }

    fn coherence(&self) -> Option<&Arc<Coherence>> {
        Some(self.database.coherence())
    }
}

#[async_trait]
impl Holding for PgMetadata {
    async fn hold(
        &self,
        name: &PackageName,
        revision: Option<&Revision>,
    ) -> Result<Option<Hold>, StorageError> {
        let held = async {
            let mut transaction = self.database.pool.begin().await?;
            if revision.is_none() {
                self.database.lock(&mut transaction, name.as_str()).await?;
            }
            let current: Option<String> =
                sqlx::query_scalar("SELECT revision FROM manifests WHERE name = $1 FOR UPDATE")
                    .bind(name.as_str())
                    .fetch_optional(&mut *transaction)
                    .await?;
            let is_current = current.as_deref() == revision.map(Revision::as_str);
            Ok(is_current.then_some(transaction))
        };
        let held = self.database.run("holding a manifest", held).await?;
        Ok(held.map(|transaction| Box::new(transaction) as Hold))
    }
}

fn stamp_of(number: i64) -> Stamp {
    Stamp([number.cast_unsigned(), 0, 0, 0])
}
