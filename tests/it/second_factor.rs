//! Second factors: turning them on, what they protect, and every way to show them.

#[cfg(feature = "test-clients")]
mod clients;

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder};
use rustaccio::{
    lifecycle::{Clock as _, ManualClock},
    models::Timestamp,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use totp_rs::Totp;

use crate::support::{
    Answer, Package, Registry, User,
    process::Process,
    publish_body,
    registry::{Start, with_json},
};

const PROFILE: &str = "/-/npm/v1/user";

/// A registry where alice has a second factor, and the device that makes its codes.
struct World {
    registry: Registry,
    clock: Arc<ManualClock>,
    alice: User,
    device: Totp,
    recovery: Vec<String>,
}

impl World {
    async fn start(mode: &str) -> Self {
        Self::with(mode, &[]).await
    }

    async fn with(mode: &str, variables: &[(&str, &str)]) -> Self {
        let clock = clock();
        let registry = Registry::at(&clock, variables).await;
        let alice = registry.user("alice").await;
        let wish = json!({ "tfa": { "password": "password", "mode": mode } });
        let begun = change(&registry, &alice, &wish, None).await.assert(200);
        let device = device(&begun);
        let confirm = json!({ "tfa": [code_at(&device, &clock)] });
        let confirmed = change(&registry, &alice, &confirm, None).await.assert(200);
        Self {
            recovery: serde_json::from_value(confirmed.json()["tfa"].clone()).unwrap(),
            registry,
            clock,
            alice,
            device,
        }
    }

    /// The code of 30 seconds in which nobody has shown one.
    fn fresh_code(&self) -> String {
        self.clock.advance(Duration::from_secs(90));
        code_at(&self.device, &self.clock)
    }

    async fn publish(&self, user: &User, version: &str, pass: Option<&str>) -> Answer {
        let body = publish_body(&Package::new("mine", version), "latest");
        let request = with_json(self.registry.request(Method::PUT, "/mine"), &body);
        let request = with_pass(request.bearer_auth(&user.token), pass);
        self.registry.send(request).await
    }

    async fn change(&self, wish: &Value, pass: Option<&str>) -> Answer {
        change(&self.registry, &self.alice, wish, pass).await
    }

    async fn get(&self, path: &str, pass: &str) -> Answer {
        let request = self.registry.request(Method::GET, path);
        let request = request.bearer_auth(&self.alice.token);
        self.registry.send(with_pass(request, Some(pass))).await
    }

    /// A login with alice's password, as a request that can be added to.
    fn login(&self, pass: Option<&str>) -> RequestBuilder {
        let path = "/-/user/org.couchdb.user:alice";
        let body = json!({ "name": "alice", "password": "password" });
        let request = with_json(self.registry.request(Method::PUT, path), &body);
        with_pass(request, pass)
    }

    async fn create_token(&self, wish: Value, pass: &str) -> User {
        let request = self.registry.request(Method::POST, "/-/npm/v1/tokens");
        let request = with_json(request, &wish).bearer_auth(&self.alice.token);
        let made = self.registry.send(with_pass(request, Some(pass))).await;
        let token = made.assert(200).json()["token"]
            .as_str()
            .unwrap()
            .to_owned();
        User { token }
    }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::parse_rfc3339("2026-01-02T12:00:00Z").unwrap())
}

fn code_at(device: &Totp, clock: &ManualClock) -> String {
    let seconds = clock.now().unix_millis() / 1000;
    device.generate(seconds.try_into().unwrap()).to_string()
}

/// What an authenticator app reads.
fn device(begun: &Answer) -> Totp {
    let body = begun.json();
    let url = body["tfa"].as_str().unwrap();
    assert!(url.starts_with("otpauth://totp/"), "{url}");
    assert!(url.contains("alice") && url.contains("secret="), "{url}");
    Totp::from_url(url).unwrap()
}

fn with_pass(request: RequestBuilder, pass: Option<&str>) -> RequestBuilder {
    match pass {
        Some(pass) => request.header("npm-otp", pass),
        None => request,
    }
}

async fn change(registry: &Registry, user: &User, wish: &Value, pass: Option<&str>) -> Answer {
    let request = with_json(registry.request(Method::POST, PROFILE), wish);
    let request = with_pass(request.bearer_auth(&user.token), pass);
    registry.send(request).await
}

#[track_caller]
fn assert_challenged(answer: Answer) -> Answer {
    let answer = answer.assert(401);
    assert_eq!(answer.header("www-authenticate"), Some("OTP, otp"));
    assert_eq!(answer.json()["code"], "AUTH_OTP_REQUIRED");
    answer
}

