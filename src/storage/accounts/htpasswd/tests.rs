//! The file and what is kept beside it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::storage::{AccountStoreExt as _, accounts::conformance, fs::atomic::write_atomic};

fn name(text: &str) -> Username {
    text.parse().unwrap()
}

struct Scene {
    folder: tempfile::TempDir,
    accounts: Arc<HtpasswdAccounts>,
}

impl Scene {
    async fn with(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scene = folder.path().join("htpasswd");
        if !file.is_empty() {
            write_atomic(&scene, file.as_bytes(), 0o640).unwrap();
        }
        let accounts = Self::open(folder.path()).await;
        Self { folder, accounts }
    }

    async fn open(folder: &Path) -> Arc<HtpasswdAccounts> {
        let kept = FileAccounts::open(folder.join("state.json")).await.unwrap();
        let opened = HtpasswdAccounts::open(kept, folder.join("htpasswd"), 4).await;
        Arc::new(opened.unwrap())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("htpasswd")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let scene = Scene::with("").await;
    let store = || Arc::clone(&scene.accounts) as Arc<dyn AccountStore>;
    conformance::account_store([store(), store()]).await;
}

#[tokio::test]
async fn who_leaves_the_file_is_gone_with_her_tokens() {
    let scene = Scene::with("alice:a\nbob:b\n").await;
    let (accounts, alice) = (&scene.accounts, name("alice"));
    let token = conformance::token("a1", "alice", TokenKind::Npm, None);
    accounts.add_token(token.clone()).await.unwrap();
    assert!(accounts.token(&token.key).await.unwrap().is_some());
    fs::rename(scene.path(), scene.folder.path().join("away")).unwrap();
    assert!(accounts.user(&alice).await.unwrap().is_none());
    assert!(accounts.token(&token.key).await.unwrap().is_none());
    assert!(accounts.tokens_of(&alice).await.unwrap().is_empty());
    assert_eq!(accounts.user_count().await.unwrap(), 0);
    let entries: Vec<AccountEntry> = accounts.entries().try_collect().await.unwrap();
    assert!(entries.is_empty(), "{entries:?}");
    fs::rename(scene.folder.path().join("away"), scene.path()).unwrap();
    assert!(accounts.token(&token.key).await.unwrap().is_some());
}

#[tokio::test]
async fn who_registers_has_nothing_of_who_had_the_name_before() {
    let scene = Scene::with("").await;
    let (accounts, alice) = (&scene.accounts, name("alice"));
    let create = || accounts.create_user(&alice, conformance::user(), None);
    create().await.unwrap();
    let token = conformance::token("a1", "alice", TokenKind::Npm, None);
    accounts.add_token(token.clone()).await.unwrap();
    assert!(matches!(create().await, Err(AccountsError::UserExists)));
    assert!(accounts.token(&token.key).await.unwrap().is_some());
    write_atomic(&scene.path(), b"bob:b\n", 0o640).unwrap();
    create().await.unwrap();
    assert!(accounts.token(&token.key).await.unwrap().is_none());
}

#[tokio::test]
async fn only_the_lines_change_that_a_change_is_about() {
    let before = "# ours\n\nalice:a:by hand\nodd line\nbob : b\r\ndave:";
    let scene = Scene::with(before).await;
    let (accounts, alice, carol) = (&scene.accounts, name("alice"), name("carol"));
    let now = Timestamp::from_unix_millis(5);
    let edited = accounts.change_user(&alice, now, |user| {
        user.profile.email = "a@example.org".to_owned();
        Ok(())
    });
    edited.await.unwrap();
    assert_eq!(scene.text(), before);
    let new = "new".to_owned();
    let changed = accounts.set_password(&alice, new, now, TokenKind::Login);
    changed.await.unwrap();
    let after = before.replace("alice:a:", "alice:new:");
    assert_eq!(scene.text(), after);
    let user = accounts.user(&alice).await.unwrap().unwrap();
    assert_eq!(
        (&*user.password_hash, &*user.profile.email),
        ("new", "a@example.org")
    );
    assert_eq!(user.password_changed, Some(now));
    let record = conformance::user();
    accounts.create_user(&carol, record, None).await.unwrap();
    let line = "\ncarol:$argon2id$:autocreated 1970-01-01T00:00:00.001Z\n";
    assert_eq!(scene.text(), format!("{after}{line}"));
    let dave = name("dave");
    let taken = accounts.create_user(&dave, conformance::user(), None);
    assert!(matches!(taken.await, Err(AccountsError::UserExists)));
    let mode = fs::metadata(scene.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    // No hash is kept beside the file.
    let state = fs::read_to_string(scene.folder.path().join("state.json")).unwrap();
    assert!(
        !state.contains("argon2id") && !state.contains("\"new\""),
        "{state}"
    );
    let again = Scene::open(scene.folder.path()).await;
    assert_eq!(*again.user(&alice).await.unwrap().unwrap(), *user);
}

#[tokio::test]
async fn accounts_of_before_do_not_count_and_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let kept = FileAccounts::open(path.clone()).await.unwrap();
    for user in ["alice", "zoe"] {
        let user = name(user);
        let created = kept.create_user(&user, conformance::user(), None);
        created.await.unwrap();
    }
    let accounts = Scene::open(folder.path()).await;
    assert!(accounts.user(&name("alice")).await.unwrap().is_none());
    let put = AccountEntry::User("alice".to_owned(), Arc::new(conformance::user()));
    accounts.put(put).await.unwrap();
    let (alice, now) = (name("alice"), Timestamp::from_unix_millis(9));
    let set = accounts.set_password(&alice, "b".to_owned(), now, TokenKind::Login);
    set.await.unwrap();
    let kept = FileAccounts::open(path).await.unwrap();
    for user in ["alice", "zoe"] {
        let record = kept.user(&name(user)).await.unwrap().unwrap();
        assert_eq!(record.password_hash, conformance::user().password_hash);
    }
}

#[tokio::test]
async fn what_no_line_can_hold_is_refused() {
    let scene = Scene::with("").await;
    for hash in ["", "a:b", "a\nroot:x", " a"] {
        let record = UserRecord {
            password_hash: hash.to_owned(),
            ..conformance::user()
        };
        let alice = name("alice");
        let created = scene.accounts.create_user(&alice, record.clone(), None);
        assert!(created.await.is_err(), "{hash:?}");
        let put = AccountEntry::User("alice".to_owned(), Arc::new(record));
        assert!(scene.accounts.put(put).await.is_err());
    }
    for odd in ["a:b", "a\nb", "$all", ""] {
        let put = AccountEntry::User(odd.to_owned(), Arc::new(conformance::user()));
        assert!(scene.accounts.put(put).await.is_err(), "{odd:?}");
    }
    assert!(!scene.path().exists());
}

#[tokio::test]
async fn whoever_has_the_name_of_somebody_who_was_there_has_nothing_of_hers() {
    let scene = Scene::with("alice:a\nbob:b\n").await;
    let (accounts, bob) = (&scene.accounts, name("bob"));
    let join = |record: &mut OrganisationRecord| {
        record
            .members
            .insert("bob".to_owned(), super::super::Role::Owner);
        let team = record.teams.entry("front".to_owned()).or_default();
        team.users.insert("bob".to_owned());
        Ok(())
    };
    let acme = "acme".parse().unwrap();
    accounts.change_organisation(&acme, join).await.unwrap();
    assert_eq!(accounts.groups_of(&bob).await.unwrap().len(), 2);
    write_atomic(&scene.path(), b"alice:a\n", 0o640).unwrap();
    let record = conformance::user();
    accounts.create_user(&bob, record, None).await.unwrap();
    assert!(accounts.groups_of(&bob).await.unwrap().is_empty());
}

/// Verdaccio says when it wrote a line.
#[tokio::test]
async fn what_was_made_before_a_line_is_an_earlier_users() {
    let scene = Scene::with("alice:a\n").await;
    let (accounts, alice) = (&scene.accounts, name("alice"));
    let token = conformance::token("a1", "alice", TokenKind::Npm, None);
    accounts.add_token(token.clone()).await.unwrap();
    assert!(accounts.token(&token.key).await.unwrap().is_some());
    let again = "alice:b:autocreated 2999-01-01T00:00:00.000Z\n";
    write_atomic(&scene.path(), again.as_bytes(), 0o640).unwrap();
    assert!(accounts.token(&token.key).await.unwrap().is_none());
    assert!(accounts.tokens_of(&alice).await.unwrap().is_empty());
}
