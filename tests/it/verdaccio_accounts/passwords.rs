//! The file of users: who is in it can log in, whatever her hash is; it changes as little as can be.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Folder, Scene};
use crate::support::{Registry, registry::Start};

/// A user for each form of a hash of `secret`.
const USERS: &str = "\
# of the administrator: made by hand
bcrypt-a:$2a$05$GJX0rTDcjRi4cA0S7AUblu4AlNPOHJyfYHiavNYaMT8P.eAPaUGdC:autocreated 2026-11-26T21:44:45.413Z
bcrypt-y:$2y$04$BgDP.xy.98CWYoMpHw5rG.LZZwc2cdbE.wu7bdL6sphL6.rjf9oi.
apache:$apr1$WQ7q9hHO$1Dmsbz2sMV4GUZLwKYUF5/
unix:$1$abc$iCQ2D3nhptRYi27fDYv2s1
sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
plain:{PLAIN}secret
crypt:/Q6QpxmQZ2ZPg
sha256:$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.
größe:{PLAIN}secret
no user
";

#[tokio::test]
async fn every_form_of_a_hash_logs_in_and_stays_what_it_is() {
    let scene = Scene::of(Folder {
        users: USERS,
        ..Folder::default()
    })
    .await;
    for user in [
        "bcrypt-a", "bcrypt-y", "apache", "unix", "sha", "plain", "crypt", "sha256",
    ] {
        let wrong = scene.registry.sign_in(user, "Secret").await;
        assert_eq!(wrong.status, 401, "{user}");
        let token = scene.sign_in(user, "secret").await.token;
        let known = scene.whoami(&token).await.assert(200);
        assert_eq!(known.json()["username"], user);
    }
    assert_eq!(scene.text("htpasswd"), USERS);
}

#[tokio::test]
async fn who_is_taken_out_of_the_file_is_gone_and_who_is_added_is_there() {
    let scene = Scene::of(Folder {
        users: "alice:{PLAIN}secret\nbob:{PLAIN}secret\n",
        ..Folder::default()
    })
    .await;
    let (alice, bob) = (
        scene.sign_in("alice", "secret").await,
        scene.sign_in("bob", "secret").await,
    );
    fs::write(
        scene.path("htpasswd"),
        "bob:{PLAIN}secret\ncarol:{PLAIN}secret\n",
    )
    .unwrap();
    scene.whoami(&alice.token).await.assert(401);
    let path = "/-/whoami";
    let basic = scene.registry.request(Method::GET, path);
    let basic = basic.basic_auth("alice", Some("secret"));
    scene.registry.send(basic).await.assert(401);
    scene.whoami(&bob.token).await.assert(200);
    scene.sign_in("carol", "secret").await;
}

#[tokio::test]
async fn a_registration_and_a_new_password_are_lines_as_verdaccio_writes_them() {
    let before = "# ours\nalice:{PLAIN}secret:kept\nodd";
    let scene = Scene::of(Folder {
        users: before,
        ..Folder::default()
    })
    .await;
    let zoe = scene.sign_in("zoe", "new one").await;
    let text = scene.text("htpasswd");
    let line = text.strip_prefix(before).unwrap();
    let line = line.strip_prefix('\n').unwrap().strip_suffix('\n').unwrap();
    let (name, rest) = line.split_once(':').unwrap();
    let (hash, comment) = rest.split_once(':').unwrap();
    assert_eq!(name, "zoe");
    assert!(hash.starts_with("$2b$04$") && hash.len() == 60, "{hash}");
    assert_eq!(comment, "autocreated 2026-11-26T21:54:20.000Z");
    let alice = scene.sign_in("alice", "secret").await;
    let changed = scene.change_password(&alice, "secret", "another").await;
    changed.assert(200);
    let text = scene.text("htpasswd");
    assert!(text.starts_with("# ours\nalice:$2b$04$"), "{text}");
    assert!(text.contains(":kept\nodd\nzoe:$2b$04$"), "{text}");
    scene.whoami(&alice.token).await.assert(401);
    scene.whoami(&zoe.token).await.assert(200);
    let old = scene.registry.sign_in("alice", "secret").await;
    assert_eq!(old.status, 401);
    scene.sign_in("alice", "another").await;
}

