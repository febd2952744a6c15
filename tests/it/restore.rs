//! `rustaccio restore`: what is not whole yet is not used, and what has changed since the backup is not
//! undone unasked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    backup::{Variables, command, fine, serve, snapshots},
    support::{Package, Registry, User, process::Process},
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn publish(registry: &Registry, user: &User, name: &str, version: &str) -> Package {
    let package = Package::new(name, version);
    registry.publish(user, &package).await.assert(201);
    package
}

async fn whoami(registry: &Registry, user: &User) -> StatusCode {
    registry.get_as(user, "/-/whoami").await.status
}

async fn sign_out(registry: &Registry, user: &User) {
    let path = format!("/-/user/token/{}", user.token);
    let request = registry.request(Method::DELETE, &path);
    let request = request.bearer_auth(&user.token);
    registry.send(request).await.assert(200);
}

/// A backup of `registry`, which goes on, beside its data.
/// The snapshot that it makes.
async fn back_up(registry: &Registry, variables: &Variables) -> PathBuf {
    let copy = registry.folder().join("copy");
    fine(&registry.data(), variables, &["backup", text(&copy)]).await;
    snapshots(&copy).remove(0)
}

fn state(data: &Path) -> Value {
    serde_json::from_slice(&fs::read(data.join("state.json")).unwrap()).unwrap()
}

async fn refuses(data: &Path, arguments: &[&str]) -> String {
    let (said, is_fine) = command(data, &Variables::new(), arguments).await;
    assert!(!is_fine, "{arguments:?}: {said}");
    said
}

#[cfg(feature = "crash-points")]
#[tokio::test]
async fn what_was_not_restored_to_its_end_is_not_used() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = publish(&registry, &alice, "app", "1.0.0").await;
    let none = Variables::new();
    let copy = back_up(&registry, &none).await;
    let other = registry.folder().join("other");
    fine(&registry.data(), &none, &["backup", text(&other)]).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let restore = ["restore", text(&copy)];
    for point in ["target-begun:1", "blob-linked:1"] {
        let crash = vec![("RUSTACCIO_CRASH_AT", point.to_owned())];
        let (said, is_fine) = command(&data, &crash, &restore).await;
        assert!(!is_fine, "{said}");
        for arguments in [
            &[][..],
            &["fsck"],
            &["signing-key", "list"],
            &["signing-key", "rotate"],
            &["restore", text(&other)],
            &["restore", "--overwrite", text(&other)],
        ] {
            let said = refuses(&data, arguments).await;
            let again = format!(
                "`rustaccio restore {}`",
                text(&copy.canonicalize().unwrap())
            );
            assert!(said.contains(&again), "{arguments:?}: {said}");
            assert!(said.contains("being-filled"), "{said}");
        }
    }
    let elsewhere = folder.path().join("elsewhere");
    let said = refuses(&data, &["backup", text(&elsewhere)]).await;
    assert!(
        said.contains("being-filled") && !elsewhere.exists(),
        "{said}"
    );
    // Wherever it ends, names have their owners first, and tokens come last.
    let accounts = state(&data);
    assert!(accounts["users"]["alice"].is_object(), "{accounts}");
    let tokens = accounts["auth_tokens"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    assert_eq!(tokens, 0);
    assert!(!data.join("tarballs/app/package.json").exists());

    fine(&data, &none, &restore).await;
    assert!(!data.join("being-filled").exists());
    let restored = serve(Some(folder), &none).await;
    assert_eq!(whoami(&restored, &alice).await, StatusCode::OK);
    let got = restored.tarball(&package).await.assert(200);
    assert_eq!(got.body, package.tarball);
}

#[tokio::test]
async fn what_was_revoked_since_stays_revoked() {
    let none = Variables::new();
    let registry = Registry::alone().await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    publish(&registry, &alice, "app", "1.0.0").await;
    let copy = back_up(&registry, &none).await;
    sign_out(&registry, &bob).await;
    let data = registry.data();
    let folder = registry.stop().await;
    for arguments in [&["restore"][..], &["restore", "--overwrite"]] {
        let said = refuses(&data, &[arguments, &[text(&copy)]].concat()).await;
        let line = said.lines().find(|line| line.contains("of `bob`"));
        let line = line.unwrap_or_default();
        assert!(line.contains("is only in the backup"), "{said}");
        assert!(said.contains("--with-tokens"), "{said}");
    }
    let registry = serve(Some(folder), &none).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    assert_eq!(whoami(&registry, &bob).await, StatusCode::UNAUTHORIZED);
    let folder = registry.stop().await;
    fine(&data, &none, &["restore", "--with-tokens", text(&copy)]).await;
    let registry = serve(Some(folder), &none).await;
    assert_eq!(whoami(&registry, &bob).await, StatusCode::OK);
}

