//! Nodes that take turns at writing: what a backend that fails means, and that nothing else rests
//! on the turns.

use std::{
    collections::BTreeSet,
    future::Future,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Answer, Package, Registry, User,
    bucket::{Bucket, s3_at, s3_endpoint},
    process::Process,
    publish_body,
    redis::{Secure, prefix, say, server, url},
    registry::with_json,
    tls::Authority,
    wire::{Line, Wire},
};

const BACKEND: &str = "RUSTACCIO_STATE_COORDINATION_BACKEND";
const REDIS_URL: &str = "RUSTACCIO_STATE_COORDINATION_REDIS_URL";
const LOCK_KEY: &str = "RUSTACCIO_STATE_COORDINATION_LOCK_KEY";
const FAIL_OPEN: (&str, &str) = ("RUSTACCIO_STATE_COORDINATION_FAIL_OPEN", "true");
const FAIL_CLOSED: (&str, &str) = ("RUSTACCIO_STATE_COORDINATION_FAIL_OPEN", "false");
const IMPATIENT: (&str, &str) = ("RUSTACCIO_STATE_COORDINATION_ACQUIRE_TIMEOUT_MS", "1000");
const SHORT: (&str, &str) = ("RUSTACCIO_STATE_COORDINATION_LEASE_MS", "1000");

/// What a request comes to, and that it does not take long.
async fn in_time(request: impl Future<Output = Answer>) -> Answer {
    let answer = tokio::time::timeout(Duration::from_secs(20), request).await;
    answer.expect("an answer in time")
}

async fn versions(node: &Registry) -> BTreeSet<String> {
    let document = node.get("/app").await.assert(200).json();
    let versions = document["versions"].as_object().unwrap();
    versions.keys().cloned().collect()
}

#[tokio::test]
async fn a_backend_that_is_gone_is_put_up_with_or_not() {
    // Nobody is there.
    let redis = vec![(BACKEND, "redis"), (REDIS_URL, "redis://127.0.0.1:9/")];
    let s3 = vec![
        (BACKEND, "s3"),
        (
            "RUSTACCIO_STATE_COORDINATION_S3_ENDPOINT",
            "http://127.0.0.1:9",
        ),
        ("RUSTACCIO_STATE_COORDINATION_S3_BUCKET", "none"),
        ("RUSTACCIO_STATE_COORDINATION_S3_ACCESS_KEY_ID", "id"),
        ("RUSTACCIO_STATE_COORDINATION_S3_SECRET_ACCESS_KEY", "key"),
    ];
    let package = Package::new("app", "1.0.0");
    for mut gone in [redis, s3] {
        let registry = Registry::start(&gone).await;
        let alice = registry.user("alice").await;
        let refused = in_time(registry.publish(&alice, &package))
            .await
            .assert(502);
        assert_eq!(refused.error(), "state coordination backend unavailable");
        registry.get("/app").await.assert(404);

        gone.push(FAIL_OPEN);
        let registry = Registry::start(&gone).await;
        let alice = registry.user("alice").await;
        in_time(registry.publish(&alice, &package))
            .await
            .assert(201);
        registry.get("/app").await.assert(200);
    }
}

#[tokio::test]
async fn a_writer_waits_for_his_turn_in_redis() {
    let (url, prefix) = (url(), prefix());
    let settings = [
        (BACKEND, "redis"),
        (REDIS_URL, &url),
        (LOCK_KEY, &prefix),
        IMPATIENT,
    ];
    let registry = Registry::start(&settings).await;
    let alice = registry.user("alice").await;
    let key = format!("{prefix}:package:_s_app");
    let package = Package::new("@s/app", "1.0.0");
    assert_eq!(say(&url, &format!("SET {key} other PX 600000")), "+OK");
    let refused = registry.publish(&alice, &package).await.assert(503);
    assert_eq!(refused.error(), "state coordination lock timeout");
    assert_eq!(say(&url, &format!("DEL {key}")), ":1");
    registry.publish(&alice, &package).await.assert(201);
    // Given up, not left to run out.
    let _ = registry.stop().await;
    assert_eq!(say(&url, &format!("EXISTS {key}")), ":0");
    assert_eq!(say(&url, &format!("EXISTS {key}:fence")), ":1");
}

