//! Signing in and up, and changing passwords, as Verdaccio's pages do.

use std::time::Duration;

use reqwest::Method;
use rustaccio::{lifecycle::ManualClock, models::Timestamp};
use serde_json::{Value, json};

use super::{LOGIN, PACKAGES, PASSWORD, SIGNUP, post};
use crate::support::{Registry, User, registry::with_json, second_factor::with_second_factor};

#[tokio::test]
async fn a_login_is_a_login() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let wish = json!({ "username": "alice", "password": "password" });
    let done = post(&registry, &wish).await.assert(200);
    assert_eq!(done.json()["username"], "alice");
    assert_eq!(done.header("cache-control"), Some("no-cache, no-store"));
    let token = done.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("rca_"), "{token}");
    let user = User { token };
    let who = registry.get_as(&user, "/-/whoami").await.assert(200);
    assert_eq!(who.json()["username"], "alice");
    let path = format!("/-/user/token/{}", user.token);
    registry.delete(&user, &path).await.assert(200);
    registry.get_as(&user, "/-/whoami").await.assert(401);
    // As there, and other than at npm's door, nobody is registered on the way.
    for (name, password) in [("alice", "guess"), ("eve", "password")] {
        let wish = json!({ "username": name, "password": password });
        let wrong = post(&registry, &wish).await.assert(401);
        assert_eq!(wrong.error(), "bad username/password, access denied");
        assert!(wrong.header("www-authenticate").is_none());
    }
    for wish in [
        json!({}),
        json!({ "username": "alice" }),
        json!({ "username": null, "password": "password" }),
        json!({ "username": "../x", "password": "password" }),
        json!({ "username": 7, "password": ["x"] }),
        json!([]),
        json!("alice"),
    ] {
        post(&registry, &wish).await.assert(400);
    }
}

#[tokio::test]
async fn guesses_are_slowed_down_whatever_door_they_knock_at() {
    let clock = ManualClock::at(Timestamp::parse_rfc3339("2026-01-02T12:00:00Z").unwrap());
    let registry = Registry::at(&clock, &[]).await;
    let alice = registry.user("alice").await;
    let right = json!({ "username": "alice", "password": "password" });
    let wrong = json!({ "username": "alice", "password": "guess" });
    let change = json!({ "password": { "old": "guess", "new": "another" } });
    for _ in 0..2 {
        post(&registry, &wrong).await.assert(401);
        registry.put(&alice, PASSWORD, &change).await.assert(403);
    }
    registry.sign_in("alice", "guess").await.assert(429);
    let slowed = post(&registry, &right).await.assert(429);
    assert_eq!(slowed.header("retry-after"), Some("1"));
    registry.put(&alice, PASSWORD, &change).await.assert(429);
    clock.advance(Duration::from_secs(60));
    post(&registry, &right).await.assert(200);
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_how_to_show_it_is_said() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let codes = ["one-code", "two-codes", "three-codes"];
    let registry = with_second_factor(registry, Vec::new(), "alice", "auth-only", &codes).await;
    let wish = |otp: Value| json!({ "username": "alice", "password": "password", "otp": otp });
    let asked = post(&registry, &wish(json!(null))).await.assert(401);
    assert_eq!(asked.json()["code"], "AUTH_OTP_REQUIRED");
    let says = asked.error();
    for word in ["one-time pass", "`otp`", "`npm-otp`"] {
        assert!(says.contains(word), "{says}");
    }
    assert_eq!(asked.header("www-authenticate"), Some("OTP, otp"));
    let wrong = post(&registry, &wish(json!("no-such-code")))
        .await
        .assert(401);
    assert!(wrong.error().contains("is wrong"), "{}", wrong.error());
    post(&registry, &wish(json!("one-code"))).await.assert(200);
    post(&registry, &wish(json!("one-code"))).await.assert(401);
    let request = with_json(registry.request(Method::POST, LOGIN), &wish(json!("")));
    // Name and password in a header too do not use up the code.
    let request = request.basic_auth("alice", Some("password"));
    let request = request.header("npm-otp", "two-codes");
    registry.send(request).await.assert(200);
    let change = json!({ "password": { "old": "password", "new": "another" } });
    let asked = registry.put(&alice, PASSWORD, &change).await.assert(401);
    let says = asked.error();
    assert!(
        says.contains("one-time pass") && says.contains("`npm-otp`"),
        "{says}"
    );
    let request = with_json(registry.request(Method::PUT, PASSWORD), &change);
    let request = request.bearer_auth(&alice.token);
    registry
        .send(request.header("npm-otp", "three-codes"))
        .await
        .assert(200);
}

#[tokio::test]
async fn a_second_factor_may_be_shown_in_the_browser() {
    let variables = || vec![("RUSTACCIO_WEB_LOGIN", "true".to_owned())];
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let codes = ["one-code"];
    let registry = with_second_factor(registry, variables(), "alice", "auth-only", &codes).await;
    let wish = json!({ "username": "alice", "password": "password" });
    let asked = post(&registry, &wish).await.assert(401).json();
    for key in ["authUrl", "doneUrl"] {
        let address = asked[key].as_str().unwrap();
        assert!(address.starts_with(&registry.url), "{address}");
    }
}

