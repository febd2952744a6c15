//! Stars: everybody's own, and nobody else's business.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Package, Registry, User};

async fn starred(registry: &Registry, user: &str) -> Value {
    let path = format!("/-/util/user/{user}/stars");
    registry.get(&path).await.assert(200).json()
}

/// Alice owns `app` and `@acme/lib`; only owners change packages.
async fn owned_by_alice() -> (Registry, User) {
    let registry = Registry::start(&[("RUSTACCIO_PUBLISH_CHECK_OWNERS", "true")]).await;
    let alice = registry.user("alice").await;
    for name in ["app", "@acme/lib"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    let bob = registry.user("bob").await;
    (registry, bob)
}

#[tokio::test]
pub(crate) async fn pnpm_says_the_name_twice() {
    let (registry, bob) = owned_by_alice().await;
    let path = "/-/user/v1/star";
    let send = async |method: Method, body: Value| {
        registry.send_json(Some(&bob), method, path, &body).await
    };
    let both = json!({ "name": "@acme/lib", "package": "@acme/lib" });
    send(Method::PUT, both.clone()).await.assert(200);
    send(Method::PUT, json!({ "package": "app" }))
        .await
        .assert(200);
    assert_eq!(starred(&registry, "bob").await, json!(["@acme/lib", "app"]));
    send(Method::DELETE, both).await.assert(200);
    send(Method::DELETE, json!({ "name": "app" }))
        .await
        .assert(200);
    assert_eq!(starred(&registry, "bob").await, json!([]));
    send(Method::PUT, json!({})).await.assert(400);
    let app = json!({ "name": "app" });
    let nobody = registry.send_json(None, Method::PUT, path, &app).await;
    nobody.assert(401);
}

#[tokio::test]
pub(crate) async fn all_listings_of_stars_agree() {
    let (registry, bob) = owned_by_alice().await;
    let star = json!({ "name": "app" });
    registry
        .put(&bob, "/-/user/v1/star", &star)
        .await
        .assert(200);
    for path in ["/-/user/bob/stars", "/-/util/user/bob/stars"] {
        let list = registry.get(path).await.assert(200);
        assert_eq!(list.json(), json!(["app"]), "{path}");
    }
    let own = registry.get_as(&bob, "/-/user/v1/star").await.assert(200);
    assert_eq!(own.json(), json!(["app"]));
    let view = "/-/_view/starredByUser?key=%22bob%22";
    let view = registry.get(view).await.assert(200);
    assert_eq!(view.json(), json!({ "rows": [{ "value": "app" }] }));
}

#[cfg(feature = "test-clients")]
mod clients {
    use super::*;
    use crate::support::client::as_user;

    async fn star_and_unstar(name: &'static str) {
        let (registry, bob) = owned_by_alice().await;
        as_user(name, &registry, &bob, |client| {
            for package in ["app", "@acme/lib"] {
                client.ok(&["star", package]);
                let own = client.ok(&["stars"]);
                assert!(own.contains(package), "{own}");
                let of_bob = client.ok(&["stars", "bob"]);
                assert!(of_bob.contains(package), "{of_bob}");
                client.ok(&["unstar", package]);
            }
            let output = client.run_in(client.home(), &["stars", "bob"]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(!text.contains("app") && !text.contains("lib"), "{text}");
        })
        .await;
        assert_eq!(starred(&registry, "bob").await, json!([]));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_11() {
        star_and_unstar("npm-11").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_12() {
        star_and_unstar("pnpm-12").await;
    }
}
