//! The trail of audit: a line for each attempt to change something, whatever comes of it.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::join_all;
use reqwest::Method;
use rustaccio::{
    config::{AuditLogConfig, Config, Env, EventsConfig, Sources},
    events::{Event, Events, EventsOptions},
    lifecycle::{Lifecycle, SystemClock},
    models::Caller,
    runtime::build_state,
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Package, Registry};

const ROUTES: &str = include_str!("../../src/web/mod.rs");

/// Those that only ask, or begin what another ends.
const ASK: [&str; 6] = [
    "/-/npm/v1/security/advisories/bulk",
    "/-/npm/v1/security/audits/quick",
    "/-/npm/v1/security/audits",
    "/-/v1/login",
    "/-/v1/done/{text}",
    "/-/web/theme",
];

async fn recording(more: &[(&str, &str)]) -> (TempDir, PathBuf, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let text = path.display().to_string();
    let variables = [
        ("RUSTACCIO_AUDIT_LOG_FILE", &*text),
        ("RUSTACCIO_ADMIN_USERS", "ada"),
    ];
    let registry = Registry::start(&[&variables, more].concat()).await;
    (folder, path, registry)
}

#[track_caller]
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(line).collect()
}

/// All routes that take more than reading, and those of administrators.
fn changing_routes() -> Vec<(Method, String)> {
    let mut routes = Vec::new();
    for line in ROUTES.lines() {
        let Some(rest) = line.trim().strip_prefix(".route(\"") else {
            continue;
        };
        let (route, handlers) = rest.split_once("\", ").unwrap();
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let takes = handlers.contains(&format!("{}(", method.to_ascii_lowercase()));
            let takes = takes || (handlers.starts_with("any(") && method == "POST");
            let changes = method != "GET" || route.starts_with("/-/admin/");
            if takes && changes && !handlers.contains("not_found") {
                routes.push((method.parse().unwrap(), route.to_owned()));
            }
        }
    }
    routes
}

/// A new route cannot be forgotten: it is found in the table of routes, and asked.
#[tokio::test]
async fn every_route_that_may_change_something_leaves_a_line() {
    let (_folder, path, registry) = recording(&[]).await;
    let routes = changing_routes();
    assert!(routes.len() > 35, "{routes:?}");
    for (at, (method, route)) in routes.iter().enumerate() {
        let filled: Vec<String> = route
            .split('/')
            .map(|segment| match segment {
                "{file}" => "tools-1.0.0.tgz".to_owned(),
                "{text}" if route.starts_with("/-/user/{text}") => {
                    "org.couchdb.user:eve".to_owned()
                }
                segment => segment.trim_matches(['{', '}']).to_owned(),
            })
            .collect();
        let request = registry
            .request(method.clone(), &filled.join("/"))
            .header("x-request-id", format!("request-{at}"));
        let status = registry.send(request).await.status;
        let lines = lines(&path);
        let mut own = lines
            .iter()
            .filter(|line| line["request_id"] == format!("request-{at}"));
        let line = own.next();
        if ASK.contains(&&**route) {
            assert!(line.is_none(), "{method} {route} only asks");
            continue;
        }
        let line = line.unwrap_or_else(|| panic!("{method} {route} left no line: {status}"));
        assert_eq!(line["status"], status.as_u16(), "{line}");
        assert_eq!(line["address"], "127.0.0.1");
        assert!(!line["action"].as_str().unwrap().contains(' '), "{line}");
        assert!(own.next().is_none(), "{method} {route} left two lines");
    }
}

