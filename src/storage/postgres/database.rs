//! [`Database`]: the pool of connections, and the tables that are made at start.

use std::{fmt, future::Future, str::FromStr as _, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;
use sqlx::{
    Connection as _, Executor as _, PgConnection, PgPool, Postgres, SqlSafeStr as _, Transaction,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::storage::{Coherence, Notice, StorageError};

/// How long the tables may take to be made, with all nodes that start at the same time.
const LONGEST_MIGRATION: Duration = Duration::from_secs(120);
/// So many connections are made before anything is served.
const MADE_BEFORE: u32 = 16;

/// All migrations, oldest first.
pub(super) const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "metadata and accounts",
    include_str!("../../../migrations/0001_metadata_and_accounts.sql"),
)];

/// How a database is reached.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host/database`, with `sslmode` and other parameters of libpq.
    pub url: SecretString,
    /// The setting that it comes from, for messages.
    pub setting: &'static str,
    /// The most connections at once.
    pub max_connections: u32,
    /// How long anything may take before it has failed.
    pub timeout: Duration,
}

/// A database with our tables. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(super) pool: PgPool,
    timeout: Duration,
    /// Where changes are told; each schema has its own.
    pub(super) channel: Arc<str>,
    /// What our advisory locks begin with: that of another schema is another.
    lock_space: i32,
    coherence: Arc<Coherence>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database and brings its tables up to date, which is safe for many at once.
    pub async fn open(options: &PostgresOptions) -> Result<Self, StorageError> {
        Self::open_as(options, true).await
    }

    /// Opens the database to read it: its tables must be those of this version, and are left as they
    /// are.
    pub async fn open_to_read(options: &PostgresOptions) -> Result<Self, StorageError> {
        Self::open_as(options, false).await
    }

    async fn open_as(options: &PostgresOptions, migrates: bool) -> Result<Self, StorageError> {
        let connect = connect_options(options)?;
        let pool = lazy_pool(options, &connect);
        let opening = async {
            // Not from the pool: its connections are not for what takes long.
            let connect = connect.clone().options([("statement_timeout", "0")]);
            let mut connection = PgConnection::connect_with(&connect).await?;
            let schema: Option<String> = sqlx::query_scalar("SELECT current_schema()")
                .fetch_one(&mut connection)
                .await?;
            Ok::<_, sqlx::Error>((connection, schema))
        };
        let (mut connection, schema) = within(options.timeout, "opening the database", opening)
            .await
            .map_err(|error| StorageError::backend(unreachable_text(&connect, options), error))?;
        let schema = schema.ok_or_else(|| {
            let message = "no schema of its search_path exists; create one";
            StorageError::backend("opening the database", message)
        })?;
        if migrates {
            migrate(&mut connection).await?;
        } else {
            let found = migration_of(&mut connection);
            require_current(within(options.timeout, "looking at the tables", found).await?)?;
        }
        // What is left of it is the server's to clean up.
        drop(connection.close().await);
        let digest = sha2::Sha256::digest(schema.as_bytes());
        Ok(Self {
            pool,
            timeout: options.timeout,
            channel: format!("rustaccio_{}", hex::encode(&digest[..12])).into(),
            lock_space: first_int(&digest),
            coherence: Arc::default(),
        })
    }

    /// Whether notices of all changes arrive here.
    pub fn coherence(&self) -> &Arc<Coherence> {
        &self.coherence
    }

    /// Runs `work`, or fails in time.
    pub(super) async fn run<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StorageError> {
        within(self.timeout, operation, work).await
    }

    /// Runs `work` with a bound of its own.
    pub(super) async fn run_any<T, E>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E>
    where
        E: From<StorageError>,
    {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(too_slow(operation).into()),
        }
    }

    /// Makes connections before anybody waits for one: proving the password takes eight hundred turns of
    /// the scheduler, each behind all that a busy registry does. Those that fail are made when they are needed.
    pub async fn make_connections(&self) {
        let count = self.pool.options().get_max_connections().min(MADE_BEFORE);
        let connections = (0..count).map(|_| self.pool.acquire());
        let connected = futures_util::future::join_all(connections);
        let _ = tokio::time::timeout(self.timeout, connected).await;
    }

    /// Succeeds when the database answers.
    pub async fn check(&self) -> Result<(), StorageError> {
        let answer = sqlx::query("SELECT 1").execute(&self.pool);
        self.run("asking the database", answer).await.map(drop)
    }

    /// Holds the lock of `what` until the transaction ends.
    pub(super) async fn lock(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        what: &str,
    ) -> Result<(), sqlx::Error> {
        let which = first_int(&sha2::Sha256::digest(what));
        sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(self.lock_space)
            .bind(which)
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    /// Tells all nodes what has changed, once the transaction is through.
    pub(super) async fn tell(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        notice: &Notice,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(&*self.channel)
            .bind(super::listener::to_text(notice))
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }
}

