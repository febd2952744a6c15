//! Organisations and teams: who may change them, and what clients are answered.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Package, Registry, User};

/// A registry without open registration, as a company runs it; root is its administrator.
async fn company() -> (Registry, User) {
    let registry = Registry::start(&[("RUSTACCIO_ADMIN_USERS", "root")]).await;
    for name in ["alice", "bob", "carol", "mallory"] {
        registry.user(name).await;
    }
    let root = registry.user("root").await;
    (registry, root)
}

/// The same after a restart that closes registration.
async fn closed() -> Registry {
    let (registry, _) = company().await;
    let folder = registry.stop().await;
    Registry::with(crate::support::registry::Start {
        variables: vec![
            ("RUSTACCIO_ADMIN_USERS", "root".to_owned()),
            ("RUSTACCIO_REGISTRATION", "closed".to_owned()),
        ],
        folder: Some(folder),
        ..Default::default()
    })
    .await
}

async fn set(registry: &Registry, by: &User, user: &str, role: &str) -> Answer {
    let body = json!({ "user": user, "role": role });
    registry.put(by, "/-/org/acme/user", &body).await
}

async fn delete(registry: &Registry, by: &User, path: &str, body: &Value) -> Answer {
    registry
        .send_json(Some(by), Method::DELETE, path, body)
        .await
}