#[tokio::test]
async fn a_line_says_who_did_what_from_where_and_what_came_of_it() {
    let (_folder, path, registry) = recording(&[]).await;
    let ada = registry.user("ada").await;
    let package = Package::new("@acme/tools", "1.0.0");
    registry.publish(&ada, &package).await.assert(201);
    // It is there as soon as the answer is.
    let published = lines(&path).pop().unwrap();
    assert_eq!(published["action"], "package.put");
    assert_eq!(published["outcome"], "ok");
    assert_eq!(published["user"], "ada");
    assert_eq!(published["token"], ada.token[..8]);
    assert_eq!(published["package"], "@acme/tools");
    assert_eq!(published["version"], "1.0.0");
    assert_eq!(published["path"], "/@acme%2Ftools");
    assert_eq!(published["events"][0]["type"], "package.published");
    assert_eq!(
        published["events"][0]["attributes"]["tags"],
        json!(["latest"])
    );
    registry.publish(&ada, &package).await.assert(409);
    let failed = lines(&path).pop().unwrap();
    assert_eq!(
        (&failed["outcome"], &failed["code"]),
        (&json!("failed"), &json!("STORAGE_CONFLICT"))
    );
    assert_eq!(failed["events"], json!([]));
    registry
        .send_json(None, Method::PUT, "/@acme%2ftools", &json!({}))
        .await
        .assert(401);
    let denied = lines(&path).pop().unwrap();
    assert_eq!(
        (&denied["outcome"], &denied["user"]),
        (&json!("denied"), &Value::Null)
    );
    assert_eq!(denied["package"], "@acme/tools");
    let reason = denied["reason"].as_str().unwrap();
    assert!(reason.contains("authorization required"), "{reason}");
    registry.sign_in("ada", "wrong").await.assert(401);
    let login = lines(&path).pop().unwrap();
    assert_eq!(
        (&login["action"], &login["user"]),
        (&json!("user.sign_in"), &json!("ada"))
    );
    assert_eq!(login["events"][0]["type"], "auth.login.failed");
    // Reading leaves none, but a password that is wrong does.
    let before = lines(&path).len();
    registry.get_as(&ada, "/@acme%2ftools").await.assert(200);
    assert_eq!(lines(&path).len(), before);
    let guess = registry.request(Method::GET, "/-/whoami");
    let guess = guess.basic_auth("ada", Some("a guess"));
    registry.send(guess).await.assert(401);
    registry.stop().await;
    let guess = lines(&path).pop().unwrap();
    assert_eq!(guess["events"][0]["type"], "auth.login.failed");
}

#[tokio::test]
async fn administrators_leave_lines_by_reading_too() {
    let (_folder, path, registry) = recording(&[]).await;
    let ada = registry.user("ada").await;
    let health = "/-/admin/storage-health";
    registry.get_as(&ada, health).await.assert(200);
    registry
        .send_json(Some(&ada), Method::POST, "/-/admin/reindex", &json!({}))
        .await
        .assert(200);
    registry.stop().await;
    let lines = lines(&path);
    let of = |action: &str| -> Vec<&Value> {
        lines
            .iter()
            .filter(|line| line["action"] == action)
            .collect()
    };
    assert_eq!(of("admin.storage_health.read")[0]["user"], "ada");
    // When it began, and what came of it.
    let reindexed = of("admin.reindex");
    assert_eq!(reindexed.len(), 2);
    let told = reindexed
        .iter()
        .flat_map(|line| line["events"].as_array().unwrap());
    let told: Vec<&Value> = told.collect();
    assert_eq!(told[0]["attributes"]["packagesAfter"], 0);
}

#[tokio::test]
async fn no_secret_gets_into_the_file() {
    let (_folder, path, registry) = recording(&[]).await;
    let ada = registry.user("ada").await;
    let wish = json!({ "password": "password", "cidr_whitelist": [], "readonly": false });
    let tokens = "/-/npm/v1/tokens";
    let made = registry
        .send_json(Some(&ada), Method::POST, tokens, &wish)
        .await;
    let made = made.assert(200).json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let revoke = format!("/-/npm/v1/tokens/token/{made}");
    registry.delete(&ada, &revoke).await.assert(200);
    let end = format!("/-/user/token/{}", ada.token);
    registry.delete(&ada, &end).await.assert(200);
    registry.stop().await;
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in [&*made, &*ada.token, "\"password\":"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.contains("/-/user/token/***"), "{text}");
}