#[tokio::test]
async fn a_writer_waits_for_his_turn_in_a_bucket() {
    let bucket = Bucket::s3().await;
    let others = json!({ "token": "other", "lease_until_ms": i64::MAX, "operation": "held" });
    let admin = ("RUSTACCIO_ADMIN_USERS", "alice");
    let node = bucket.node_with(&[(BACKEND, "s3"), IMPATIENT, admin]).await;
    let alice = node.user("alice").await;
    node.user("bob").await;
    let package = Package::new("@s/app", "1.0.0");
    let publish = async || node.publish(&alice, &package).await;
    let join = async |user: &str| {
        let body = json!({ "user": user });
        node.put(&alice, "/-/org/acme/user", &body).await
    };
    // Without settings of its own it is the bucket of packages, where no package can be.
    let package_lock = ".rustaccio/leases/package:_s_app.lock";
    bucket.put(package_lock, others.to_string()).await;
    let refused = publish().await.assert(503);
    assert_eq!(refused.error(), "state coordination lock timeout");
    // Accounts have a turn of their own.
    join("alice").await.assert(200);
    bucket.delete(package_lock).await;
    publish().await.assert(201);
    let state_lock = ".rustaccio/leases/state.lock";
    bucket.delete(state_lock).await;
    bucket.put(state_lock, others.to_string()).await;
    let refused = join("bob").await.assert(503);
    assert_eq!(refused.error(), "state coordination lock timeout");
    // Whoever does not touch what all have in common does not wait.
    node.user("carol").await;
    bucket.delete(state_lock).await;
    join("bob").await.assert(200);

    let _ = node.stop().await;
    for lock in [package_lock, state_lock] {
        let held: Value = serde_json::from_slice(&bucket.read(lock).await.unwrap()).unwrap();
        assert_eq!(held["operation"], "released", "{lock}");
    }
    let names = bucket.names().await;
    let mut locks = names.iter().filter(|name| name.contains(".lock"));
    assert!(locks.all(|name| name.starts_with(".rustaccio/leases/")));
}

#[tokio::test]
async fn leases_may_have_a_place_of_their_own() {
    let place = Bucket::s3().await;
    let setting = |name: &str| {
        let mut settings = place.variables.iter();
        settings
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
            .clone()
    };
    let (endpoint, name) = (
        setting("RUSTACCIO_S3_ENDPOINT"),
        setting("RUSTACCIO_S3_BUCKET"),
    );
    let (id, key) = (
        setting("RUSTACCIO_S3_ACCESS_KEY_ID"),
        setting("RUSTACCIO_S3_SECRET_ACCESS_KEY"),
    );
    let prefix = setting("RUSTACCIO_S3_PREFIX");
    // Packages are on this disk.
    let registry = Registry::start(&[
        (BACKEND, "s3"),
        ("RUSTACCIO_STATE_COORDINATION_S3_ENDPOINT", &endpoint),
        ("RUSTACCIO_STATE_COORDINATION_S3_BUCKET", &name),
        ("RUSTACCIO_STATE_COORDINATION_S3_ACCESS_KEY_ID", &id),
        ("RUSTACCIO_STATE_COORDINATION_S3_SECRET_ACCESS_KEY", &key),
        ("RUSTACCIO_STATE_COORDINATION_S3_PREFIX", &prefix),
        ("RUSTACCIO_STATE_COORDINATION_S3_FORCE_PATH_STYLE", "true"),
    ])
    .await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let _ = registry.stop().await;
    assert_eq!(place.names().await, ["package:app.lock"]);
}

/// Eight writers on two nodes, each of whom publishes until `is_over` has been said and one publish
/// more, in this `round`. The statuses, and the versions that were acknowledged.
async fn keep_publishing(
    nodes: &[Registry; 2],
    alice: &User,
    round: usize,
    is_over: &tokio_util::sync::CancellationToken,
) -> (BTreeSet<StatusCode>, BTreeSet<String>) {
    let writers = (1..=8).map(|writer: usize| async move {
        let (mut statuses, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
        let mut was_over = false;
        for number in 0.. {
            if was_over {
                break;
            }
            was_over = is_over.is_cancelled();
            let version = format!("{writer}.{number}.{round}");
            let package = Package::new("app", &version);
            let answer = in_time(nodes[writer % 2].publish(alice, &package)).await;
            if answer.status == StatusCode::CREATED {
                acknowledged.insert(version);
            }
            statuses.insert(answer.status);
        }
        (statuses, acknowledged)
    });
    let all = futures_util::future::join_all(writers).await;
    let (statuses, acknowledged): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let statuses = statuses.into_iter().flatten().collect();
    (statuses, acknowledged.into_iter().flatten().collect())
}

/// Strikes at what keeps the leases while one is held, and heals it once writers have noticed.
async fn strike(
    is_held: impl AsyncFn() -> bool,
    strike: impl FnOnce(),
    heal: impl FnOnce(),
    is_over: &tokio_util::sync::CancellationToken,
) {
    let begun = Instant::now();
    while !is_held().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody holds it");
        tokio::task::yield_now().await;
    }
    strike();
    // Longer than a lease: it runs out meanwhile.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    heal();
    is_over.cancel();
}