#[cfg(feature = "crash-points")]
#[tokio::test]
async fn what_was_revoked_stays_so_where_restoring_was_broken_off() {
    let none = Variables::new();
    let registry = Registry::alone().await;
    let bob = registry.user("bob").await;
    let copy = back_up(&registry, &none).await;
    sign_out(&registry, &bob).await;
    let data = registry.data();
    let folder = registry.stop().await;
    let crash = vec![("RUSTACCIO_CRASH_AT", "target-begun:1".to_owned())];
    let restore = ["restore", text(&copy)];
    command(&data, &crash, &restore).await;
    let said = refuses(&data, &[]).await;
    assert!(said.contains("delete the mark"), "{said}");
    // What was there before is still somebody's, who goes on with it.
    let said = refuses(&data, &restore).await;
    assert!(said.contains("is only in the backup"), "{said}");
    let registry = serve(Some(folder), &none).await;
    assert_eq!(whoami(&registry, &bob).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn keys_of_both_stay_and_what_was_replaced_stays_replaced() {
    let none = Variables::new();
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    publish(&registry, &alice, "old", "1.0.0").await;
    let copy = back_up(&registry, &none).await;
    let data = registry.data();
    let folder = registry.stop().await;
    fine(&data, &none, &["signing-key", "rotate"]).await;
    let registry = serve(Some(folder), &none).await;
    publish(&registry, &alice, "new", "1.0.0").await;
    let keys = registry.get("/-/npm/v1/keys").await.assert(200).json();
    let folder = registry.stop().await;
    fine(&data, &none, &["restore", "--overwrite", text(&copy)]).await;
    let registry = serve(Some(folder), &none).await;
    let after = registry.get("/-/npm/v1/keys").await.assert(200).json();
    assert_eq!(after, keys);
    let keys = after["keys"].as_array().unwrap();
    assert!(keys[0]["expires"].is_string() && keys[1]["expires"].is_null());
    let manifest = registry.get("/new").await.assert(200).json();
    let signature = &manifest["versions"]["1.0.0"]["dist"]["signatures"][0];
    assert_eq!(signature["keyid"], keys[1]["keyid"]);
    // The newest goes on signing.
    publish(&registry, &alice, "newer", "1.0.0").await;
    let manifest = registry.get("/newer").await.assert(200).json();
    let signature = &manifest["versions"]["1.0.0"]["dist"]["signatures"][0];
    assert_eq!(signature["keyid"], keys[1]["keyid"]);
}

#[tokio::test]
async fn a_target_that_could_not_open_it_is_left_as_it_is() {
    let key = |text: &str| vec![("RUSTACCIO_SECRET_KEY", text.to_owned())];
    let registry = serve(None, &key("the one key of this registry, in full")).await;
    let alice = registry.user("alice").await;
    let copy = back_up(&registry, &key("the one key of this registry, in full")).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for variables in [
        Variables::new(),
        key("another key altogether, just as long"),
    ] {
        let (said, is_fine) = command(&data, &variables, &["restore", text(&copy)]).await;
        assert!(!is_fine && said.contains("RUSTACCIO_SECRET_KEY"), "{said}");
        for file in [
            "being-filled",
            "state.json",
            "signing-keys.json",
            "secret.key",
        ] {
            assert!(!data.join(file).exists(), "{file}");
        }
    }
    let right = key("the one key of this registry, in full");
    fine(&data, &right, &["restore", text(&copy)]).await;
    let restored = serve(Some(folder), &right).await;
    assert_eq!(whoami(&restored, &alice).await, StatusCode::OK);
    drop(restored);

    // Nor where nothing is signed, and only second factors are sealed.
    fs::remove_file(copy.join("signing-keys.json")).unwrap();
    let mut accounts = state(&copy);
    accounts["users"]["alice"]["second_factor"] =
        json!({ "mode": "auth-only", "seed": "v1.AAAA", "recovery": [] });
    fs::write(copy.join("state.json"), accounts.to_string()).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let data = empty.path().join("data");
    let (said, is_fine) = command(&data, &right, &["restore", text(&copy)]).await;
    assert!(!is_fine && said.contains("second factors"), "{said}");
    assert!(!data.join("state.json").exists());
}

#[tokio::test]
async fn a_target_of_another_registry_is_left_as_it_is() {
    // Nothing in it is sealed, so that nothing but the keys themselves tells.
    let unsigned = vec![("RUSTACCIO_SIGNING", "off".to_owned())];
    let registry = serve(None, &unsigned).await;
    registry.user("alice").await;
    let copy = back_up(&registry, &unsigned).await;
    assert!(copy.join("secret.key").exists() && !copy.join("signing-keys.json").exists());
    let other = Registry::alone().await;
    let bob = other.user("bob").await;
    publish(&other, &bob, "app", "1.0.0").await;
    let data = other.data();
    let _folder = other.stop().await;
    let accounts = state(&data);
    let said = refuses(&data, &["restore", "--overwrite", text(&copy)]).await;
    assert!(said.contains("secret.key"), "{said}");
    assert!(!data.join("being-filled").exists());
    assert_eq!(state(&data), accounts);
}

#[tokio::test]
async fn a_mark_by_hand_is_believed_even_if_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("being-filled"), "{").unwrap();
    let done = Process::command(folder.path(), &[]).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        !done.status.success() && said.contains("is damaged"),
        "{said}"
    );
}