#[tokio::test]
async fn lines_of_many_at_once_are_whole_and_private() {
    let (_folder, path, registry) = recording(&[]).await;
    let ada = registry.user("ada").await;
    let publishes = (0..40).map(|at| {
        let package = Package::new(&format!("tools-{at}"), "1.0.0");
        let (registry, ada) = (&registry, &ada);
        async move { registry.publish(ada, &package).await.assert(201) }
    });
    join_all(publishes).await;
    let mut packages = BTreeMap::new();
    for line in lines(&path) {
        *packages.entry(line["package"].to_string()).or_insert(0) += 1;
    }
    packages.remove("null");
    assert_eq!(packages.len(), 40);
    assert!(packages.values().all(|count| *count == 1));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_restart_goes_on_after_a_torn_line() {
    let (folder, path, registry) = recording(&[]).await;
    registry.user("ada").await;
    let data = registry.stop().await;
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"time\":\"2026")).unwrap();
    let text = path.display().to_string();
    let registry = Registry::with(crate::support::registry::Start {
        variables: vec![("RUSTACCIO_AUDIT_LOG_FILE", text)],
        folder: Some(data),
        ..Default::default()
    })
    .await;
    registry.user("ada").await;
    registry.stop().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let torn: Vec<&str> = text.lines().collect();
    assert_eq!(torn.len(), 3);
    assert_eq!(torn[1], "{\"time\":\"2026");
    assert!(serde_json::from_str::<Value>(torn[2]).is_ok());
    drop(folder);
}

#[tokio::test]
async fn full_files_are_put_aside_and_moved_ones_are_followed() {
    let more = [
        ("RUSTACCIO_AUDIT_LOG_MAX_SIZE", "1kb"),
        ("RUSTACCIO_AUDIT_LOG_MAX_FILES", "2"),
    ];
    let (folder, path, registry) = recording(&more).await;
    for _ in 0..12 {
        registry.user("ada").await;
    }
    let files = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    assert_eq!(files().len(), 3, "{:?}", files());
    for file in files() {
        assert!(std::fs::metadata(&file).unwrap().len() <= 1024);
        assert!(!lines(&file).is_empty());
    }
    let moved = folder.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    registry.user("ada").await;
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test]
async fn a_full_disk_stops_nobody_and_is_told_of_afterwards() {
    // Every write to it fails for want of space.
    let full = [("RUSTACCIO_AUDIT_LOG_FILE", "/dev/full")];
    let registry = Registry::start(&full).await;
    let ada = registry.user("ada").await;
    let package = Package::new("tools", "1.0.0");
    registry.publish(&ada, &package).await.assert(201);

    // The same with a file that cannot be there for a while.
    let (folder, path, registry) = recording(&[]).await;
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    std::fs::create_dir(&path).unwrap();
    registry.user("ada").await;
    registry.user("ada").await;
    std::fs::remove_dir(&path).unwrap();
    registry.user("ada").await;
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["action"], "audit.lines_lost");
    assert_eq!(lines[0]["lines_lost"], 2);
}

#[tokio::test]
async fn lines_that_are_lost_are_counted() {
    let (metrics, lifecycle) = (Metrics::counting(), Lifecycle::new());
    let trail = AuditLogConfig {
        file: Some("/dev/full".into()),
        ..AuditLogConfig::default()
    };
    let events = EventsConfig::default();
    let opened = Events::open(EventsOptions {
        events: &events,
        audit_log: &trail,
        clock: Arc::new(SystemClock),
        metrics: metrics.clone(),
        lifecycle: lifecycle.clone(),
    });
    let events = opened.await.unwrap();
    for _ in 0..3 {
        events.tell(&Caller::default(), None, &Event::StorageHealthRead {});
    }
    assert!(lifecycle.drain(std::time::Duration::from_secs(30)).await);
    let text = metrics.to_text();
    let lost = "rustaccio_audit_lines_total{outcome=\"dropped\"} 3";
    assert!(text.lines().any(|line| line == lost), "{text}");
}

