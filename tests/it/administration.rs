//! What operators ask of a registry that runs.

use reqwest::Method;
use rustaccio::{auth::AuthHook, error::RegistryError, models::AuthIdentity};
use serde_json::{Value, json};

use crate::support::{Answer, Package, Registry, Upstream, User, registry::Start};

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

/// Whether `user` may call an operator's endpoint.
async fn administers(registry: &Registry, user: &User) -> bool {
    let body = json!({ "package": "app" }).to_string();
    let status = invalidate(registry, Some(user), &body).await.status;
    assert!(status == 200 || status == 403, "{status}");
    status == 200
}

#[tokio::test]
pub(crate) async fn whoever_is_signed_in_administers_only_where_that_is_said() {
    const ANY: &str = "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED";
    let users = ("RUSTACCIO_ADMIN_USERS", "root, carol");
    for (settings, alice_does) in [
        (&[users][..], false),
        (&[users, (ANY, "false")], false),
        (&[users, (ANY, "true")], true),
    ] {
        let registry = Registry::start(settings).await;
        for (name, does) in [("alice", alice_does), ("root", true), ("carol", true)] {
            let user = registry.user(name).await;
            assert_eq!(
                administers(&registry, &user).await,
                does,
                "{settings:?} {name}"
            );
        }
    }
}

#[tokio::test]
pub(crate) async fn closed_registration_makes_everybody_an_administrator_unless_told() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let mut folder = registry.stop().await;
    for (setting, does) in [("", true), ("true", true), ("false", false)] {
        let registry = Registry::with(Start {
            variables: vec![
                ("RUSTACCIO_REGISTRATION", "closed".to_owned()),
                (
                    "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED",
                    setting.to_owned(),
                ),
            ],
            folder: Some(folder),
            ..Start::default()
        })
        .await;
        let alice = registry.user("alice").await;
        assert_eq!(administers(&registry, &alice).await, does, "{setting}");
        folder = registry.stop().await;
    }
}

/// An embedder's users, who are in a group.
#[derive(Debug)]
struct InGroup(&'static str);

#[async_trait::async_trait]
impl AuthHook for InGroup {
    async fn authenticate_request(
        &self,
        _: &str,
        _: &str,
        _: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        Ok(Some(AuthIdentity {
            username: Some("alice".to_owned()),
            groups: vec![self.0.to_owned()],
        }))
    }
}

#[tokio::test]
pub(crate) async fn groups_administer_where_they_are_named() {
    for (group, does) in [("ops", true), ("web", true), ("sales", false)] {
        let registry = Registry::with(Start {
            variables: vec![("RUSTACCIO_ADMIN_GROUPS", "ops web".to_owned())],
            hook: Some(std::sync::Arc::new(InGroup(group))),
            ..Start::default()
        })
        .await;
        let user = User {
            token: "any".to_owned(),
        };
        assert_eq!(administers(&registry, &user).await, does, "{group}");
    }
}
