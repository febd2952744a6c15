//! What operators ask of a registry that runs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Package, Registry, Upstream, User};

async fn invalidate(registry: &Registry, user: Option<&User>, body: &str) -> Answer {
    let mut request = registry
        .request(Method::POST, "/-/admin/package-cache/invalidate")
        .header("content-type", "application/json")
        .body(body.to_owned());
    if let Some(user) = user {
        request = request.bearer_auth(&user.token);
    }
    registry.send(request).await
}

#[tokio::test]
pub(crate) async fn what_is_remembered_of_a_package_can_be_forgotten() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let registry = Registry::start(&[
        ("RUSTACCIO_UPSTREAM", &upstream.url),
        ("RUSTACCIO_ADMIN_USERS", "root"),
    ])
    .await;
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    registry.get("/lib").await.assert(200);
    registry.get("/late").await.assert(404);
    upstream.has(&[&Package::new("lib", "1.0.0"), &Package::new("lib", "2.0.0")]);
    upstream.has(&[&Package::new("late", "1.0.0")]);
    // Fresh enough, as far as it knows.
    registry.get("/lib/2.0.0").await.assert(404);
    registry.get("/late").await.assert(404);
    let (lib, late) = (json!({ "package": "lib" }), json!({ "package": "late" }));
    invalidate(&registry, None, &lib.to_string())
        .await
        .assert(401);
    invalidate(&registry, Some(&alice), "{").await.assert(403);
    for body in ["{}", r#"{"package":" "}"#, r#"{"package":"../x"}"#, "{"] {
        invalidate(&registry, Some(&root), body).await.assert(400);
    }
    registry.get("/lib/2.0.0").await.assert(404);
    let removed = |removed: bool, name: &str| -> Value {
        json!({ "ok": "package cache invalidated", "package": name, "removed": removed })
    };
    let done = invalidate(&registry, Some(&root), &lib.to_string()).await;
    assert_eq!(done.assert(200).json(), removed(true, "lib"));
    let done = invalidate(&registry, Some(&root), &late.to_string()).await;
    assert_eq!(done.assert(200).json(), removed(false, "late"));
    registry.get("/lib/2.0.0").await.assert(200);
    registry.get("/late").await.assert(200);
}

#[tokio::test]
pub(crate) async fn what_another_node_published_is_there_when_it_is_asked_for() {
    let one = Package::new("app", "1.0.0");
    let two = Package::new("app", "2.0.0");
    let other = Registry::alone().await;
    let registry = Registry::start(&[("RUSTACCIO_PACKAGE_CACHE_TTL_SECS", "3600")]).await;
    for node in [&other, &registry] {
        let alice = node.user("alice").await;
        node.publish(&alice, &one).await.assert(201);
    }
    registry.get("/app").await.assert(200);
    let bob = other.user("bob").await;
    other.publish(&bob, &two).await.assert(201);
    for file in ["app-2.0.0.tgz", "package.json"] {
        let path = |node: &Registry| node.data().join("tarballs/app").join(file);
        std::fs::copy(path(&other), path(&registry)).unwrap();
    }
    // It is believed for a while, but not when it lacks what somebody asks for.
    let tags = registry.get("/-/package/app/dist-tags").await.json();
    assert_eq!(tags["latest"], "1.0.0");
    let bytes = registry.tarball(&two).await.assert(200).body;
    assert_eq!(bytes, two.tarball);
    registry.get("/app/2.0.0").await.assert(200);
    let tags = registry.get("/-/package/app/dist-tags").await.json();
    assert_eq!(tags["latest"], "2.0.0");
}