#[tokio::test]
async fn a_new_password_takes_the_old_one_and_ends_logins() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let change = |old: &str, new: &str| json!({ "password": { "old": old, "new": new } });
    let good = change("password", "another");
    let nobody = registry.send_json(None, Method::PUT, PASSWORD, &good);
    nobody.await.assert(401);
    let wrong = change("guess", "another");
    registry.put(&alice, PASSWORD, &wrong).await.assert(403);
    let short = change("password", "x");
    let short = registry.put(&alice, PASSWORD, &short).await.assert(400);
    assert_eq!(
        short.error(),
        "The provided password does not pass the validation"
    );
    for body in [
        json!({}),
        json!({ "password": "another" }),
        json!({ "password": { "new": "another" } }),
        json!({ "password": { "old": "password" } }),
    ] {
        registry.put(&alice, PASSWORD, &body).await.assert(400);
    }
    // A token with limits is not enough.
    let limited = json!({ "password": "password", "readonly": true });
    let made = registry.send_json(Some(&alice), Method::POST, "/-/npm/v1/tokens", &limited);
    let token = made.await.assert(200).json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let reader = User { token };
    registry.put(&reader, PASSWORD, &good).await.assert(403);
    let done = registry.put(&alice, PASSWORD, &good).await.assert(200);
    assert_eq!(done.json(), json!({ "ok": true }));
    registry.get_as(&alice, "/-/whoami").await.assert(401);
    registry.sign_in("alice", "password").await.assert(401);
    registry.sign_in("alice", "another").await.assert(201);
}

#[tokio::test]
async fn accounts_are_made_where_visitors_may() {
    let wish =
        json!({ "name": "bob", "password": "password", "email": "b@x.example", "sessionId": "1" });
    let open = Registry::alone().await;
    let sign_up = async |registry: &Registry, wish: &Value| {
        registry.send_json(None, Method::PUT, SIGNUP, wish).await
    };
    let done = sign_up(&open, &wish).await.assert(201);
    assert_eq!(done.json()["username"], "bob");
    let bob = User {
        token: done.json()["token"].as_str().unwrap().to_owned(),
    };
    let profile = open.get_as(&bob, "/-/npm/v1/user").await.assert(200);
    assert_eq!(profile.json()["email"], "b@x.example");
    // Whoever has the name already does not get in by this door.
    sign_up(&open, &wish).await.assert(409);
    for (name, status) in [("all", 409), ("$all", 409), ("a/../b", 400), ("", 400)] {
        let wish = json!({ "name": name, "password": "password" });
        sign_up(&open, &wish).await.assert(status);
    }
    sign_up(&open, &json!({ "name": "eve", "password": "x" }))
        .await
        .assert(400);
    let closed = Registry::start(&[("RUSTACCIO_REGISTRATION", "closed")]).await;
    let refused = sign_up(&closed, &wish).await.assert(409);
    assert_eq!(refused.error(), "user registration disabled");
}

#[tokio::test]
async fn every_try_leaves_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let text = path.display().to_string();
    let registry = Registry::start(&[("RUSTACCIO_AUDIT_LOG_FILE", &text)]).await;
    let alice = registry.user("alice").await;
    let last = || -> Value {
        let text = std::fs::read_to_string(&path).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    };
    let check = |action: &str, outcome: &str, event: &str| {
        let line = last();
        assert_eq!(
            (&line["action"], &line["outcome"]),
            (&json!(action), &json!(outcome))
        );
        assert_eq!(line["events"][0]["type"], event, "{line}");
        let text = line.to_string();
        assert!(
            !text.contains("password1") && !text.contains("rca_"),
            "{text}"
        );
    };
    let wish = |password: &str| json!({ "username": "alice", "password": password });
    post(&registry, &wish("password1")).await.assert(401);
    check("user.sign_in", "denied", "auth.login.failed");
    post(&registry, &wish("password")).await.assert(200);
    check("user.sign_in", "ok", "auth.login.succeeded");
    let wish = json!({ "name": "bob", "password": "password1" });
    let made = registry.send_json(None, Method::PUT, SIGNUP, &wish);
    made.await.assert(201);
    check("user.sign_in", "ok", "auth.user.registered");
    let change = json!({ "password": { "old": "password", "new": "password1" } });
    registry.put(&alice, PASSWORD, &change).await.assert(200);
    let line = last();
    assert_eq!(
        (&line["action"], &line["user"]),
        (&json!("user.change"), &json!("alice"))
    );
    registry.stop().await;
}

#[tokio::test]
async fn no_form_of_another_site_and_no_cookie_counts_here() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let body = r#"{"username":"alice","password":"password"}"#;
    for kind in [
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("text/plain"),
        Some("text/plain; application/json"),
        Some(""),
        None,
    ] {
        for (method, path) in [(Method::POST, LOGIN), (Method::PUT, SIGNUP)] {
            let mut request = registry.request(method, path).body(body);
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let refused = registry.send(request).await.assert(400);
            assert!(refused.error().contains("application/json"), "{kind:?}");
        }
    }
    let charset = registry.request(Method::POST, LOGIN).body(body);
    let charset = charset.header("content-type", "Application/JSON; charset=utf-8");
    registry.send(charset).await.assert(200);
    let change = json!({ "password": { "old": "password", "new": "another" } });
    let request = with_json(registry.request(Method::PUT, PASSWORD), &change);
    let cookie = format!("rustaccio_session={}", alice.token);
    registry
        .send(request.header("cookie", cookie))
        .await
        .assert(401);
    let any = registry.get(PACKAGES).await;
    assert!(any.header("access-control-allow-origin").is_none());
    assert!(any.header("set-cookie").is_none());
}
