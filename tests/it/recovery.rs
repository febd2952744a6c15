//! Packages whose manifest was lost, and with it who may use them.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Package, Registry, User, registry::Start};

const ADMIN: (&str, &str) = ("RUSTACCIO_ADMIN_USERS", "root");

/// A registry that was started again after the manifest of `package` was lost.
async fn without_manifest(package: &Package, variables: &[(&'static str, &str)]) -> Registry {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    registry.publish(&alice, package).await.assert(201);
    let folder = package.name.replace('/', "__");
    let manifest = registry.data().join("tarballs").join(folder);
    fs::remove_file(manifest.join("package.json")).unwrap();
    let folder = registry.stop().await;
    let owned = variables
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Registry::with(Start {
        variables: owned.collect(),
        folder: Some(folder),
        ..Start::default()
    })
    .await
}

async fn status(registry: &Registry, user: &User, path: &str) -> u16 {
    registry.get_as(user, path).await.status.as_u16()
}

#[tokio::test]
async fn nobody_may_use_a_scoped_one_until_an_administrator_names_an_owner() {
    let package = Package::new("@s/app", "1.0.0");
    let registry = without_manifest(&package, &[ADMIN]).await;
    let alice = registry.user("alice").await;
    let (root, eve) = (registry.user("root").await, registry.user("eve").await);
    let tarball = "/@s/app/-/app-1.0.0.tgz";
    registry.get("/@s/app").await.assert(404);
    registry.tarball(&package).await.assert(404);
    for user in [&alice, &eve] {
        for path in ["/@s/app", tarball, "/-/package/@s%2fapp/collaborators"] {
            assert_eq!(status(&registry, user, path).await, 404, "{path}");
        }
        let next = Package::new("@s/app", "2.0.0");
        registry.publish(user, &next).await.assert(404);
        let open = json!({ "access": "public" });
        let path = "/-/package/@s%2fapp/access";
        let opened = registry.send_json(Some(user), Method::POST, path, &open);
        opened.await.assert(404);
    }
    let found = registry.get_as(&alice, "/-/v1/search?text=app").await;
    assert_eq!(found.json()["total"], 0);

    // An administrator sees it and says whose it is, and then has no more rights than others.
    let access = registry.get_as(&root, "/-/package/@s%2fapp/access").await;
    assert_eq!(access.assert(200).json()["access"], "restricted");
    let shown = registry.get_as(&root, "/@s/app").await.assert(200).json();
    assert_eq!(status(&registry, &root, tarball).await, 200);
    let next = Package::new("@s/app", "2.0.0");
    registry.publish(&root, &next).await.assert(404);
    // As npm does it.
    let owners = json!({
        "_id": "@s/app", "_rev": shown["_rev"], "maintainers": [{ "name": "alice", "email": "a@example.org" }],
    });
    let rev = shown["_rev"].as_str().unwrap();
    let path = format!("/@s%2fapp/-rev/{rev}");
    registry.put(&root, &path, &owners).await.assert(201);
    assert_eq!(status(&registry, &root, "/@s/app").await, 404);
    assert_eq!(status(&registry, &eve, "/@s/app").await, 404);
    registry.publish(&alice, &next).await.assert(201);
    assert_eq!(status(&registry, &alice, tarball).await, 200);
    let open = json!({ "access": "public" });
    let path = "/-/package/@s%2fapp/access";
    let opened = registry.send_json(Some(&alice), Method::POST, path, &open);
    opened.await.assert(200);
    registry.get("/@s/app").await.assert(200);
}

#[tokio::test]
async fn who_is_limited_or_no_administrator_rescues_nothing() {
    let package = Package::new("@s/app", "1.0.0");
    let everybody = ("RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED", "true");
    let registry = without_manifest(&package, &[ADMIN, everybody]).await;
    let (root, eve) = (registry.user("root").await, registry.user("eve").await);
    let token = json!({ "password": "password", "readonly": true, "cidr_whitelist": [] });
    let made = registry.send_json(Some(&root), Method::POST, "/-/npm/v1/tokens", &token);
    let limited = User {
        token: made.await.json()["token"].as_str().unwrap().to_owned(),
    };
    let owner = json!({ "user": "eve" });
    let path = "/-/package/@s%2fapp/owners";
    for user in [&eve, &limited] {
        assert_eq!(status(&registry, user, "/@s/app").await, 404);
        let set = registry.put(user, path, &owner).await;
        assert!(set.status == 403 || set.status == 404, "{}", set.status);
    }
    registry.put(&root, path, &owner).await.assert(200);
    assert_eq!(status(&registry, &eve, "/@s/app").await, 200);
}

#[tokio::test]
async fn where_owners_are_checked_nobody_owns_it() {
    let package = Package::new("app", "1.0.0");
    let checked = ("RUSTACCIO_PUBLISH_CHECK_OWNERS", "true");
    let registry = without_manifest(&package, &[ADMIN, checked]).await;
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    let eve = registry.user("eve").await;
    registry.get("/app").await.assert(200);
    let next = Package::new("app", "2.0.0");
    let path = "/-/package/app/owners";
    for user in [&alice, &eve] {
        let refused = registry.publish(user, &next).await.assert(403);
        assert!(
            refused.error().contains("administrator"),
            "{}",
            refused.error()
        );
        let owner = json!({ "user": "eve" });
        registry.put(user, path, &owner).await.assert(403);
        registry.delete(user, "/app/-rev/any").await.assert(403);
    }
    let owner: Value = json!({ "user": "alice" });
    registry.put(&root, path, &owner).await.assert(200);
    registry.publish(&eve, &next).await.assert(403);
    registry.publish(&alice, &next).await.assert(201);
}

#[tokio::test]
async fn one_that_cannot_be_read_keeps_no_other_from_being_served() {
    let (kept, lost) = (Package::new("kept", "1.0.0"), Package::new("lost", "1.0.0"));
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for package in [&kept, &lost] {
        registry.publish(&alice, package).await.assert(201);
    }
    let tarballs = registry.data().join("tarballs");
    let folder = registry.stop().await;
    let manifest = tarballs.join("lost/package.json");
    fs::remove_file(&manifest).unwrap();
    // Opening it fails, whoever does so.
    std::os::unix::fs::symlink("package.json", &manifest).unwrap();
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    registry.get("/kept").await.assert(200);
    registry.tarball(&kept).await.assert(200);
    registry.get("/lost").await.assert(503);
    // It is looked at again by whoever asks for it.
    fs::remove_file(&manifest).unwrap();
    registry.get("/lost").await.assert(200);
}

/// More than go wrong in a row while a registry looks for what is lost.
#[tokio::test]
async fn many_that_cannot_be_read_keep_no_other_from_being_served() {
    let package = Package::new("app", "1.0.0");
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    registry.publish(&alice, &package).await.assert(201);
    for number in 0..7 {
        let looped = registry.data().join(format!("tarballs/looped-{number}"));
        fs::create_dir(&looped).unwrap();
        std::os::unix::fs::symlink("package.json", looped.join("package.json")).unwrap();
    }
    let folder = registry.stop().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    registry.get("/app").await.assert(200);
    for number in 0..7 {
        let looped = registry.get(&format!("/looped-{number}")).await;
        assert!(looped.status.is_server_error(), "{}", looped.status);
    }
}