async fn token(registry: &Registry, user: &User, mut wish: Value) -> User {
    wish["password"] = json!("password");
    let path = "/-/npm/v1/tokens";
    let made = registry.send_json(Some(user), Method::POST, path, &wish);
    let made = made.await.assert(200).json();
    User {
        token: made["token"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
pub(crate) async fn nobody_lets_herself_in() {
    let registry = closed().await;
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    let mallory = registry.user("mallory").await;
    let refused = set(&registry, &mallory, "mallory", "owner").await;
    let why = refused.assert(403).error();
    assert!(why.contains("RUSTACCIO_ADMIN_USERS"), "{why}");
    set(&registry, &root, "alice", "owner").await.assert(200);
    let team = json!({ "name": "core" });
    let path = "/-/org/acme/team";
    registry.put(&mallory, path, &team).await.assert(403);
    registry.put(&alice, path, &team).await.assert(201);

    let package = Package::new("@acme/secret", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let restricted = json!({ "access": "restricted" });
    let path = "/-/package/@acme%2fsecret/access";
    let made = registry.send_json(Some(&alice), Method::POST, path, &restricted);
    made.await.assert(200);
    let grant = json!({ "package": "@acme/secret", "permissions": "read-only" });
    let path = "/-/team/acme/core/package";
    registry.put(&alice, path, &grant).await.assert(200);

    let me = json!({ "user": "mallory" });
    let members = "/-/team/acme/core/user";
    let why = registry.put(&mallory, members, &me).await.assert(403);
    assert!(
        why.error()
            .contains("mallory is not allowed to change @acme")
    );
    for (path, body) in [
        ("/-/org/acme/user", json!({ "user": "alice" })),
        (members, json!({ "user": "alice" })),
        ("/-/team/acme/core", json!({})),
    ] {
        let answer = delete(&registry, &mallory, path, &body).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    registry
        .get_as(&mallory, "/@acme%2fsecret")
        .await
        .assert(404);
    registry.put(&alice, members, &me).await.assert(201);
    registry
        .get_as(&mallory, "/@acme%2fsecret")
        .await
        .assert(200);
    // Nor does she as a member, with whatever role she gives herself.
    set(&registry, &mallory, "mallory", "owner")
        .await
        .assert(403);
}

#[tokio::test]
pub(crate) async fn roles_say_who_changes_whom() {
    let (registry, root) = company().await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    set(&registry, &root, "alice", "owner").await.assert(200);
    let made = set(&registry, &alice, "bob", "admin").await.assert(200);
    let expected = json!({ "org": { "name": "acme", "size": 2 }, "user": "bob", "role": "admin" });
    assert_eq!(made.json(), expected);
    set(&registry, &bob, "carol", "developer").await.assert(200);
    set(&registry, &bob, "carol", "admin").await.assert(200);
    for (user, role) in [("bob", "owner"), ("carol", "owner"), ("alice", "developer")] {
        let refused = set(&registry, &bob, user, role).await.assert(403);
        assert!(refused.error().contains("only an owner"), "{user} {role}");
    }
    let path = "/-/org/acme/user";
    let owner = json!({ "user": "alice" });
    delete(&registry, &bob, path, &owner).await.assert(403);
    set(&registry, &bob, "nobody", "developer")
        .await
        .assert(404);
    // To say again what is so already is no change of owners.
    set(&registry, &bob, "alice", "owner").await.assert(200);
    set(&registry, &alice, "bob", "owner").await.assert(200);
    delete(&registry, &bob, path, &owner).await.assert(200);
    let members = registry.get_as(&alice, path).await.assert(200);
    assert_eq!(members.json(), json!({ "bob": "owner", "carol": "admin" }));
    registry.get(path).await.assert(401);
}

#[tokio::test]
pub(crate) async fn limited_tokens_change_no_organisation() {
    let (registry, root) = company().await;
    set(&registry, &root, "alice", "owner").await.assert(200);
    let alice = registry.user("alice").await;
    let core = json!({ "name": "core" });
    registry
        .put(&alice, "/-/org/acme/team", &core)
        .await
        .assert(201);
    for limits in [
        json!({ "readonly": true }),
        json!({ "name": "ci", "scopes": ["@acme"] }),
        json!({ "name": "ci", "packages": ["app"] }),
    ] {
        for user in [&root, &alice] {
            let ci = token(&registry, user, limits.clone()).await;
            let refused = set(&registry, &ci, "bob", "developer").await.assert(403);
            assert!(refused.error().contains("limited"), "{limits}");
            let bob = json!({ "user": "bob" });
            let path = "/-/team/acme/core/user";
            registry.put(&ci, path, &bob).await.assert(403);
            registry
                .put(&ci, "/-/org/acme/team", &json!({ "name": "other" }))
                .await
                .assert(403);
            delete(&registry, &ci, "/-/team/acme/core", &json!({}))
                .await
                .assert(403);
        }
    }
    let full = token(&registry, &alice, json!({})).await;
    set(&registry, &full, "bob", "developer").await.assert(200);
}

#[tokio::test]
pub(crate) async fn everybody_being_an_administrator_is_not_enough() {
    let registry = Registry::start(&[("RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED", "true")]).await;
    let alice = registry.user("alice").await;
    set(&registry, &alice, "alice", "owner").await.assert(403);
    let registry = Registry::start(&[("RUSTACCIO_ADMIN_GROUPS", "ops")]).await;
    let alice = registry.user("alice").await;
    set(&registry, &alice, "alice", "owner").await.assert(403);
}

#[tokio::test]
pub(crate) async fn the_last_member_may_leave() {
    let (registry, root) = company().await;
    set(&registry, &root, "alice", "owner").await.assert(200);
    let path = "/-/org/acme/user";
    let alice = json!({ "user": "alice" });
    let gone = delete(&registry, &root, path, &alice).await.assert(200);
    assert_eq!(gone.json(), json!({}));
    // npm asks who is left.
    let left = registry.get_as(&root, path).await.assert(200);
    assert_eq!(left.json(), json!({}));
    delete(&registry, &root, path, &alice).await.assert(404);
    // Older clients read what comes after a DELETE.
    let team = json!({ "name": "core" });
    let teams = "/-/org/acme/team";
    registry.put(&root, teams, &team).await.assert(201);
    let members = "/-/team/acme/core/user";
    registry.put(&root, members, &alice).await.assert(201);
    for path in [members, "/-/team/acme/core"] {
        let gone = delete(&registry, &root, path, &alice).await.assert(200);
        assert_eq!(gone.json(), json!({}), "{path}");
    }
    delete(&registry, &root, path, &alice).await.assert(200);
    registry
        .get_as(&root, "/-/org/other/user")
        .await
        .assert(404);
    let folder = registry.stop().await;
    let registry = Registry::with(crate::support::registry::Start {
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    registry.get_as(&root, path).await.assert(200);
}

#[cfg(feature = "test-clients")]
mod clients {
    use super::*;
    use crate::support::client::{Client, as_user};

    fn organisation(client: &Client) {
        client.ok(&["org", "set", "acme", "alice", "owner"]);
        client.ok(&["org", "set", "acme", "@bob"]);
        let text = client.ok(&["org", "ls", "acme", "--json"]);
        let members: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(members, json!({ "alice": "owner", "bob": "developer" }));
        client.ok(&["org", "rm", "acme", "bob"]);
        let text = client.ok(&["org", "ls", "acme"]);
        assert!(text.contains("alice") && !text.contains("bob"), "{text}");
        let refused = client.fails_in(client.home(), &["org", "set", "acme", "nobody"]);
        assert!(refused.contains("there is no user"), "{refused}");
        client.ok(&["org", "rm", "acme", "alice"]);
    }

    fn teams(client: &Client) {
        client.ok(&["team", "create", "@acme:core"]);
        client.ok(&["team", "add", "@acme:core", "carol"]);
        let teams = client.ok(&["team", "ls", "@acme"]);
        assert!(teams.contains("core"), "{teams}");
        let members = client.ok(&["team", "ls", "@acme:core"]);
        assert!(members.contains("carol"), "{members}");
        client.ok(&["team", "rm", "@acme:core", "carol"]);
        let members = client.ok(&["team", "ls", "@acme:core"]);
        assert!(!members.contains("carol"), "{members}");
        client.ok(&["team", "destroy", "@acme:core"]);
        let teams = client.ok(&["team", "ls", "@acme"]);
        assert!(!teams.contains("core"), "{teams}");
    }

    async fn npm(name: &'static str) {
        let (registry, root) = company().await;
        let work = |npm: Client| {
            organisation(&npm);
            teams(&npm);
        };
        as_user(name, &registry, &root, work).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_6() {
        npm("npm-6").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12() {
        npm("npm-12").await;
    }

    /// pnpm has teams, and no organisations.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_12() {
        let (registry, root) = company().await;
        as_user("pnpm-12", &registry, &root, |pnpm| teams(&pnpm)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_refused_reads_why() {
        let (registry, _) = company().await;
        let mallory = registry.user("mallory").await;
        as_user("npm-12", &registry, &mallory, |npm| {
            let why = npm.fails_in(npm.home(), &["org", "set", "acme", "mallory", "owner"]);
            assert!(why.contains("RUSTACCIO_ADMIN_USERS"), "{why}");
        })
        .await;
    }
}