/// It goes on by itself.
async fn goes_on(nodes: &[Registry; 2], alice: &User) {
    for (number, node) in nodes.iter().enumerate() {
        let package = Package::new("app", &format!("100.{number}.0"));
        in_time(node.publish(alice, &package)).await.assert(201);
    }
}

fn check(
    statuses: &BTreeSet<StatusCode>,
    fails: (&'static str, &'static str),
    acknowledged: &BTreeSet<String>,
    stored: &BTreeSet<String>,
) {
    // A turn that did not come in time, or nobody who could give one.
    let closed = [
        StatusCode::CREATED,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let allowed = if fails == FAIL_OPEN {
        &closed[..1]
    } else {
        &closed
    };
    let is_odd = statuses.iter().any(|status| !allowed.contains(status));
    assert!(!is_odd, "{fails:?}: {statuses:?}");
    assert!(acknowledged.is_subset(stored), "{fails:?}: lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_frozen_or_killed_in_mid_lease_costs_no_write() {
    let server = server();
    for fails in [FAIL_CLOSED, FAIL_OPEN] {
        let bucket = Bucket::s3().await;
        let prefix = prefix();
        let settings = [
            (BACKEND, "redis"),
            (REDIS_URL, server.url.as_str()),
            (LOCK_KEY, prefix.as_str()),
            SHORT,
            fails,
        ];
        let nodes = [
            bucket.node_with(&settings).await,
            bucket.node_with(&settings).await,
        ];
        let alice = nodes[0].user("alice").await;
        let exists = format!("EXISTS {prefix}:package:app");
        let mut acknowledged = BTreeSet::new();
        for is_killed in [false, true] {
            let is_over = tokio_util::sync::CancellationToken::new();
            let blow = strike(
                async || say(&server.url, &exists) == ":1",
                || {
                    if is_killed {
                        server.pause();
                    } else {
                        server.signal("STOP");
                    }
                },
                || {
                    if is_killed {
                        server.resume();
                    } else {
                        server.signal("CONT");
                    }
                },
                &is_over,
            );
            let writers = keep_publishing(&nodes, &alice, usize::from(is_killed), &is_over);
            let ((statuses, done), ()) = tokio::join!(writers, blow);
            acknowledged.extend(done);
            check(&statuses, fails, &acknowledged, &versions(&nodes[1]).await);
            if is_killed {
                continue;
            }
            // Those who came too late were seen, or this has shown nothing.
            assert_eq!(statuses.len() > 1, fails == FAIL_CLOSED, "{statuses:?}");
        }
        goes_on(&nodes, &alice).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_leases_that_is_stuck_or_cut_in_mid_lease_costs_no_write() {
    for fails in [FAIL_CLOSED, FAIL_OPEN] {
        let bucket = Bucket::s3().await;
        // Only leases go this way.
        let line = Line::to(&s3_endpoint()).await;
        let leases = Bucket::of(s3_at(&line.url)).await;
        let prefix = leases.inside.prefix().to_owned();
        let settings = [
            (BACKEND, "s3"),
            (
                "RUSTACCIO_STATE_COORDINATION_S3_ENDPOINT",
                line.url.as_str(),
            ),
            ("RUSTACCIO_STATE_COORDINATION_S3_PREFIX", prefix.as_str()),
            SHORT,
            fails,
        ];
        let nodes = [
            bucket.node_with(&settings).await,
            bucket.node_with(&settings).await,
        ];
        let alice = nodes[0].user("alice").await;
        let mut acknowledged = BTreeSet::new();
        for (round, wire) in [Wire::Stuck, Wire::Cut].into_iter().enumerate() {
            let is_over = tokio_util::sync::CancellationToken::new();
            let is_held = async || {
                let lock = leases.read("package:app.lock").await;
                lock.is_some_and(|lock| lock.windows(6).any(|part| part == br#""held""#))
            };
            let (cut, whole) = (|| line.set(wire), || line.set(Wire::Whole));
            let blow = strike(is_held, cut, whole, &is_over);
            let writers = keep_publishing(&nodes, &alice, round, &is_over);
            let ((statuses, done), ()) = tokio::join!(writers, blow);
            acknowledged.extend(done);
            check(&statuses, fails, &acknowledged, &versions(&nodes[1]).await);
        }
        goes_on(&nodes, &alice).await;
    }
}

/// Conditional writes decide, whoever believes that it is his turn.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_hold_the_same_lease_lose_nothing() {
    let (url, bucket, prefix) = (url(), Bucket::s3().await, prefix());
    let settings = [
        (BACKEND, "redis"),
        (REDIS_URL, url.as_str()),
        (LOCK_KEY, prefix.as_str()),
    ];
    let nodes = [
        bucket.node_with(&settings).await,
        bucket.node_with(&settings).await,
    ];
    let alice = nodes[0].user("alice").await;
    let key = format!("{prefix}:package:app");
    let is_over = tokio_util::sync::CancellationToken::new();
    // As if each lease ran out at once: the next one takes it while its holder still works.
    let (ended, over) = (is_over.clone(), url.clone());
    let thief = tokio::task::spawn_blocking(move || {
        let mut stolen = 0;
        while stolen < 40 {
            if say(&over, &format!("DEL {key}")) == ":1" {
                stolen += 1;
            }
        }
        ended.cancel();
    });
    let (statuses, acknowledged) = keep_publishing(&nodes, &alice, 0, &is_over).await;
    thief.await.unwrap();
    assert_eq!(statuses, BTreeSet::from([StatusCode::CREATED]));
    for node in &nodes {
        assert_eq!(versions(node).await, acknowledged);
    }
    // Whoever took a lease away got a higher number, each time.
    let fence = say(&url, &format!("STRLEN {prefix}:package:app:fence"));
    assert_ne!(fence, ":0");
}

async fn publish_to(process: &Process) -> StatusCode {
    let client = Client::builder().no_proxy().build().unwrap();
    let send = async |method, path: &str, token: Option<&str>, body: &Value| {
        let request = with_json(
            client.request(method, format!("{}{path}", process.url)),
            body,
        );
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap()
    };
    let user = json!({ "name": "alice", "password": "password" });
    let path = "/-/user/org.couchdb.user:alice";
    let signed_in = send(Method::PUT, path, None, &user).await;
    let signed_in: Value = serde_json::from_slice(&signed_in.bytes().await.unwrap()).unwrap();
    let token = signed_in["token"].as_str().unwrap();
    let body = publish_body(&Package::new("app", "1.0.0"), "latest");
    send(Method::PUT, "/app", Some(token), &body).await.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_over_tls_is_trusted_as_the_system_trusts() {
    let authority = Authority::new();
    let server = Secure::start(&authority);
    let trusted = authority.file().display().to_string();
    let stranger = Authority::new();
    let other = stranger.file().display().to_string();
    for (roots, status) in [
        (trusted, StatusCode::CREATED),
        (other, StatusCode::BAD_GATEWAY),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            (BACKEND, "redis"),
            (REDIS_URL, server.url.as_str()),
            ("SSL_CERT_FILE", roots.as_str()),
        ];
        let process = Process::start(&folder.path().join("data"), &settings);
        assert_eq!(publish_to(&process).await, status);
    }
}

#[tokio::test]
async fn a_writer_looks_again_as_often_as_it_shall() {
    for (millis, expected) in [("10", 201), ("5000", 503)] {
        let (url, prefix) = (url(), prefix());
        let settings = [
            (BACKEND, "redis"),
            (REDIS_URL, &url),
            (LOCK_KEY, &prefix),
            ("RUSTACCIO_STATE_COORDINATION_ACQUIRE_TIMEOUT_MS", "2000"),
            ("RUSTACCIO_STATE_COORDINATION_POLL_INTERVAL_MS", millis),
        ];
        let registry = Registry::start(&settings).await;
        let alice = registry.user("alice").await;
        let key = format!("{prefix}:package:app");
        assert_eq!(say(&url, &format!("SET {key} other PX 500")), "+OK");
        // Whoever would look next after his time is up does not wait for it.
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(expected);
    }
}
