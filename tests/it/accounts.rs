//! Registering, signing in and out, tokens, profiles, passwords.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Package, Registry, User};

#[tokio::test]
async fn an_account_is_made_once_and_signed_in_to_at_once() {
    let registry = Registry::alone().await;
    let first = registry.sign_in("alice", "password").await.assert(201);
    assert_eq!(first.json()["ok"], "user 'alice' created");
    assert_eq!(first.header("cache-control"), Some("no-cache, no-store"));
    let again = registry.sign_in("alice", "password").await.assert(201);
    assert_eq!(again.json()["ok"], "you are authenticated as 'alice'");
    assert_ne!(first.json()["token"], again.json()["token"]);
    let wrong = registry.sign_in("alice", "guess").await.assert(401);
    assert_eq!(wrong.error(), "bad username/password, access denied");
    assert!(wrong.header("www-authenticate").is_none());
    let short = registry.sign_in("bob", "x").await.assert(400);
    assert_eq!(
        short.error(),
        "The provided password does not pass the validation"
    );
}

#[tokio::test]
async fn names_that_mean_something_cannot_be_registered() {
    let registry = Registry::start(&[("RUSTACCIO_ADMIN_GROUPS", "wheel")]).await;
    for name in ["$all", "@team", "all", "anonymous", "undefined", "wheel"] {
        let answer = registry.sign_in(name, "password").await;
        assert_eq!(answer.status, 409, "{name}");
    }
    for name in ["__proto__", "constructor", "admin"] {
        registry.sign_in(name, "password").await.assert(201);
    }
    let body = json!({ "name": "eve", "password": "password" });
    let path = "/-/user/org.couchdb.user:mallory";
    let answer = registry.send_json(None, Method::PUT, path, &body).await;
    assert_eq!(
        answer.assert(400).error(),
        "username does not match logged in user"
    );
    for name in ["a%2Fb", "a%00b", "%ff", "a%20b"] {
        let path = format!("/-/user/org.couchdb.user:{name}");
        let body = json!({ "name": "x", "password": "password" });
        let answer = registry.send_json(None, Method::PUT, &path, &body).await;
        assert_eq!(answer.status, 400, "{name}");
    }
}

#[tokio::test]
async fn registration_can_be_closed() {
    let registry = Registry::start(&[("RUSTACCIO_REGISTRATION", "closed")]).await;
    let refused = registry.sign_in("alice", "password").await.assert(409);
    assert_eq!(refused.error(), "user registration disabled");
}

#[tokio::test]
async fn whoami_and_logout() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let who = registry.get_as(&alice, "/-/whoami").await.assert(200);
    assert_eq!(who.json(), json!({ "username": "alice" }));
    let nobody = registry.get("/-/whoami").await.assert(401);
    assert_eq!(nobody.json()["code"], "AUTH_UNAUTHORIZED");
    assert!(
        nobody.json()["hint"]
            .as_str()
            .unwrap()
            .contains("Bearer token")
    );
    let path = format!("/-/user/token/{}", alice.token);
    let out = registry.delete(&alice, &path).await.assert(200);
    assert_eq!(out.json(), json!({ "ok": "Logged out" }));
    registry.get_as(&alice, "/-/whoami").await.assert(401);
}

#[tokio::test]
async fn a_stale_token_reads_what_anybody_may_and_is_told_why() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("open", "1.0.0"))
        .await
        .assert(201);
    let stale = User {
        token: "rca_000000000000000000000000000000000000000000000000".to_owned(),
    };
    let read = registry.get_as(&stale, "/open").await.assert(200);
    assert!(read.header("npm-notice").unwrap().contains("npm login"));
    registry.get_as(&stale, "/-/ping").await.assert(200);
    registry.get_as(&stale, "/-/whoami").await.assert(401);
    registry
        .get_as(&stale, "/open?write=true")
        .await
        .assert(401);
    registry.get("/open?write=true").await.assert(400);
    let refused = registry
        .publish(&stale, &Package::new("open", "1.0.1"))
        .await;
    assert!(
        refused
            .assert(401)
            .error()
            .contains("unknown, expired or revoked")
    );
}

#[tokio::test]
async fn basic_credentials_work_everywhere() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for password in ["password", &alice.token] {
        let request = registry
            .request(Method::GET, "/-/whoami")
            .basic_auth("alice", Some(password));
        registry.send(request).await.assert(200);
    }
    let request = registry
        .request(Method::GET, "/-/whoami")
        .basic_auth("alice", Some("wrong"));
    registry.send(request).await.assert(401);
}

async fn create(registry: &Registry, user: &User, wish: Value) -> Value {
    let path = "/-/npm/v1/tokens";
    let answer = registry
        .send_json(Some(user), Method::POST, path, &wish)
        .await;
    answer.assert(200).json()
}

