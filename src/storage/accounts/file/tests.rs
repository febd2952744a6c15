//! Accounts under load, in failures and after earlier versions.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use super::*;
use crate::{
    lifecycle::random_bytes,
    storage::{AccountStoreExt as _, Profile},
};

fn user() -> UserRecord {
    UserRecord {
        password_hash: "$argon2id$".to_owned(),
        created: Timestamp::from_unix_millis(1),
        updated: None,
        password_changed: None,
        disabled: None,
        second_factor: None,
        profile: Profile::default(),
    }
}

fn name(text: &str) -> Username {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_registrations_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..200 {
        let accounts = accounts.clone();
        tasks.spawn(async move {
            accounts
                .create_user(&name(&format!("user{index}")), user(), None)
                .await
                .unwrap();
        });
    }
    tasks.join_all().await;
    let again = FileAccounts::open(path.clone()).await.unwrap();
    assert_eq!(again.user_count().await.unwrap(), 200);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

/// Makes accounts, most of whose makers hang up after a while; those that were acknowledged.
async fn impatient_registrations(path: PathBuf, round: usize) -> Vec<Username> {
    let accounts = FileAccounts::open(path).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..10 {
        let accounts = accounts.clone();
        let patience = match index % 3 {
            0 => Duration::MAX,
            _ => Duration::from_micros(u64::from(random_bytes::<1>()[0]) * 20),
        };
        tasks.spawn(async move {
            let name = name(&format!("user{round}-{index}"));
            let made = accounts.create_user(&name, user(), None);
            let made = tokio::time::timeout(patience, made).await.ok();
            made.map(|made| made.map(|()| name).unwrap())
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

#[test]
fn what_was_acknowledged_stays_whoever_hangs_up() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for round in 0..20 {
        // Its end waits for whatever still runs.
        let acknowledged = runtime().block_on(impatient_registrations(path.clone(), round));
        assert!(acknowledged.len() >= 4);
        let again = runtime()
            .block_on(FileAccounts::open(path.clone()))
            .unwrap();
        let is_there = |accounts: &FileAccounts, name: &Username| {
            runtime().block_on(accounts.user(name)).unwrap().is_some()
        };
        for name in &acknowledged {
            assert!(is_there(&again, name), "{name} is lost");
        }
    }
}

#[test]
fn a_write_that_nobody_waits_for_undoes_no_later_one() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (alice, now) = (name("alice"), Timestamp::from_unix_millis(2));
    let fullname = |text: String| {
        move |user: &mut UserRecord| {
            user.profile.fullname.clone_from(&text);
            Ok(())
        }
    };
    runtime().block_on(async {
        let accounts = FileAccounts::open(path.clone()).await.unwrap();
        accounts.create_user(&alice, user(), None).await.unwrap();
        // Its file takes long to write; it hangs up as soon as that has begun.
        let mut large =
            Box::pin(accounts.change_user(&alice, now, fullname("x".repeat(20_000_000))));
        assert!(futures_util::poll!(&mut large).is_pending());
        drop(large);
        let small = accounts.change_user(&alice, now, fullname("Alice".to_owned()));
        small.await.unwrap();
    });
    // The end of that runtime has waited for all writes.
    let accounts = runtime().block_on(FileAccounts::open(path)).unwrap();
    let user = runtime().block_on(accounts.user(&alice)).unwrap();
    assert!(user.unwrap().profile.fullname == "Alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_written_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    accounts
        .create_user(&name("alice"), user(), None)
        .await
        .unwrap();
    // Nothing can be renamed over a folder that is not empty.
    fs::rename(&path, folder.path().join("aside")).unwrap();
    fs::create_dir_all(path.join("in-the-way")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..20 {
        let accounts = accounts.clone();
        tasks.spawn(async move {
            let name = name(&format!("user{index}"));
            accounts.create_user(&name, user(), None).await
        });
    }
    for outcome in tasks.join_all().await {
        assert!(matches!(outcome, Err(AccountsError::Storage(_))));
    }
    assert_eq!(accounts.user_count().await.unwrap(), 1);
    fs::remove_dir_all(&path).unwrap();
    accounts
        .create_user(&name("user7"), user(), None)
        .await
        .unwrap();
    let again = FileAccounts::open(path).await.unwrap();
    assert_eq!(again.user_count().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_gets_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = FileAccounts::open(folder.path().join("state.json"))
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let accounts = accounts.clone();
        tasks.spawn(async move {
            accounts
                .create_user(&name("__proto__"), user(), Some(5))
                .await
                .is_ok()
        });
    }
    let won = tasks
        .join_all()
        .await
        .into_iter()
        .filter(|&won| won)
        .count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn raw_tokens_of_earlier_versions_are_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let raw = "ab".repeat(24);
    let old = format!(
        r#"{{"users":{{"a":{{"password_hash":"x","created_at":1}}}},"auth_tokens":{{"{raw}":{{"user":"a","created_at":2}}}},"npm_tokens":[{{"user":"a","token":"abcde...","key":"k","auth_key":"k","cidr":[],"readonly":true,"created":"2026-01-01T00:00:00Z"}}],"login_sessions":{{}},"packages":{{}},"x":1}}"#
    );
    write_atomic(&path, old.as_bytes(), MODE_SECRET).unwrap();
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    assert_eq!(accounts.tokens_of(&name("a")).await.unwrap().len(), 2);
    let written = fs::read_to_string(&path).unwrap();
    assert!(!written.contains(&raw));
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["x"], 1);
    assert_eq!(written["packages"], serde_json::json!({}));
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&raw));
    let token = accounts.token(&hash).await.unwrap();
    assert_eq!(token.unwrap().user, "a");
}

#[tokio::test]
async fn a_damaged_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write_atomic(&path, b"{\"users\": {", MODE_SECRET).unwrap();
    let error = FileAccounts::open(path.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("state.json is damaged"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"users\": {");
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = FileAccounts::open(folder.path().join("state.json")).await;
    let accounts: Arc<dyn AccountStore> = Arc::new(accounts.unwrap());
    crate::storage::accounts::conformance::account_store([Arc::clone(&accounts), accounts]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_write_one_file_lose_nothing_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    // As in two processes: nothing but the file is common to them.
    let one = FileAccounts::open(path.clone()).await.unwrap();
    let other = FileAccounts::open(path.clone()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (side, accounts) in [("one", &one), ("other", &other)] {
        for index in 0..20 {
            let accounts = accounts.clone();
            tasks.spawn(async move {
                let name = name(&format!("{side}{index}"));
                accounts.create_user(&name, user(), None).await.unwrap();
                // Seen by whoever asks after it was answered.
                assert!(accounts.user(&name).await.unwrap().is_some());
            });
        }
    }
    tasks.join_all().await;
    for accounts in [&one, &other] {
        assert_eq!(accounts.user_count().await.unwrap(), 40);
    }
    let taken = other.create_user(&name("one7"), user(), None).await;
    assert!(matches!(taken, Err(AccountsError::UserExists)), "{taken:?}");
    let (renewed, at) = (name("other3"), Timestamp::from_unix_millis(2));
    let edited = one.set_password(&renewed, "h".to_owned(), at, TokenKind::Login);
    edited.await.unwrap();
    let seen = other.user(&renewed).await.unwrap().unwrap();
    assert_eq!(seen.password_hash, "h");
}

#[tokio::test]
async fn a_file_that_is_taken_away_takes_nobody_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    let create = |text: &'static str| {
        let accounts = accounts.clone();
        async move {
            accounts
                .create_user(&name(text), user(), None)
                .await
                .unwrap();
        }
    };
    create("alice").await;
    fs::remove_file(&path).unwrap();
    assert!(accounts.user(&name("alice")).await.unwrap().is_some());
    create("bob").await;
    let again = FileAccounts::open(path).await.unwrap();
    assert_eq!(again.user_count().await.unwrap(), 2);
}

fn lock_of(path: &Path) -> File {
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    options.open(path.with_extension("lock")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_another_process_has_outrun_has_the_next_turn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    let mut outrun = 0;
    let changed = accounts.change(|state| {
        // As a registry that writes all the time, whenever it can.
        let lock = lock_of(&path);
        if lock.try_lock().is_ok() {
            outrun += 1;
            write_atomic(&path, b"{}", MODE_SECRET).unwrap();
        }
        state
            .users
            .insert(format!("after{outrun}"), Arc::new(user()));
        Ok(())
    });
    changed.await.unwrap();
    assert_eq!(outrun, 1);
    assert!(accounts.user(&name("after1")).await.unwrap().is_some());
    // The turn has ended.
    lock_of(&path).try_lock().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_keeps_nobody_from_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    let other = FileAccounts::open(path.clone()).await.unwrap();
    let alice = name("alice");
    other.create_user(&alice, user(), None).await.unwrap();
    let stopped = lock_of(&path);
    stopped.try_lock().unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), accounts.user(&alice));
    assert!(read.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn a_file_that_was_emptied_takes_nobody_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let accounts = FileAccounts::open(path.clone()).await.unwrap();
    let (alice, bob) = (name("alice"), name("bob"));
    accounts.create_user(&alice, user(), None).await.unwrap();
    let before = fs::read_to_string(&path).unwrap();
    // As `jq . state.json > state.json` does.
    File::create(&path).unwrap();
    let error = accounts.user(&alice).await.unwrap_err();
    let error = crate::error::explain(&error);
    assert!(error.contains("put a copy of it back"), "{error}");
    let created = accounts.create_user(&bob, user(), None).await;
    assert!(
        matches!(created, Err(AccountsError::Storage(_))),
        "{created:?}"
    );
    let opened = FileAccounts::open(path.clone()).await.unwrap_err();
    let opened = crate::error::explain(&opened);
    assert!(opened.contains("put a copy of it back"), "{opened}");
    write_atomic(&path, before.as_bytes(), MODE_SECRET).unwrap();
    assert!(accounts.user(&alice).await.unwrap().is_some());
    accounts.create_user(&bob, user(), None).await.unwrap();
}