#[tokio::test]
pub(crate) async fn a_second_factor_is_turned_on_changed_and_turned_off() {
    let clock = clock();
    let registry = Registry::at(&clock, &[]).await;
    let alice = registry.user("alice").await;
    let shown = async || registry.get_as(&alice, PROFILE).await.assert(200).json()["tfa"].clone();
    let post = async |wish: Value, pass: Option<&str>| change(&registry, &alice, &wish, pass).await;
    assert_eq!(shown().await, false);
    let wish = |mode: &str| json!({ "tfa": { "password": "password", "mode": mode } });

    post(json!({ "tfa": ["123456"] }), None).await.assert(400);
    post(json!({ "tfa": { "mode": "auth-only" } }), None)
        .await
        .assert(400);
    let guess = json!({ "tfa": { "password": "guess", "mode": "auth-only" } });
    let guessed = post(guess, None).await.assert(401);
    assert!(guessed.header("www-authenticate").is_none());

    // Begun, it protects nothing yet; begun again, it has another seed; and it can be left.
    let first = device(&post(wish("auth-and-writes"), None).await.assert(200));
    assert_eq!(
        shown().await,
        json!({ "pending": true, "mode": "auth-and-writes" })
    );
    let off = post(wish("disable"), None).await.assert(200);
    assert_eq!(off.json(), json!({ "tfa": null }));
    let begun = post(wish("auth-and-writes"), None).await.assert(200);
    assert_eq!(begun.header("cache-control"), Some("no-cache, no-store"));
    let device = device(&begun);
    let wrong = json!({ "tfa": [code_at(&first, &clock)] });
    post(wrong, None).await.assert(400);
    registry
        .publish(&alice, &Package::new("mine", "1.0.0"))
        .await
        .assert(201);
    let code = code_at(&device, &clock);
    let confirmed = post(json!({ "tfa": [code] }), None).await.assert(200);
    let codes: Vec<String> = serde_json::from_value(confirmed.json()["tfa"].clone()).unwrap();
    assert_eq!(codes.len(), 10);
    assert_eq!(
        shown().await,
        json!({ "pending": false, "mode": "auth-and-writes" })
    );
    if registry.is_in_folder() {
        let state = std::fs::read_to_string(registry.data().join("state.json")).unwrap();
        assert!(
            codes.iter().all(|code| !state.contains(code)),
            "a code is readable"
        );
    }

    // From now on it is asked for.
    let next = Package::new("mine", "1.0.1");
    let challenged = assert_challenged(registry.publish(&alice, &next).await);
    assert!(challenged.error().contains("one-time pass"));
    assert_challenged(post(wish("auth-only"), None).await);
    assert_challenged(post(json!({ "email": "new@example.com" }), None).await);
    clock.advance(Duration::from_secs(90));
    let code = code_at(&device, &clock);
    let changed = post(wish("auth-only"), Some(&code)).await.assert(200);
    let expected = json!({ "pending": false, "mode": "auth-only" });
    assert_eq!(changed.json()["tfa"], expected);
    registry.publish(&alice, &next).await.assert(201);
    assert_challenged(post(wish("disable"), None).await);
    let guess = json!({ "tfa": { "password": "guess", "mode": "disable" } });
    post(guess, Some(&code)).await.assert(401);
    let off = post(wish("disable"), Some(&code)).await.assert(200);
    assert_eq!(off.json(), json!({ "tfa": null }));
    assert_eq!(shown().await, false);
    registry.sign_in("alice", "password").await.assert(201);
}

#[tokio::test]
pub(crate) async fn whoever_shows_a_code_first_may_show_it_again() {
    let world = World::start("auth-and-writes").await;
    let code = world.fresh_code();
    let other = world
        .create_token(json!({ "password": "password" }), &code)
        .await;
    // One command is many requests.
    for version in ["1.0.0", "1.0.1"] {
        world
            .publish(&world.alice, version, Some(&code))
            .await
            .assert(201);
    }
    let used = assert_challenged(world.publish(&other, "1.0.2", Some(&code)).await);
    assert!(used.error().contains("was used already"));
    assert_challenged(world.registry.send(world.login(Some(&code))).await);
    let code = world.fresh_code();
    world
        .registry
        .send(world.login(Some(&code)))
        .await
        .assert(201);
    assert_challenged(world.registry.send(world.login(Some(&code))).await);
    world.clock.advance(Duration::from_secs(90));
    assert_challenged(world.publish(&other, "1.0.2", Some(&code)).await);
}

