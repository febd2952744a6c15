//! Taking versions and packages away again.

use serde_json::json;

use crate::{
    publishing::{for_writing, registry_with},
    support::{Package, Registry},
};

#[tokio::test]
pub(crate) async fn unpublishing_a_version_as_npm_does() {
    let (one, two) = (Package::new("app", "1.0.0"), Package::new("app", "2.0.0"));
    let (registry, alice) = registry_with(&[&one, &two]).await;
    let mut document = for_writing(&registry, &alice, "app").await;
    document["versions"]
        .as_object_mut()
        .unwrap()
        .remove("2.0.0");
    let rev = document["_rev"].as_str().unwrap().to_owned();
    let path = format!("/app/-rev/{rev}");
    registry.put(&alice, &path, &document).await.assert(201);
    registry.tarball(&two).await.assert(404);
    assert_eq!(registry.tarball(&one).await.assert(200).body, one.tarball);
    let tags = registry.get("/-/package/app/dist-tags").await.json();
    assert_eq!(tags, json!({ "latest": "1.0.0" }));
    // npm's second step finds the work done.
    let rev = for_writing(&registry, &alice, "app").await["_rev"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/app/-/app-2.0.0.tgz/-rev/{rev}");
    let removed = registry.delete(&alice, &path).await.assert(201);
    assert_eq!(removed.json()["ok"], "tarball removed");
    let unknown = registry
        .delete(&alice, "/app/-/app-7.0.0.tgz/-rev/1-a")
        .await;
    assert_eq!(unknown.assert(404).error(), "no such file available");
    // It may be published again, with other bytes.
    let again = Package::with("app", "2.0.0", &json!({}), &[("new.js", b"2")]);
    registry.publish(&alice, &again).await.assert(201);
    assert_eq!(registry.tarball(&again).await.body, again.tarball);
}

#[tokio::test]
pub(crate) async fn a_partial_unpublish_needs_the_current_revision() {
    let (one, two) = (Package::new("app", "1.0.0"), Package::new("app", "2.0.0"));
    let (registry, alice) = registry_with(&[&one, &two]).await;
    let mut document = for_writing(&registry, &alice, "app").await;
    document["versions"]
        .as_object_mut()
        .unwrap()
        .remove("1.0.0");
    let path = format!("/app/-rev/{}", document["_rev"].as_str().unwrap());
    let three = Package::new("app", "3.0.0");
    registry.publish(&alice, &three).await.assert(201);
    let refused = registry.put(&alice, &path, &document).await.assert(409);
    assert!(refused.error().starts_with("revision conflict: expected `"));
    let shown = registry.get("/app").await.json();
    assert_eq!(shown["versions"].as_object().unwrap().len(), 3);
}

#[tokio::test]
pub(crate) async fn unpublishing_a_package_leaves_only_its_name() {
    let package = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[&package]).await;
    let removed = registry.delete(&alice, "/app/-rev/any").await.assert(201);
    assert_eq!(removed.json()["ok"], "package removed");
    let gone = registry.get("/app").await.assert(404);
    assert_eq!(gone.error(), "no such package available");
    registry.tarball(&package).await.assert(404);
    registry.delete(&alice, "/app/-rev/any").await.assert(404);
    if registry.is_in_folder() {
        let left: Vec<_> = std::fs::read_dir(registry.data().join("tarballs/app"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["package.json"]);
    }
    let answer = registry.publish(&alice, &package).await.assert(201);
    assert_eq!(answer.json()["ok"], "created new package");
}

#[tokio::test]
pub(crate) async fn unpublished_versions_stay_away_where_they_must() {
    let registry = Registry::start(&[("RUSTACCIO_PUBLISH_IMMUTABLE", "true")]).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    registry.delete(&alice, "/app/-rev/any").await.assert(201);
    registry.publish(&alice, &package).await.assert(409);
    registry
        .publish(&alice, &Package::new("app", "1.0.1"))
        .await
        .assert(201);
}

#[tokio::test]
pub(crate) async fn unpublishing_needs_its_own_permission() {
    let registry = Registry::with_file(
        "packages:\n  '**':\n    access: $all\n    publish: $authenticated\n    unpublish: boss\n",
    )
    .await;
    let (alice, boss) = (registry.user("alice").await, registry.user("boss").await);
    for version in ["1.0.0", "2.0.0"] {
        registry
            .publish(&alice, &Package::new("app", version))
            .await
            .assert(201);
    }
    let mut document = for_writing(&registry, &alice, "app").await;
    document["versions"]
        .as_object_mut()
        .unwrap()
        .remove("2.0.0");
    let path = format!("/app/-rev/{}", document["_rev"].as_str().unwrap());
    let refused = registry.put(&alice, &path, &document).await.assert(403);
    assert_eq!(
        refused.error(),
        "user alice is not allowed to unpublish package app"
    );
    registry
        .delete(&alice, "/app/-/app-2.0.0.tgz/-rev/1")
        .await
        .assert(403);
    registry.delete(&alice, "/app/-rev/1").await.assert(403);
    registry.put(&boss, &path, &document).await.assert(201);
}
