//! Limits in Redis and Postgres: for all nodes together, and what happens when those fail.

use std::{future::Future, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{PER_WINDOW, QUOTA, RATE, TRUST};
use crate::support::{
    Answer, Registry, postgres,
    process::Process,
    redis,
    registry::{Start, client},
    server::Server,
    tls::Authority,
};

const REDIS_URL: &str = "RUSTACCIO_RATE_LIMIT_REDIS_URL";
const RATE_FAIL_OPEN: &str = "RUSTACCIO_RATE_LIMIT_FAIL_OPEN";
const POSTGRES_URL: &str = "RUSTACCIO_QUOTA_POSTGRES_URL";
const QUOTA_FAIL_OPEN: &str = "RUSTACCIO_QUOTA_FAIL_OPEN";
const PER_DAY: &str = "RUSTACCIO_QUOTA_REQUESTS_PER_DAY";
/// Longer than anything may take here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

type Settings = Vec<(&'static str, String)>;

fn rate_limit(url: &str, requests: u64, fail_open: bool) -> Settings {
    vec![
        (RATE, "redis".to_owned()),
        (REDIS_URL, url.to_owned()),
        (PER_WINDOW, requests.to_string()),
        ("RUSTACCIO_RATE_LIMIT_WINDOW_SECS", "86400".to_owned()),
        (RATE_FAIL_OPEN, fail_open.to_string()),
        (TRUST, "true".to_owned()),
    ]
}

fn quota(url: &str, requests: u64, fail_open: bool) -> Settings {
    vec![
        (QUOTA, "postgres".to_owned()),
        (POSTGRES_URL, url.to_owned()),
        (PER_DAY, requests.to_string()),
        (QUOTA_FAIL_OPEN, fail_open.to_string()),
        (TRUST, "true".to_owned()),
    ]
}

async fn node(settings: &Settings) -> Registry {
    Registry::with(Start {
        variables: settings.clone(),
        ..Start::default()
    })
    .await
}

/// Nobody else's name.
fn tenant() -> String {
    format!("it-{}", uuid::Uuid::new_v4().simple())
}

/// What a request for `tenant` comes to, in time.
async fn ask(node: &Registry, tenant: &str) -> Answer {
    let request = node.request(Method::GET, "/app").header("x-org-id", tenant);
    let answer = tokio::time::timeout(PATIENCE, node.send(request));
    answer.await.expect("an answer in time")
}

async fn status(node: &Registry, tenant: &str) -> u16 {
    ask(node, tenant).await.status.as_u16()
}

/// Asks until the answer is `wanted`.
async fn becomes(node: &Registry, tenant: &str, wanted: u16) {
    let waiting = async {
        while status(node, tenant).await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(done.is_ok(), "it never becomes {wanted}");
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// However many ask two nodes at once, `limit` are let through.
async fn holds_across_nodes(settings: &Settings, limit: usize) {
    let (one, other) = tokio::join!(node(settings), node(settings));
    let tenant = tenant();
    let asked = (0..limit * 3).map(|number| {
        let node = if number % 2 == 0 { &one } else { &other };
        status(node, &tenant)
    });
    let statuses = join_all(asked).await;
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(404), count(429)), (limit, limit * 2), "{statuses:?}");
    // And a node that is started later knows of it.
    let late = node(settings).await;
    assert_eq!(status(&late, &tenant).await, 429);
    assert_eq!(status(&late, &self::tenant()).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_in_redis_is_one_for_all_nodes() {
    holds_across_nodes(&rate_limit(&redis::url(), 20, false), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_in_postgres_is_one_for_all_nodes() {
    holds_across_nodes(&quota(&postgres::schema().await, 20, false), 20).await;
}

/// What happens to a server, and its end.
type Blow = (fn(&Server), fn(&Server));

/// A backend that is frozen or killed keeps nobody waiting for long, lets through whom it shall,
/// and counts again when it is back, by itself.
async fn fails_as_it_shall(
    start: fn() -> Server,
    settings: fn(&str, u64, bool) -> Settings,
    refusal: (&str, &str),
) {
    let server = std::sync::Arc::new(blocking(start).await);
    let url = server.url.clone();
    let (open, closed) = tokio::join!(async { node(&settings(&url, 2, true)).await }, async {
        node(&settings(&url, 2, false)).await
    },);
    let with = async |change: fn(&Server)| {
        let server = std::sync::Arc::clone(&server);
        blocking(move || change(&server)).await;
    };
    let used_up = tenant();
    assert_eq!(status(&open, &used_up).await, 404);
    assert_eq!(status(&closed, &used_up).await, 404);
    assert_eq!(status(&open, &used_up).await, 429);
    assert_eq!(status(&closed, &used_up).await, 429);
    let blows: [Blow; 2] = [
        (
            |server| server.signal("STOP"),
            |server| server.signal("CONT"),
        ),
        (Server::pause, Server::resume),
    ];
    for (strike, heal) in blows {
        with(strike).await;
        let many = || (0..8).map(|_| tenant()).collect::<Vec<_>>();
        let (let_through, refused) = (many(), many());
        let let_through = join_all(let_through.iter().map(|tenant| ask(&open, tenant))).await;
        let refused = join_all(refused.iter().map(|tenant| ask(&closed, tenant))).await;
        for answer in let_through {
            answer.assert(404);
        }
        for answer in refused {
            let body = json!({ "error": refusal.0, "code": refusal.1 });
            assert_eq!(answer.assert(502).json(), body);
        }
        // Nobody depends on it for this.
        let ping = tokio::time::timeout(PATIENCE, closed.get("/-/ping"));
        ping.await.unwrap().assert(200);
        with(heal).await;
        for node in [&open, &closed] {
            let fresh = tenant();
            becomes(node, &fresh, 429).await;
        }
        assert_eq!(status(&open, &tenant()).await, 404);
        assert_eq!(status(&closed, &tenant()).await, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_fail() {
    let refusal = (
        "rate limiter backend unavailable",
        "RATE_LIMIT_BACKEND_UNAVAILABLE",
    );
    fails_as_it_shall(redis::server, rate_limit, refusal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_fail() {
    let refusal = ("quota backend unavailable", "QUOTA_BACKEND_UNAVAILABLE");
    fails_as_it_shall(postgres::server, quota, refusal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_in_postgres_outlive_it() {
    let server = std::sync::Arc::new(blocking(postgres::server).await);
    let node = node(&quota(&server.url, 1, false)).await;
    let tenant = tenant();
    assert_eq!(status(&node, &tenant).await, 404);
    let restarted = std::sync::Arc::clone(&server);
    blocking(move || {
        restarted.pause();
        restarted.resume();
    })
    .await;
    becomes(&node, &self::tenant(), 404).await;
    assert_eq!(status(&node, &tenant).await, 429);
}

/// A registry starts without the database where it may go on without it, and makes its tables later.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_database() {
    let server = std::sync::Arc::new(blocking(postgres::server).await);
    let change = async |change: fn(&Server)| {
        let server = std::sync::Arc::clone(&server);
        blocking(move || change(&server)).await;
    };
    change(Server::pause).await;
    let open = node(&quota(&server.url, 1, true)).await;
    assert_eq!(status(&open, &tenant()).await, 404);
    let refused = start_fails(quota(&server.url, 1, false)).await;
    assert!(refused.contains("quota backend unavailable"), "{refused}");
    change(Server::resume).await;
    becomes(&open, &tenant(), 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_over_tls_is_trusted_as_the_system_trusts() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = redis::Secure::start(&authority);
    for (authority, statuses) in [(&authority, [404, 429]), (&stranger, [502, 502])] {
        let roots = authority.file().display().to_string();
        let settings = rate_limit(&server.url, 1, false);
        let mut pairs: Vec<_> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
        pairs.push(("SSL_CERT_FILE", &roots));
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(folder.path(), &pairs);
        let url = format!("{}/app", process.url);
        for status in statuses {
            let answer = client().get(&url).send().await.unwrap();
            assert_eq!(answer.status(), status);
        }
    }
}

/// Why a process does not start with these settings.
fn start_fails(settings: Settings) -> impl Future<Output = String> {
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let pairs: Vec<_> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
        let mut command = Process::command(folder.path(), &pairs);
        let done = command.output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_cannot_be_read_are_refused_without_being_told() {
    for (settings, variable) in [
        (rate_limit("s3cret://host", 1, true), REDIS_URL),
        (
            quota("postgres://u:s3cret@host:port/", 1, true),
            POSTGRES_URL,
        ),
    ] {
        let said = start_fails(settings).await;
        assert!(
            said.contains(variable) && !said.contains("s3cret"),
            "{said}"
        );
    }
    let missing = vec![(RATE, "redis".to_owned()), (QUOTA, "postgres".to_owned())];
    let said = start_fails(missing).await;
    for part in [RATE, REDIS_URL, QUOTA, POSTGRES_URL] {
        assert!(said.contains(part), "{said}");
    }
}