#[tokio::test]
pub(crate) async fn a_login_takes_a_code_whatever_else_the_request_shows() {
    let world = World::start("auth-only").await;
    assert_challenged(world.registry.send(world.login(None)).await);
    let wrong = world.registry.send(world.login(Some("000000"))).await;
    assert!(assert_challenged(wrong).error().contains("wrong"));
    // As pnpm does it.
    let with_password =
        |pass: Option<&str>| world.login(pass).basic_auth("alice", Some("password"));
    assert_challenged(world.registry.send(with_password(None)).await);
    let code = world.fresh_code();
    let signed_in = world.registry.send(with_password(Some(&code))).await;
    signed_in.assert(201);
    assert_challenged(world.registry.send(with_password(Some(&code))).await);
    // As npm does it when there is a token already.
    let code = world.fresh_code();
    let with_token = world.login(Some(&code)).bearer_auth(&world.alice.token);
    world.registry.send(with_token).await.assert(201);
    // A token that is worth nothing is not in the way either.
    let code = world.fresh_code();
    let with_stale = world.login(Some(&code)).bearer_auth("rca_stale");
    let signed_in = world.registry.send(with_stale).await.assert(201);
    assert!(signed_in.header("npm-notice").is_some());
}

#[tokio::test]
pub(crate) async fn a_recovery_code_lasts_for_one_command() {
    let world = World::start("auth-and-writes").await;
    world
        .publish(&world.alice, "1.0.0", Some(&world.fresh_code()))
        .await
        .assert(201);
    let code = &world.recovery[0];
    // What npm asks before it publishes uses nothing up.
    for _ in 0..3 {
        world.get("/mine", code).await.assert(200);
        world.get("/-/whoami", code).await.assert(200);
    }
    world
        .publish(&world.alice, "1.0.1", Some(code))
        .await
        .assert(201);
    world
        .publish(&world.alice, "1.0.2", Some(code))
        .await
        .assert(201);
    let token = json!({ "password": "password" });
    let other = world.create_token(token, &world.fresh_code()).await;
    assert_challenged(world.publish(&other, "1.0.3", Some(code)).await);
    assert_challenged(world.registry.send(world.login(Some(code))).await);
    let next = &world.recovery[1];
    world
        .registry
        .send(world.login(Some(next)))
        .await
        .assert(201);
    assert_challenged(world.registry.send(world.login(Some(next))).await);
    // Minutes later it is another command.
    world.clock.advance(Duration::from_secs(301));
    assert_challenged(world.publish(&world.alice, "1.0.3", Some(code)).await);
    // It is used up for good.
    let folder = world.registry.stop().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        clock: Some(Arc::clone(&world.clock)),
        ..Start::default()
    })
    .await;
    let world = World { registry, ..world };
    for (code, status) in [(0, 401), (1, 401), (2, 201)] {
        let code = &world.recovery[code];
        let published = world.publish(&world.alice, "1.0.3", Some(code)).await;
        assert_eq!(published.status, status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
pub(crate) async fn a_recovery_code_serves_requests_at_once() {
    let world = Arc::new(World::start("auth-and-writes").await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let name = format!("package-{number}");
            let body = publish_body(&Package::new(&name, "1.0.0"), "latest");
            let request = world.registry.request(Method::PUT, &format!("/{name}"));
            let request = with_json(request, &body).bearer_auth(&world.alice.token);
            let request = with_pass(request, Some(&world.recovery[0]));
            world.registry.send(request).await.status
        });
    }
    let statuses = tasks.join_all().await;
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
}

#[tokio::test]
pub(crate) async fn a_stale_pass_is_in_nobody_s_way() {
    let world = World::start("auth-and-writes").await;
    world
        .publish(&world.alice, "1.0.0", Some(&world.fresh_code()))
        .await
        .assert(201);
    for _ in 0..10 {
        world.get("/mine", "000000").await.assert(200);
        world.get("/-/whoami", "000000").await.assert(200);
        world.get(PROFILE, "000000").await.assert(200);
    }
    for _ in 0..4 {
        assert_challenged(world.publish(&world.alice, "1.0.1", Some("000000")).await);
    }
    let throttled = world.publish(&world.alice, "1.0.1", Some("000000")).await;
    let throttled = throttled.assert(429);
    assert_eq!(throttled.header("retry-after"), Some("1"));
    world.get("/mine", "000000").await.assert(200);
    world
        .publish(&world.alice, "1.0.1", Some(&world.fresh_code()))
        .await
        .assert(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
pub(crate) async fn passes_that_are_guessed_at_once_count_one_by_one() {
    let world = Arc::new(World::start("auth-and-writes").await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let guess = format!("guess{number}");
            world
                .publish(&world.alice, "1.0.0", Some(&guess))
                .await
                .status
        });
    }
    let statuses = tasks.join_all().await;
    let challenged = statuses.iter().filter(|status| **status == 401).count();
    let throttled = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!((challenged, throttled), (4, 36), "{statuses:?}");
}