#[tokio::test]
async fn what_limits_refuse_has_one_line_together() {
    let more = [
        ("RUSTACCIO_RATE_LIMIT_BACKEND", "memory"),
        ("RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW", "2"),
        ("RUSTACCIO_RATE_LIMIT_WINDOW_SECS", "3600"),
    ];
    let (_folder, path, registry) = recording(&more).await;
    let put = async || {
        let body = json!({});
        let sent = registry.send_json(None, Method::PUT, "/tools", &body);
        sent.await.status.as_u16()
    };
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(put().await);
    }
    assert_eq!(statuses, [401, 401, 429, 429, 429, 429]);
    // Nor do guesses beyond the limit leave any.
    let guess = |user: &str| {
        let request = registry.request(Method::GET, "/tools");
        registry.send(request.basic_auth(user, Some("a guess")))
    };
    for is_limited in [false, false, true, true] {
        assert_eq!(guess("bob").await.status == 429, is_limited);
    }
    registry.user("ada").await;
    let told: Vec<_> = lines(&path)
        .into_iter()
        .map(|line| (line["action"].clone(), line["status"].clone()))
        .collect();
    let line = |action: &str, status: Value| (json!(action), status);
    let denied = line("package.put", json!(401));
    let failed = line("auth.login.failed", Value::Null);
    let limited = line("request.limited", json!(429));
    let signed_in = line("user.sign_in", json!(201));
    assert_eq!(
        told,
        [&denied, &denied, &limited, &failed, &failed, &signed_in].map(Clone::clone)
    );
    assert_eq!(lines(&path)[2]["requests"], 4);
    // Those after the last line are told of at the end.
    assert_eq!(put().await, 429);
    registry.stop().await;
    let last = lines(&path).pop().unwrap();
    assert_eq!(last["action"], "request.limited");
    assert_eq!(last["requests"], 1);
}

#[tokio::test]
async fn logins_that_are_not_looked_at_leave_no_lines() {
    let (_folder, path, registry) = recording(&[]).await;
    registry.user("ada").await;
    let before = lines(&path).len();
    // Nobody is called nothing: no password is looked at, and `ping` has no limit.
    for _ in 0..20 {
        let guess = registry.request(Method::GET, "/-/ping");
        let guess = guess.basic_auth("", Some("x"));
        registry.send(guess).await.assert(200);
    }
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(registry.sign_in("ada", "wrong").await.status.as_u16());
    }
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    let throttled = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(looked_at + throttled, 12);
    assert!(throttled > 0, "{statuses:?}");
    registry.stop().await;
    let lines = lines(&path);
    let failed = lines[before..]
        .iter()
        .filter(|line| line["events"][0]["type"] == "auth.login.failed");
    let (signing_in, with_others): (Vec<_>, Vec<_>) =
        failed.partition(|line| line["action"] == "user.sign_in");
    assert_eq!(signing_in.len(), looked_at);
    // Some are free, and then one in a growing while.
    assert!((4..10).contains(&with_others.len()), "{with_others:?}");
    let limited: u64 = lines
        .iter()
        .filter_map(|line| line["requests"].as_u64())
        .sum();
    assert_eq!(usize::try_from(limited).unwrap(), throttled);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let file = folder.path().join("missing/audit.log");
    let env: Env = [
        ("RUSTACCIO_DATA_DIR", &*data),
        ("RUSTACCIO_UPSTREAM", "none"),
        ("RUSTACCIO_AUDIT_LOG_FILE", file.to_str().unwrap()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    let error = Box::pin(build_state(&config, None)).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("RUSTACCIO_AUDIT_LOG_FILE"), "{error}");
    assert!(error.contains("missing/audit.log"), "{error}");
}
