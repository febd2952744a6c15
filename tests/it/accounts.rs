//! Registering, signing in and out, profiles, passwords.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::Method;
use rustaccio::{
    auth::AuthHook,
    error::RegistryError,
    lifecycle::ManualClock,
    models::{AuthIdentity, Timestamp},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Package, Registry, User, publish_body,
    registry::{Start, with_json},
};

#[tokio::test]
pub(crate) async fn an_account_is_made_once_and_signed_in_to_at_once() {
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
pub(crate) async fn names_that_mean_something_cannot_be_registered() {
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
pub(crate) async fn registration_can_be_closed() {
    let registry = Registry::start(&[("RUSTACCIO_REGISTRATION", "closed")]).await;
    let refused = registry.sign_in("alice", "password").await.assert(409);
    assert_eq!(refused.error(), "user registration disabled");
}

#[tokio::test]
pub(crate) async fn whoami_and_logout() {
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
pub(crate) async fn a_stale_token_reads_what_anybody_may_and_is_told_why() {
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
pub(crate) async fn basic_credentials_work_everywhere() {
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
    // Publishing too.
    let package = Package::new("mine", "1.0.0");
    let publish = async |password: &str| {
        let body = publish_body(&package, "latest");
        let request = with_json(registry.request(Method::PUT, "/mine"), &body);
        let request = request.basic_auth("alice", Some(password));
        registry.send(request).await
    };
    let refused = publish("wrong").await.assert(401);
    assert_eq!(refused.error(), "bad username/password, access denied");
    publish("password").await.assert(201);
}

#[tokio::test]
pub(crate) async fn a_new_password_ends_all_logins() {
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
    post(json!({})).await.assert(400);
    let same = json!({ "email": "x@example.com", "fullname": null });
    post(same).await.assert(200);
    let set = post(json!({ "email": "new@example.com" }))
        .await
        .assert(200);
    assert_eq!(set.json()["email"], "new@example.com");
    post(change("password", "another")).await.assert(200);
    registry.get_as(&alice, "/-/whoami").await.assert(401);
    registry.sign_in("alice", "password").await.assert(401);
    registry.sign_in("alice", "another").await.assert(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn a_login_that_a_new_password_overtakes_is_none() {
    let registry = Arc::new(Registry::alone().await);
    let mut alice = registry.user("alice").await;
    let passwords = ["password", "second", "third", "fourth", "fifth", "sixth"];
    for (old, &new) in passwords.into_iter().zip(&passwords[1..]) {
        // They log in as often as they can until it is another.
        let mut visitors = JoinSet::new();
        for _ in 0..8 {
            let registry = Arc::clone(&registry);
            visitors.spawn(async move {
                let mut tokens = Vec::new();
                loop {
                    let answer = registry.sign_in("alice", old).await;
                    if answer.status != 201 {
                        return tokens;
                    }
                    let token = answer.json()["token"].as_str().unwrap().to_owned();
                    tokens.push(User { token });
                }
            });
        }
        let change = json!({ "password": { "old": old, "new": new } });
        let changed = registry.send_json(Some(&alice), Method::POST, "/-/npm/v1/user", &change);
        changed.await.assert(200);
        for token in visitors.join_all().await.into_iter().flatten() {
            registry.get_as(&token, "/-/whoami").await.assert(401);
        }
        let token = registry.sign_in("alice", new).await.assert(201).json();
        alice.token = token["token"].as_str().unwrap().to_owned();
    }
}

#[tokio::test]
pub(crate) async fn accounts_survive_a_restart_and_keep_no_secret() {
    use std::os::unix::fs::PermissionsExt as _;

    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    if registry.is_in_folder() {
        let path = registry.data().join("state.json");
        let state = std::fs::read_to_string(&path).unwrap();
        assert!(!state.contains(&alice.token) && !state.contains("password\""));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let folder = registry.stop().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    registry.get_as(&alice, "/-/whoami").await.assert(200);
}

/// Midday, some day.
fn clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::parse_rfc3339("2026-01-02T12:00:00Z").unwrap())
}

#[tokio::test]
pub(crate) async fn failed_logins_are_slowed_down_and_the_right_one_passes_afterwards() {
    let clock = clock();
    let registry = Registry::at(&clock, &[]).await;
    registry.user("alice").await;
    for _ in 0..4 {
        registry.sign_in("alice", "guess").await.assert(401);
    }
    for expected in ["1", "2", "4", "8", "16", "32", "60", "60"] {
        for password in ["guess", "password"] {
            let throttled = registry.sign_in("alice", password).await.assert(429);
            assert_eq!(throttled.header("retry-after"), Some(expected));
            assert_eq!(throttled.json()["code"], "RATE_LIMITED");
        }
        // Others are not affected.
        registry.user("bob").await;
        clock.advance(Duration::from_secs(expected.parse().unwrap()));
        registry.sign_in("alice", "guess").await.assert(401);
    }
    clock.advance(Duration::from_secs(60));
    registry.sign_in("alice", "password").await.assert(201);
    registry.sign_in("alice", "guess").await.assert(401);
    registry.sign_in("alice", "password").await.assert(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
pub(crate) async fn guesses_at_once_count_one_by_one_and_right_passwords_do_not() {
    let registry = Arc::new(Registry::at(&clock(), &[]).await);
    for name in ["alice", "bob"] {
        registry.user(name).await;
    }
    let all_at_once = async |name: &'static str, password: fn(usize) -> String| {
        let mut tasks = JoinSet::new();
        for number in 0..60 {
            let registry = Arc::clone(&registry);
            tasks.spawn(async move { registry.sign_in(name, &password(number)).await.status });
        }
        tasks.join_all().await
    };
    let guesses = all_at_once("alice", |number| format!("guess {number}")).await;
    let count = |status| guesses.iter().filter(|guess| **guess == status).count();
    assert_eq!((count(401), count(429)), (4, 56), "{guesses:?}");
    // As when a build starts on many machines behind one address.
    let logins = all_at_once("bob", |_| "password".to_owned()).await;
    assert!(logins.iter().all(|status| *status == 201), "{logins:?}");
}

#[tokio::test]
pub(crate) async fn logins_end_in_time_and_are_forgotten() {
    let clock = clock();
    let ttl = [("RUSTACCIO_AUTH_TOKEN_TTL_SECS", "3600")];
    let registry = Registry::at(&clock, &ttl).await;
    let alice = registry.user("alice").await;
    clock.advance(Duration::from_secs(3599));
    registry.get_as(&alice, "/-/whoami").await.assert(200);
    let later = registry.user("alice").await;
    clock.advance(Duration::from_secs(1));
    let ended = registry.get_as(&alice, "/-/whoami").await.assert(401);
    assert!(ended.error().contains("expired"));
    let list = registry.get_as(&later, "/-/npm/v1/tokens").await;
    assert_eq!(list.assert(200).json()["total"], 1);
    let path = registry.data().join("state.json");
    let is_in_folder = registry.is_in_folder();
    let is_count = |count: usize| {
        if !is_in_folder {
            return true;
        }
        let state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        state["auth_tokens"].as_object().unwrap().len() == count
    };
    assert!(is_count(2));
    let folder = registry.stop().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        clock: Some(Arc::clone(&clock)),
        ..Start::default()
    })
    .await;
    // Those that have ended are removed at start, and then every hour.
    assert!(is_count(1));
    registry.get_as(&later, "/-/whoami").await.assert(200);
}

#[tokio::test]
pub(crate) async fn logins_last_for_ever_where_they_may_and_very_long_where_they_are_told() {
    for ttl in ["0", "999999999999", "9223372036854775807"] {
        let clock = clock();
        let registry = Registry::at(&clock, &[("RUSTACCIO_AUTH_TOKEN_TTL_SECS", ttl)]).await;
        let alice = registry.user("alice").await;
        clock.advance(Duration::from_secs(100 * 365 * 86_400));
        registry.get_as(&alice, "/-/whoami").await.assert(200);
    }
}

#[tokio::test]
pub(crate) async fn a_new_password_counts_at_once_for_basic_credentials() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let whoami = async |password: &str| {
        let request = registry.request(Method::GET, "/-/whoami");
        let request = request.basic_auth("alice", Some(password));
        registry.send(request).await.status.as_u16()
    };
    assert_eq!(whoami("password").await, 200);
    let body = json!({ "password": { "old": "password", "new": "another" } });
    let path = "/-/npm/v1/user";
    let changed = registry.send_json(Some(&alice), Method::POST, path, &body);
    changed.await.assert(200);
    assert_eq!(whoami("password").await, 401);
    assert_eq!(whoami("another").await, 200);
}

#[tokio::test]
pub(crate) async fn there_are_no_more_users_than_allowed() {
    let registry = Registry::start(&[("RUSTACCIO_MAX_USERS", "2")]).await;
    for name in ["alice", "bob"] {
        registry.user(name).await;
    }
    let refused = registry.sign_in("carol", "password").await.assert(403);
    assert_eq!(refused.error(), "maximum amount of users reached");
    registry.user("alice").await;
    let closed = Registry::start(&[("RUSTACCIO_MAX_USERS", "-1")]).await;
    let refused = closed.sign_in("alice", "password").await.assert(409);
    assert_eq!(refused.error(), "user registration disabled");
}

#[tokio::test]
pub(crate) async fn couch_s_second_request_says_what_the_first_one_said() {
    let closed = Registry::start(&[("RUSTACCIO_REGISTRATION", "closed")]).await;
    let open = Registry::start(&[("RUSTACCIO_ADMIN_GROUPS", "wheel")]).await;
    open.user("alice").await;
    // npm asks for the revision of a user that is there already, and then writes to it.
    let put = async |registry: &Registry, name: &str, password: &str| {
        let path = format!("/-/user/org.couchdb.user:{name}/-rev/undefined");
        let body = json!({ "name": name, "password": password });
        let request = with_json(registry.request(Method::PUT, &path), &body);
        registry
            .send(request.basic_auth(name, Some(password)))
            .await
    };
    let refused = put(&closed, "alice", "password").await.assert(409);
    assert_eq!(refused.error(), "user registration disabled");
    let refused = put(&open, "wheel", "password").await.assert(409);
    assert_eq!(refused.error(), "the name `wheel` is reserved");
    put(&open, "alice", "wrong").await.assert(401);
    let signed_in = put(&open, "alice", "password").await.assert(201);
    let token = signed_in.json()["token"].as_str().unwrap().to_owned();
    open.get_as(&User { token }, "/-/whoami").await.assert(200);
}

#[tokio::test]
pub(crate) async fn clients_go_on_without_a_browser_where_that_is_off() {
    let registry = Registry::start(&[("RUSTACCIO_WEB_LOGIN", "false")]).await;
    let path = "/-/v1/login";
    let empty = json!({});
    let answer = registry.send_json(None, Method::POST, path, &empty).await;
    let answer = answer.assert(404);
    assert_eq!(answer.json()["code"], "STORAGE_NOT_FOUND");
}

/// Knows the bearers of `robot-token`, and nobody else.
struct Robots;

#[async_trait]
impl AuthHook for Robots {
    async fn authenticate_request(
        &self,
        token: &str,
        _method: &str,
        _path: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        Ok((token == "robot-token").then(|| AuthIdentity {
            username: Some("robot".to_owned()),
            groups: vec!["ci".to_owned()],
        }))
    }
}

#[tokio::test]
pub(crate) async fn an_embedder_s_users_are_in_teams_too() {
    let file = "packages:\n  '@acme/*':\n    access: '@acme:dev'\n    publish: '@acme:dev'\n\
                admin:\n  groups: [ci]\n";
    let registry = Registry::with(Start {
        file,
        hook: Some(Arc::new(Robots)),
        ..Start::default()
    })
    .await;
    let robot = User {
        token: "robot-token".to_owned(),
    };
    let package = Package::new("@acme/app", "1.0.0");
    registry.publish(&robot, &package).await.assert(403);
    let team = json!({ "name": "dev" });
    let made = registry.put(&robot, "/-/org/acme/team", &team).await;
    assert!(made.status.is_success(), "{made:?}");
    let member = json!({ "user": "robot" });
    let added = registry.put(&robot, "/-/team/acme/dev/user", &member).await;
    assert!(added.status.is_success(), "{added:?}");
    registry.publish(&robot, &package).await.assert(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
pub(crate) async fn changes_of_a_profile_at_once_are_all_there() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let fields = ["fullname", "homepage", "twitter", "github", "freenode"];
    let change = async |field: &str| {
        let wish = json!({ field: "x" });
        let path = "/-/npm/v1/user";
        let changed = registry.send_json(Some(&alice), Method::POST, path, &wish);
        changed.await.assert(200);
    };
    let [one, two, three, four, five] = fields.map(change);
    tokio::join!(one, two, three, four, five);
    let profile = registry.get_as(&alice, "/-/npm/v1/user").await.json();
    for field in fields {
        assert_eq!(profile[field], "x", "{profile}");
    }
}