fn holder(token: &Value) -> User {
    User {
        token: token["token"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let old = json!({ "password": "password", "readonly": false, "cidr_whitelist": [] });
    let token = create(&registry, &alice, old).await;
    let holder = holder(&token);
    registry.get_as(&holder, "/-/whoami").await.assert(200);
    let list = registry
        .get_as(&alice, "/-/npm/v1/tokens")
        .await
        .assert(200);
    let list = list.json();
    assert_eq!(list["objects"].as_array().unwrap().len(), 2);
    let listed = list.to_string();
    assert!(!listed.contains(&holder.token), "a listing shows a token");
    let key = token["key"].as_str().unwrap();
    let path = format!("/-/npm/v1/tokens/token/{key}");
    registry.delete(&alice, &path).await.assert(200);
    registry.get_as(&holder, "/-/whoami").await.assert(401);
    let wrong = json!({ "password": "guess" });
    let path = "/-/npm/v1/tokens";
    let answer = registry
        .send_json(Some(&alice), Method::POST, path, &wrong)
        .await;
    answer.assert(401);
    let missing = registry
        .send_json(Some(&alice), Method::POST, path, &json!({}))
        .await;
    missing.assert(422);
}

#[tokio::test]
async fn limits_of_tokens_hold() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("mine", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let readonly = json!({ "password": "password", "readonly": true });
    let reader = holder(&create(&registry, &alice, readonly).await);
    registry.get_as(&reader, "/mine").await.assert(200);
    let next = Package::new("mine", "1.0.1");
    registry.publish(&reader, &next).await.assert(403);
    let wish = json!({ "password": "password" });
    let path = "/-/npm/v1/tokens";
    let answer = registry
        .send_json(Some(&reader), Method::POST, path, &wish)
        .await;
    answer.assert(403);

    let elsewhere = json!({ "password": "password", "cidr_whitelist": ["10.1.0.0/16"] });
    let elsewhere = holder(&create(&registry, &alice, elsewhere).await);
    registry.get_as(&elsewhere, "/-/whoami").await.assert(401);
    let here = json!({ "password": "password", "cidr": ["127.0.0.0/8"] });
    let here = holder(&create(&registry, &alice, here).await);
    registry.get_as(&here, "/-/whoami").await.assert(200);
    let rubbish = json!({ "password": "password", "cidr": ["everywhere"] });
    let answer = registry
        .send_json(Some(&alice), Method::POST, path, &rubbish)
        .await;
    assert!(answer.status.is_client_error());

    let scoped = json!({ "password": "password", "name": "ci", "scopes": ["@acme"], "expires": 1 });
    let scoped = create(&registry, &alice, scoped).await;
    assert!(scoped["expires"].is_string());
    let scoped = holder(&scoped);
    registry.publish(&scoped, &next).await.assert(403);
    let allowed = Package::new("@acme/x", "1.0.0");
    registry.publish(&scoped, &allowed).await.assert(201);
}

#[tokio::test]
async fn a_new_password_ends_all_logins() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let change = |old: &str, new: &str| json!({ "password": { "old": old, "new": new } });
    let path = "/-/npm/v1/user";
    let post = async |body: Value| {
        registry
            .send_json(Some(&alice), Method::POST, path, &body)
            .await
    };
    post(change("guess", "another")).await.assert(403);
    post(change("password", "x")).await.assert(401);
    post(json!({ "password": { "new": "another" } }))
        .await
        .assert(400);
    post(json!({ "tfa": { "mode": "auth-only" } }))
        .await
        .assert(503);
    let set = post(json!({ "email": "new@example.com" }))
        .await
        .assert(200);
    assert_eq!(set.json()["email"], "new@example.com");
    post(change("password", "another")).await.assert(200);
    registry.get_as(&alice, "/-/whoami").await.assert(401);
    registry.sign_in("alice", "password").await.assert(401);
    registry.sign_in("alice", "another").await.assert(201);
}

#[tokio::test]
async fn accounts_survive_a_restart_and_keep_no_secret() {
    use std::os::unix::fs::PermissionsExt as _;

    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let path = registry.data().join("state.json");
    let state = std::fs::read_to_string(&path).unwrap();
    assert!(!state.contains(&alice.token) && !state.contains("password\""));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let folder = registry.stop().await;
    let registry = Registry::with(crate::support::registry::Start {
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    registry.get_as(&alice, "/-/whoami").await.assert(200);
}

#[tokio::test]
async fn failed_logins_are_slowed_down_and_the_right_one_passes_afterwards() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let mut throttled = None;
    for _ in 0..20 {
        let answer = registry.sign_in("alice", "guess").await;
        if answer.status == 429 {
            throttled = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let throttled = throttled.expect("guessing goes on for ever");
    let wait: u64 = throttled.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    // Others are not affected.
    registry.user("bob").await;
}