#[tokio::test]
async fn another_password_in_the_file_ends_her_logins() {
    let scene = Scene::of(Folder {
        users: "alice:{PLAIN}secret\nbob:{PLAIN}secret\n",
        ..Folder::default()
    })
    .await;
    let alice = scene.sign_in("alice", "secret").await;
    let bob = scene.sign_in("bob", "secret").await;
    scene.whoami(&alice.token).await.assert(200);
    let changed = "alice:{PLAIN}another\nbob:{PLAIN}secret\n";
    fs::write(scene.path("htpasswd"), changed).unwrap();
    scene.whoami(&alice.token).await.assert(401);
    scene.whoami(&bob.token).await.assert(200);
    let alice = scene.sign_in("alice", "another").await;
    scene.whoami(&alice.token).await.assert(200);
}

/// Somebody who writes it in place makes it empty first, and a mount may be away.
#[tokio::test]
async fn a_file_that_has_lost_all_its_users_takes_no_new_ones() {
    let users = "alice:{PLAIN}secret\n";
    let scene = Scene::of(Folder {
        users,
        ..Folder::default()
    })
    .await;
    let alice = scene.sign_in("alice", "secret").await;
    let file = scene.path("htpasswd");
    for is_there in [true, false] {
        fs::write(&file, "").unwrap();
        if !is_there {
            fs::remove_file(&file).unwrap();
        }
        let stranger = scene.registry.sign_in("alice", "another").await;
        assert!(stranger.status.is_server_error(), "{}", stranger.status);
        fs::write(&file, users).unwrap();
        scene.whoami(&alice.token).await.assert(200);
    }
    assert_eq!(scene.text("htpasswd"), users);
}

/// Also in a folder of our own, where nothing else is Verdaccio's.
#[tokio::test]
async fn a_file_that_is_named_has_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    fs::write(&file, USERS).unwrap();
    let registry = Registry::start(&[
        ("RUSTACCIO_AUTH_HTPASSWD_FILE", file.to_str().unwrap()),
        ("RUSTACCIO_AUTH_HTPASSWD_ROUNDS", "5"),
    ])
    .await;
    registry.sign_in("plain", "secret").await.assert(201);
    registry.sign_in("plain", "another").await.assert(401);
    registry.sign_in("zoe", "new one").await.assert(201);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nzoe:$2b$05$"), "{text}");
}

#[tokio::test]
async fn what_bcrypt_would_cut_is_refused() {
    let scene = Scene::of(Folder::default()).await;
    let long = "ä".repeat(37);
    let refused = scene.registry.sign_in("alice", &long).await.assert(400);
    assert!(refused.error().contains("72 bytes"), "{}", refused.error());
    let alice = scene.sign_in("alice", &"ä".repeat(36)).await;
    let refused = scene
        .change_password(&alice, &"ä".repeat(36), &long)
        .await
        .assert(400);
    assert!(refused.error().contains("72 bytes"), "{}", refused.error());
}

#[tokio::test]
async fn what_is_kept_about_a_user_survives_a_restart() {
    let scene = Scene::of(Folder {
        users: "alice:{PLAIN}secret\n",
        ..Folder::default()
    })
    .await;
    let alice = scene.sign_in("alice", "secret").await;
    let profile = json!({ "fullname": "Alice" });
    let path = "/-/npm/v1/user";
    let told = scene
        .registry
        .send_json(Some(&alice), Method::POST, path, &profile);
    told.await.assert(200);
    let clock = scene.clock;
    let folder = scene.registry.stop().await;
    let scene = Scene::start(folder, clock).await;
    let known = scene.registry.get_as(&alice, path).await.assert(200);
    assert_eq!(known.json()["fullname"], "Alice");
    assert_eq!(scene.text("htpasswd"), "alice:{PLAIN}secret\n");
}

#[tokio::test]
async fn in_accounts_of_our_own_a_weak_hash_becomes_a_strong_one_at_a_login() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let folder = registry.stop().await;
    let path = folder.path().join("data/state.json");
    let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
    let mut state = read();
    state["users"]["alice"]["password_hash"] = json!("$apr1$WQ7q9hHO$1Dmsbz2sMV4GUZLwKYUF5/");
    fs::write(&path, state.to_string()).unwrap();
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let path = registry.data().join("state.json");
    let hash = || -> Value {
        let state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        state["users"]["alice"]["password_hash"].clone()
    };
    registry.sign_in("alice", "wrong").await.assert(401);
    assert!(hash().as_str().unwrap().starts_with("$apr1$"));
    registry.sign_in("alice", "secret").await.assert(201);
    assert!(hash().as_str().unwrap().starts_with("$argon2id$"));
    let strong = hash();
    registry.sign_in("alice", "secret").await.assert(201);
    assert_eq!(hash(), strong);
}
