//! [`PgQuotas`]: what all nodes have seen.

use std::{fmt, time::Duration};

use futures_util::{FutureExt as _, future::Either};
use sqlx::PgPool;
use tokio::sync::OnceCell;

use super::{QuotaStore, Usage};
use crate::{
    governance::{Counted, GovernanceError},
    storage::{
        StorageError,
        postgres::{PostgresOptions, pool, within},
    },
};

/// The migrations of these tables by name, oldest first.
const MIGRATIONS: &[(&str, &str)] = &[(
    "0001_quota_usage_table",
    include_str!("../../../migrations/0001_quota_usage_table.sql"),
)];
/// Whoever runs migrations holds this lock.
const MIGRATION_LOCK: i64 = 0x7275_7374_6163_6369;
/// How long that may take, with all nodes that start at the same time.
const LONGEST_MIGRATION: Duration = Duration::from_secs(60);

/// Whether a count is one more is decided with it, in one statement.
const COUNT: &str = "INSERT INTO rustaccio_quota_usage AS usage (day, tenant_key, metric, used) \
                     VALUES ($1, $2, $3, 1) \
                     ON CONFLICT (day, tenant_key, metric) \
                     DO UPDATE SET used = usage.used + 1 WHERE usage.used < $4 RETURNING used";

/// Quotas in a database.
pub struct PgQuotas {
    pool: PgPool,
    timeout: Duration,
    are_tables_made: OnceCell<()>,
}

impl fmt::Debug for PgQuotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgQuotas").finish_non_exhaustive()
    }
}

impl PgQuotas {
    /// Quotas in the database of `options`. It connects when it is first asked.
    pub fn new(options: &PostgresOptions) -> Result<Self, GovernanceError> {
        Ok(Self {
            pool: pool(options)?,
            timeout: options.timeout,
            are_tables_made: OnceCell::new(),
        })
    }

    /// Makes the tables where they are not there, which is safe for many at once.
    pub async fn prepare(&self) -> Result<(), GovernanceError> {
        let made = self.are_tables_made.get_or_try_init(|| self.migrate());
        Ok(made.await.copied()?)
    }

    async fn migrate(&self) -> Result<(), StorageError> {
        let connection = within(self.timeout, "opening the database", self.pool.begin());
        let mut transaction = connection.await?;
        let work = async {
            // Others may be at it for longer than a question may take.
            sqlx::query("SET LOCAL statement_timeout = 0")
                .execute(&mut *transaction)
                .await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(MIGRATION_LOCK)
                .execute(&mut *transaction)
                .await?;
            // Otherwise the server says each time that it is there.
            sqlx::query("SET LOCAL client_min_messages = warning")
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "CREATE TABLE IF NOT EXISTS rustaccio_schema_migrations (name text PRIMARY KEY, \
                 applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .execute(&mut *transaction)
            .await?;
            for (name, sql) in MIGRATIONS {
                let noted = sqlx::query(
                    "INSERT INTO rustaccio_schema_migrations (name) VALUES ($1) \
                     ON CONFLICT DO NOTHING",
                )
                .bind(name)
                .execute(&mut *transaction)
                .await?;
                if noted.rows_affected() > 0 {
                    sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
                }
            }
            transaction.commit().await
        };
        within(LONGEST_MIGRATION, "making the tables of quotas", work).await
    }
}

impl QuotaStore for PgQuotas {
    fn count<'a>(&'a self, usage: Usage<'a>, limit: u64) -> Counted<'a, Option<u64>> {
        Either::Right(self.ask(usage, limit).boxed())
    }
}

impl PgQuotas {
    async fn ask(&self, usage: Usage<'_>, limit: u64) -> Result<Option<u64>, GovernanceError> {
        self.prepare().await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let used = sqlx::query_scalar::<_, i64>(COUNT)
            .bind(usage.day.to_string())
            .bind(usage.tenant)
            .bind(usage.metric.as_str())
            .bind(limit)
            .fetch_optional(&self.pool);
        let used = within(self.timeout, "counting for the quota", used).await?;
        Ok(used.map(i64::unsigned_abs))
    }
}

#[cfg(feature = "test-services")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use secrecy::SecretString;
    use sqlx::{Connection as _, Executor as _, PgConnection};

    use super::*;
    use crate::{config::Env, governance::quota::conformance::conforms, lifecycle::random_hex};

    /// The options of a schema of its own.
    async fn schema() -> PostgresOptions {
        let env = Env::of_process();
        let url = env.get("RUSTACCIO_POSTGRES_IT_URL");
        let url =
            url.expect("RUSTACCIO_POSTGRES_IT_URL is not set: run this through ./scripts/test");
        let schema = format!("test_{}", random_hex::<8>());
        let mut connection = PgConnection::connect(url).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        connection.execute(create).await.unwrap();
        connection.close().await.unwrap();
        PostgresOptions {
            setting: "RUSTACCIO_QUOTA_POSTGRES_URL",
            url: SecretString::from(format!("{url}?options[search_path]={schema}")),
            max_connections: 5,
            timeout: Duration::from_secs(20),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_conforms() {
        let options = schema().await;
        let stores: [Arc<dyn QuotaStore>; 2] = [
            Arc::new(PgQuotas::new(&options).unwrap()),
            Arc::new(PgQuotas::new(&options).unwrap()),
        ];
        conforms(&stores).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tables_are_made_once_by_many() {
        let options = schema().await;
        for _ in 0..2 {
            let nodes: Vec<_> = (0..6).map(|_| PgQuotas::new(&options).unwrap()).collect();
            let prepared = nodes.iter().map(PgQuotas::prepare);
            for done in futures_util::future::join_all(prepared).await {
                done.unwrap();
            }
            let names: Vec<String> =
                sqlx::query_scalar("SELECT name FROM rustaccio_schema_migrations")
                    .fetch_all(&nodes[0].pool)
                    .await
                    .unwrap();
            assert_eq!(names, ["0001_quota_usage_table"]);
        }
    }
}
