//! Postgres through the conformance suites, and through what only it can do.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use secrecy::SecretString;
use sqlx::{Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

use super::{Database, PgAccounts, PgKeys, PgMetadata, PgSessions, PostgresOptions};
use crate::{
    config::Env,
    lifecycle::{Lifecycle, random_hex},
    models::PackageName,
    storage::{
        AccountStore, AccountStoreExt as _, Expected, Holding as _, KeyStore, MetadataStore,
        Notice, Secrets, SessionStore, SigningKeys, StorageError, accounts, conformance, sessions,
    },
};

/// The options of a schema of its own.
async fn schema() -> PostgresOptions {
    let variable = "RUSTACCIO_POSTGRES_IT_URL";
    let env = Env::of_process();
    let url = env.get(variable);
    let url = url.expect("RUSTACCIO_POSTGRES_IT_URL is not set: run this through ./scripts/test");
    let schema = format!("test_{}", random_hex::<8>());
    let mut connection = PgConnection::connect(url).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    connection.execute(create).await.unwrap();
    connection.close().await.unwrap();
    PostgresOptions {
        setting: "RUSTACCIO_METADATA_POSTGRES_URL",
        url: SecretString::from(format!("{url}?options[search_path]={schema}")),
        max_connections: 10,
        timeout: Duration::from_secs(20),
    }
}

async fn two(options: &PostgresOptions) -> [Database; 2] {
    let [one, other] = [Database::open(options), Database::open(options)];
    let (one, other) = futures_util::join!(one, other);
    [one.unwrap(), other.unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_conform() {
    let [database, _] = two(&schema().await).await;
    conformance::metadata_store(Arc::new(PgMetadata::new(database))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_conform() {
    let stores = two(&schema().await).await;
    let stores = stores.map(|it| Arc::new(PgAccounts::new(it)) as Arc<dyn AccountStore>);
    accounts::conformance::account_store(stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_conform() {
    let stores = two(&schema().await).await;
    let stores = stores.map(|it| Arc::new(PgSessions::new(it)) as Arc<dyn SessionStore>);
    sessions::conformance::session_store(stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_agree_on_tables_and_keys() {
    let options = schema().await;
    let started = join_all((0..8).map(|_| {
        let options = options.clone();
        async move {
            let keys = PgKeys::new(Database::open(&options).await.unwrap());
            let secrets = Secrets::open(&keys, None).await.unwrap();
            let signing = SigningKeys::open(&keys, &secrets).await.unwrap();
            (secrets, signing)
        }
    }));
    let started = started.await;
    let (first, signing) = &started[0];
    let sealed = first.seal("seed", b"text");
    for (secrets, other) in &started {
        assert_eq!(secrets.unseal("seed", &sealed).unwrap(), b"text");
        assert_eq!(other.keyid(), signing.keyid());
        assert_eq!(other.public().len(), 1);
    }
    // A node with another key would lock out everybody with a second factor.
    let keys = PgKeys::new(Database::open(&options).await.unwrap());
    let given = SecretString::from("another key, which is long enough".to_owned());
    let refused = Secrets::open(&keys, Some(&given)).await.unwrap_err();
    assert!(
        format!("{refused:?}").contains("RUSTACCIO_SECRET_KEY"),
        "{refused:?}"
    );
    assert!(!keys.write("secret.key", b"x", None).await.unwrap());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let options = schema().await;
    let database = Database::open(&options).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
                 execution_time) VALUES (9999, 'newer', true, ''::bytea, 0)";
    sqlx::query(newer).execute(&database.pool).await.unwrap();
    let refused = Database::open(&options).await.unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.contains("newer version of rustaccio"), "{refused}");
}

#[tokio::test]
async fn all_migrations_are_built_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    // Quotas have their own, which may be in another database.
    let names = names.filter(|name| !name.to_string_lossy().ends_with("_quota_usage_table.sql"));
    assert_eq!(names.count(), super::database::MIGRATIONS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_manifest_is_not_changed() {
    let [one, other] = two(&schema().await).await.map(PgMetadata::new);
    let name: PackageName = "held".parse().unwrap();
    // Held while it is absent, and while it is there.
    let hold = one.hold(&name, None).await.unwrap().unwrap();
    let (writer, package) = (other.clone(), name.clone());
    let write = Lifecycle::new()
        .spawn(async move { writer.put(&package, "1".into(), Expected::Absent).await });
    waits_for_a_lock(&one).await;
    drop(hold);
    let revision = write.await.unwrap().unwrap();
    assert!(one.hold(&name, None).await.unwrap().is_none());
    let hold = one.hold(&name, Some(&revision)).await.unwrap().unwrap();
    let (writer, package, expected) = (other, name.clone(), Expected::Exactly(revision.clone()));
    let write =
        Lifecycle::new().spawn(async move { writer.put(&package, "2".into(), expected).await });
    waits_for_a_lock(&one).await;
    drop(hold);
    let second = write.await.unwrap().unwrap();
    assert!(one.hold(&name, Some(&revision)).await.unwrap().is_none());
    one.delete(&name, &second).await.unwrap();
}

/// Returns once somebody waits for what is held.
async fn waits_for_a_lock(store: &PgMetadata) {
    let waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE NOT granted AND query_start > now() - interval '1 minute' \
                   AND pid = ANY (SELECT pid FROM pg_locks WHERE relation = 'manifests'::regclass \
                   UNION SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    loop {
        let count: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&store.database.pool)
            .await
            .unwrap();
        if count > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_what_others_change_and_says_when_it_cannot() {
    let options = schema().await;
    let [one, other] = two(&options).await;
    let lifecycle = Lifecycle::new();
    assert_eq!(one.coherence().epoch(), None);
    one.listen(&lifecycle).await;
    let first = one.coherence().epoch().unwrap();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let watcher = Box::new(move |notice: &Notice| sender.send(notice.clone()).is_ok());
    one.coherence().watch(watcher);
    let name: PackageName = "@a/heard".parse().unwrap();
    let store = PgMetadata::new(other.clone());
    let revision = store
        .put(&name, "1".into(), Expected::Absent)
        .await
        .unwrap();
    assert_eq!(heard.recv().await, Some(Notice::Package(name.clone())));
    let revision = store
        .put(&name, "2".into(), Expected::Exactly(revision))
        .await
        .unwrap();
    assert_eq!(heard.recv().await, Some(Notice::Package(name.clone())));
    store.delete(&name, &revision).await.unwrap();
    assert_eq!(heard.recv().await, Some(Notice::Package(name)));
    let stale = store.delete(&"x".parse().unwrap(), &revision).await;
    assert!(matches!(stale, Err(StorageError::Conflict(_))));
    let accounts = PgAccounts::new(other.clone());
    let token = accounts::conformance::token("1", "alice", accounts::TokenKind::Npm, None);
    accounts.add_token(token.clone()).await.unwrap();
    assert!(accounts.remove_token(&token.key).await.unwrap());
    assert_eq!(heard.recv().await, Some(Notice::Token(token.key)));
    // Its connection is cut: what was read before counts no more.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
               AND query LIKE '%' || $1 || '%'";
    let cut = sqlx::query(cut.into_sql_str()).bind(&*one.channel);
    assert_eq!(cut.fetch_all(&other.pool).await.unwrap().len(), 1);
    loop {
        match one.coherence().epoch() {
            Some(epoch) if epoch != first => break,
            _ => tokio::task::yield_now().await,
        }
    }
    let accounts = PgAccounts::new(other);
    accounts
        .add_token(accounts::conformance::token(
            "2",
            "a",
            accounts::TokenKind::Npm,
            None,
        ))
        .await
        .unwrap();
    accounts.remove_token(&format!("{:0>64}", 2)).await.unwrap();
    assert!(heard.recv().await.is_some());
    lifecycle.begin_shutdown();
    assert!(lifecycle.drain(Duration::from_secs(20)).await);
    assert_eq!(one.coherence().epoch(), None);
}