/// A pool that connects when it is first asked, and again when connections were lost.
fn lazy_pool(options: &PostgresOptions, connect: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.timeout)
        .idle_timeout(None)
        .connect_lazy_with(connect.clone())
}

/// A pool for tables that are not ours here: nothing is asked and nothing made.
pub(crate) fn pool(options: &PostgresOptions) -> Result<PgPool, StorageError> {
    Ok(lazy_pool(options, &connect_options(options)?))
}

/// The result of `work`, or a failure in time.
pub(crate) async fn within<T>(
    timeout: Duration,
    operation: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StorageError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result.map_err(|error| failure(operation, error)),
        Err(_) => Err(too_slow(operation)),
    }
}

fn too_slow(operation: &str) -> StorageError {
    StorageError::backend(operation, "the database did not answer in time")
}

/// What Postgres said, as a failure of `operation`.
pub(super) fn failure(operation: &str, error: sqlx::Error) -> StorageError {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    if code.as_deref() == Some("53100") {
        return StorageError::Full(error.into());
    }
    StorageError::backend(operation, error)
}

fn connect_options(options: &PostgresOptions) -> Result<PgConnectOptions, StorageError> {
    let url = options.url.expose_secret();
    let parsed = PgConnectOptions::from_str(url)
        .map_err(|error| StorageError::backend(format!("reading {}", options.setting), error))?;
    let timeout = options.timeout.as_millis().to_string();
    Ok(parsed
        .application_name("rustaccio")
        .options([("statement_timeout", timeout.as_str())]))
}

/// Where it was looked for, without what must not be shown.
fn unreachable_text(connect: &PgConnectOptions, options: &PostgresOptions) -> String {
    format!(
        "connecting to Postgres at {}:{} ({})",
        connect.get_host(),
        connect.get_port(),
        options.setting
    )
}

/// The newest migration that the database has; `None` if there are no tables of ours.
async fn migration_of(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::text")
        .fetch_one(&mut *connection)
        .await?;
    if table.is_none() {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await
}

fn require_current(found: Option<i64>) -> Result<(), StorageError> {
    let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    let message = match found {
        Some(found) if found == newest => return Ok(()),
        Some(found) if found > newest => newer_text(found, newest),
        Some(found) => format!(
            "its tables are of an earlier version of rustaccio (migration {found}, and this version \
             has {newest}); start the registry with this version once, or run the earlier version"
        ),
        None => "it has no tables of rustaccio; RUSTACCIO_METADATA_POSTGRES_URL seems to name the \
                 wrong database, or one that no registry was started with"
            .to_owned(),
    };
    Err(StorageError::backend("reading the database", message))
}

fn newer_text(found: i64, newest: i64) -> String {
    format!(
        "the database was changed by a newer version of rustaccio: it has migration {found}, and \
         this version knows them up to {newest}; run the newer version"
    )
}

async fn migrate(connection: &mut PgConnection) -> Result<(), StorageError> {
    let migrations = MIGRATIONS.iter().map(|(version, description, sql)| {
        Migration::new(
            *version,
            (*description).into(),
            MigrationType::Simple,
            (*sql).into_sql_str(),
            false,
        )
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    // Whoever has made tables already says nothing about it.
    connection
        .execute("SET client_min_messages = warning")
        .await
        .map_err(|error| failure("making tables", error))?;
    let made = tokio::time::timeout(
        LONGEST_MIGRATION,
        migrator.run_direct(None, connection, false),
    );
    match made.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(MigrateError::VersionMissing(version))) => {
            let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
            let message = newer_text(version, newest);
            Err(StorageError::backend("making tables", message))
        }
        Ok(Err(error)) => Err(StorageError::backend("making tables", error)),
        Err(_) => Err(too_slow("making tables")),
    }
}

/// The first 32 bits of a digest.
fn first_int(digest: &[u8]) -> i32 {
    let first = digest.first_chunk::<4>().copied().unwrap_or_default();
    i32::from_le_bytes(first)
}