#[tokio::test]
pub(crate) async fn a_long_upload_does_not_make_a_code_too_late() {
    let world = World::start("auth-and-writes").await;
    let body = publish_body(&Package::new("mine", "1.0.0"), "latest").to_string();
    for (wait, status) in [(3601, "401"), (1800, "201")] {
        let host = world.registry.url.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let (token, code) = (&world.alice.token, world.fresh_code());
        let head = format!(
            "PUT /mine HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             npm-otp: {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             expect: 100-continue\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It asks for the body once it knows who sends it.
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 100 "), "{answer:?}");
        world.clock.advance(Duration::from_secs(wait));
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[tokio::test]
pub(crate) async fn a_token_may_do_without_for_packages_alone() {
    let world = World::start("auth-and-writes").await;
    let wish = json!({ "password": "password", "name": "ci", "bypass_2fa": true });
    let robot = world.create_token(wish, &world.fresh_code()).await;
    world.publish(&robot, "1.0.0", None).await.assert(201);
    // Nor is what it shows looked at.
    for version in 1..9 {
        let version = format!("1.0.{version}");
        world
            .publish(&robot, &version, Some("000000"))
            .await
            .assert(201);
    }
    let email = json!({ "email": "robot@example.com" });
    assert_challenged(change(&world.registry, &robot, &email, None).await);
    let code = world.fresh_code();
    change(&world.registry, &robot, &email, Some(&code))
        .await
        .assert(200);
}

#[tokio::test]
pub(crate) async fn a_password_alone_is_not_enough() {
    let world = World::start("auth-only").await;
    world.publish(&world.alice, "1.0.0", None).await.assert(201);
    let get = async |path: &str, pass: Option<&str>| {
        let request = world.registry.request(Method::GET, path);
        let request = request.basic_auth("alice", Some("password"));
        world.registry.send(with_pass(request, pass)).await
    };
    let refused = get("/-/whoami", None).await.assert(401);
    assert!(refused.error().contains("second factor"), "{refused:?}");
    let read = get("/mine", None).await.assert(200);
    assert!(read.header("npm-notice").unwrap().contains("second factor"));
    let code = world.fresh_code();
    for _ in 0..2 {
        get("/-/whoami", Some(&code)).await.assert(200);
    }
    // Guesses end in a wait, which reads are not told of.
    for _ in 0..6 {
        get("/mine", Some("000000")).await.assert(200);
    }
    let throttled = get("/-/whoami", Some("000000")).await.assert(401);
    assert!(throttled.error().contains("too many"), "{throttled:?}");
    let code = world.fresh_code();
    get("/-/whoami", Some(&code)).await.assert(200);
}

#[tokio::test]
pub(crate) async fn a_change_of_the_account_wants_it_in_both_modes() {
    for mode in ["auth-only", "auth-and-writes"] {
        let world = World::start(mode).await;
        let password = json!({ "password": { "old": "password", "new": "another" } });
        assert_challenged(world.change(&password, None).await);
        let token = json!({ "password": "password" });
        let path = "/-/npm/v1/tokens";
        let registry = &world.registry;
        let made = registry.send_json(Some(&world.alice), Method::POST, path, &token);
        assert_challenged(made.await);
        let revoked = format!("{path}/token/{}", world.alice.token);
        assert_challenged(registry.delete(&world.alice, &revoked).await);
        registry.get_as(&world.alice, path).await.assert(200);
        let code = world.fresh_code();
        world.change(&password, Some(&code)).await.assert(200);
    }
}

#[tokio::test]
pub(crate) async fn the_first_code_cannot_be_guessed() {
    let clock = clock();
    let registry = Registry::at(&clock, &[]).await;
    let alice = registry.user("alice").await;
    let wish = json!({ "tfa": { "password": "password", "mode": "auth-only" } });
    let device = device(&change(&registry, &alice, &wish, None).await.assert(200));
    let confirm = async |code: &str| {
        let wish = json!({ "tfa": [code] });
        change(&registry, &alice, &wish, None).await
    };
    let right = code_at(&device, &clock);
    let wrong = if right == "000000" {
        "000001"
    } else {
        "000000"
    };
    for _ in 0..4 {
        confirm(wrong).await.assert(400);
    }
    confirm(&right).await.assert(429);
    clock.advance(Duration::from_secs(60));
    confirm(&code_at(&device, &clock)).await.assert(200);
}

#[tokio::test]
pub(crate) async fn seeds_without_their_key_stop_the_start() {
    let world = World::with("auth-only", &[("RUSTACCIO_SIGNING", "off")]).await;
    let folder = world.registry.stop().await;
    let data = folder.path().join("data");
    std::fs::remove_file(data.join("secret.key")).unwrap();
    let off = [("RUSTACCIO_SIGNING", "off")];
    let output = Process::command(&data, &off).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("secret.key"),
        "{text}"
    );
    assert!(!data.join("secret.key").exists());
}
