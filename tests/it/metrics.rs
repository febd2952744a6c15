//! What is counted, and who reads it.

mod services;
mod text;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use futures_util::FutureExt as _;
use regex::Regex;
use reqwest::{Method, header::CONTENT_TYPE};
use rustaccio::{
    app::build_router,
    config::{Config, Env, Sources},
    lifecycle::ManualClock,
    models::Timestamp,
    runtime::build_state,
};
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::{Package, Registry, Reply, Service, Upstream, User, registry::Start};
use text::Scrape;

const ON: (&str, &str) = ("RUSTACCIO_METRICS_BACKEND", "prometheus");
const OPEN: (&str, &str) = ("RUSTACCIO_METRICS_REQUIRE_ADMIN", "false");
const PATH: &str = "/-/metrics";

/// What has been counted until now.
async fn scrape(registry: &Registry) -> Scrape {
    let answer = registry.get(PATH).await.assert(200);
    Scrape::parse(std::str::from_utf8(&answer.body).unwrap())
}

/// A registry with an upstream that has `far`, and its clock.
async fn with_upstream() -> (Registry, Upstream, Arc<ManualClock>) {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("far", "1.0.0")]);
    upstream.fails("/broken", 500);
    let file = format!(
        "uplinks: {{default: {{url: '{}', max_fails: 1}}}}\n\
         packages: {{'**': {{access: $all, publish: $authenticated, proxy: default}}}}\n",
        upstream.url
    );
    let clock = ManualClock::at(Timestamp::from_unix_millis(1_800_000_000_000));
    let registry = Registry::with(Start {
        variables: [ON, OPEN]
            .map(|(name, value)| (name, value.to_owned()))
            .into(),
        file: &file,
        clock: Some(Arc::clone(&clock)),
        ..Start::default()
    })
    .await;
    (registry, upstream, clock)
}

#[tokio::test]
async fn what_happens_is_counted() {
    let (registry, upstream, clock) = with_upstream().await;
    let (near, far) = (
        Package::new("@s/near", "1.0.0"),
        Package::new("far", "1.0.0"),
    );
    let user = registry.user("alice").await;
    registry.publish(&user, &near).await.assert(201);
    registry.publish(&user, &near).await.assert(409);
    for _ in 0..2 {
        registry.get("/@s%2fnear").await.assert(200);
        registry.get("/far").await.assert(200);
        registry.tarball(&far).await.assert(200);
    }
    registry.tarball(&near).await.assert(200);
    registry.get("/nobody").await.assert(404);
    let unpublished = registry.delete(&user, "/@s%2fnear/-rev/1").await;
    assert!(unpublished.status.is_success(), "{unpublished:?}");
    registry.get("/broken").await.assert(502);
    registry.get("/left-alone").await.assert(503);
    upstream.stop().await;
    clock.advance(Duration::from_secs(3600));
    registry.get("/far").await.assert(200);

    let now = scrape(&registry).await;
    let get = |name: &str, labels: &[(&str, &str)]| now.count(&format!("rustaccio_{name}"), labels);
    let requests = |route, method, status| {
        let labels = [("route", route), ("method", method), ("status", status)];
        get("http_requests_total", &labels)
    };
    assert_eq!(requests("/{package}", "GET", "200"), 5);
    assert_eq!(requests("/{package}", "GET", "404"), 1);
    assert_eq!(requests("/{package}", "PUT", "201"), 1);
    assert_eq!(requests("/{package}", "PUT", "409"), 1);
    assert_eq!(requests("/{package}/-/{file}", "GET", "200"), 3);
    assert_eq!(requests("/-/user/{text}", "PUT", "201"), 1);
    let took = [("route", "/{package}"), ("method", "PUT")];
    assert_eq!(get("http_request_duration_seconds_count", &took), 2);
    assert!(now.get("rustaccio_http_request_duration_seconds_sum", &took) > 0.0);
    // The scrape itself.
    assert_eq!(get("http_requests_in_flight", &[]), 1);
    assert!(get("connections_open", &[]) >= 1);
    assert!(get("received_bytes_total", &[]) > 1000);
    assert!(get("sent_bytes_total", &[]) > 1000);

    let cache = |cache, outcome| {
        get(
            "cache_requests_total",
            &[("cache", cache), ("outcome", outcome)],
        )
    };
    assert!(cache("rendered", "hit") >= 1 && cache("rendered", "miss") >= 2);
    assert!(cache("document", "hit") >= 1 && cache("document", "miss") >= 2);
    assert_eq!((cache("tarball", "hit"), cache("tarball", "miss")), (1, 1));
    let downloads = |source| get("downloads_total", &[("source", source)]);
    assert_eq!((downloads("hosted"), downloads("upstream")), (1, 2));
    assert_eq!(get("publishes_total", &[]), 1);
    assert_eq!(get("unpublishes_total", &[]), 1);

    let asked = |outcome| {
        let labels = [("uplink", "default"), ("outcome", outcome)];
        get("uplink_requests_total", &labels)
    };
    assert!(
        asked("answered") >= 3 && asked("unreachable") >= 1 && asked("bad_status") >= 1,
        "{now:?}"
    );
    assert!(
        get(
            "uplink_request_duration_seconds_count",
            &[("uplink", "default")]
        ) >= 5
    );
    assert_eq!(get("uplink_breakers_open", &[("uplink", "default")]), 1);
    assert!(asked("left_alone") >= 1, "{now:?}");
    assert_eq!(get("stale_answers_total", &[]), 1);
    // Nobody asks it again, and it may be asked all the same.
    clock.advance(Duration::from_secs(3600));
    let later = scrape(&registry).await;
    let breakers = later.count("rustaccio_uplink_breakers_open", &[("uplink", "default")]);
    assert_eq!(breakers, 0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(get("build_info", &version), 1);
    assert_eq!(get("start_time_seconds", &[]), 1_800_000_000);
}

#[tokio::test]
async fn a_download_counts_once_however_it_is_read() {
    let registry = Registry::start(&[ON, OPEN]).await;
    let user = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&user, &package).await.assert(201);
    let ask = async |method: Method, range: &str, status: u16| {
        let request = registry.request(method, "/app/-/app-1.0.0.tgz");
        let request = request.header("range", range);
        registry.send(request).await.assert(status);
        let now = scrape(&registry).await;
        now.count("rustaccio_downloads_total", &[("source", "hosted")])
    };
    assert_eq!(ask(Method::HEAD, "", 200).await, 0);
    assert_eq!(ask(Method::GET, "bytes=0-9", 206).await, 1);
    assert_eq!(ask(Method::GET, "bytes=10-", 206).await, 1);
    assert_eq!(ask(Method::GET, "bytes=999999999-", 416).await, 1);
    assert_eq!(ask(Method::GET, "", 200).await, 2);
}

#[tokio::test]
async fn they_are_read_by_whoever_may() {
    let secured = Registry::start(&[ON, ("RUSTACCIO_ADMIN_USERS", "root")]).await;
    secured.get(PATH).await.assert(401);
    let (root, alice) = (secured.user("root").await, secured.user("alice").await);
    secured.get_as(&alice, PATH).await.assert(403);
    let answer = secured.get_as(&root, PATH).await.assert(200);
    let kind = answer.headers.get(CONTENT_TYPE).unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    Scrape::parse(std::str::from_utf8(&answer.body).unwrap());
    // What watches need not be able to do more.
    let path = "/-/npm/v1/tokens";
    let wanted = json!({ "password": "password", "readonly": true, "cidr_whitelist": [] });
    let created = secured
        .send_json(Some(&root), Method::POST, path, &wanted)
        .await;
    let watching = User {
        token: created.json()["token"].as_str().unwrap().to_owned(),
    };
    secured.get_as(&watching, PATH).await.assert(200);
    let path = "/-/admin/storage-health";
    secured.get_as(&watching, path).await.assert(403);
    let mut expired = root.clone();
    expired.token.push('x');
    secured.get_as(&expired, PATH).await.assert(401);

    let elsewhere = [
        ON,
        OPEN,
        ("RUSTACCIO_METRICS_PATH", "observe/metrics"),
        ("RUSTACCIO_URL_PREFIX", "/npm"),
    ];
    let elsewhere = Registry::start(&elsewhere).await;
    elsewhere.get("/observe/metrics").await.assert(200);
    let head = elsewhere.request(Method::HEAD, "/observe/metrics");
    assert!(elsewhere.send(head).await.assert(200).body.is_empty());
    let post = elsewhere.request(Method::POST, "/observe/metrics");
    elsewhere.send(post).await.assert(405);
    elsewhere.get(PATH).await.assert(404);

    let without = Registry::alone().await;
    let user = without.user("root").await;
    without.get_as(&user, PATH).await.assert(404);
}

#[tokio::test]
async fn requests_whose_clients_hang_up_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let silent = Service::replying(Reply::Never).await;
    let env: Env = [
        ("RUSTACCIO_DATA_DIR", folder.path().to_str().unwrap()),
        ("RUSTACCIO_UPSTREAM", &silent.url),
        ON,
        OPEN,
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    let state = Box::pin(build_state(&config, None)).await.unwrap();
    let router = build_router(state);
    let ask = |path: &str| {
        let request = Request::get(path).header("host", "host.example");
        router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    // It is begun, and dropped as the server does with one whose client is gone.
    assert!(ask("/library").now_or_never().is_none());
    let answer = ask(PATH).await.unwrap();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let scrape = Scrape::parse(std::str::from_utf8(&body).unwrap());
    let labels = [("route", "/{package}"), ("method", "GET")];
    let aborted = [labels[0], labels[1], ("status", "aborted")];
    assert_eq!(scrape.count("rustaccio_http_requests_total", &aborted), 1);
    let took = "rustaccio_http_request_duration_seconds_count";
    assert_eq!(scrape.count(took, &labels), 1);
}

#[tokio::test]
async fn two_registries_in_one_process_count_apart() {
    let (one, other) = tokio::join!(Registry::start(&[ON, OPEN]), Registry::start(&[ON, OPEN]));
    let user = one.user("alice").await;
    let package = Package::new("app", "1.0.0");
    one.publish(&user, &package).await.assert(201);
    let published = async |registry: &Registry| {
        let now = scrape(registry).await;
        let labels = [("route", "/{package}"), ("method", "PUT")];
        let requests = now.count("rustaccio_http_requests_total", &labels);
        (now.count("rustaccio_publishes_total", &[]), requests)
    };
    assert_eq!(published(&one).await, (1, 1));
    assert_eq!(published(&other).await, (0, 0));
}

#[tokio::test]
async fn whatever_clients_send_there_are_no_more_labels() {
    let registry = Registry::start(&[ON, OPEN]).await;
    let series = async || {
        let now = scrape(&registry).await;
        let families = now.0.values();
        families.map(|family| family.samples.len()).sum::<usize>()
    };
    let send = async |number: usize| {
        for path in [
            "/pkg",
            "/@s/pkg",
            "/-/x/",
            "/pkg/-/pkg-1.tgz?a=",
            "/a/b/c/d/",
        ] {
            registry.get(&format!("{path}{number}")).await;
            let method = Method::from_bytes(format!("BREW{number}").as_bytes()).unwrap();
            let request = registry.request(method, path);
            registry
                .send(request.header("host", format!("h{number}")))
                .await;
        }
    };
    send(0).await;
    // A look at the metrics is a request, too.
    series().await;
    let before = series().await;
    for number in 1..20 {
        send(number).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn failures_of_storage_are_counted() {
    let registry = Registry::with(Start {
        variables: vec![(ON.0, ON.1.to_owned()), (OPEN.0, OPEN.1.to_owned())],
        ..Start::default()
    })
    .await;
    let user = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&user, &package).await.assert(201);
    let manifest = registry.data().join("tarballs/app/package.json");
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    let answer = registry.get("/app").await;
    assert!(answer.status.is_server_error(), "{answer:?}");
    let now = scrape(&registry).await;
    let failed = |operation| {
        now.count(
            "rustaccio_storage_errors_total",
            &[("operation", operation)],
        )
    };
    assert!(failed("manifest_read") >= 1);
    assert_eq!(failed("tarball_write"), 0);
}

/// Names of metrics in a text.
fn named_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("rustaccio_"))
        .collect()
}

#[tokio::test]
async fn the_dashboard_asks_for_what_there_is() {
    let (registry, _upstream, _clock) = with_upstream().await;
    registry.get("/far").await.assert(200);
    scrape(&registry).await;
    let now = scrape(&registry).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("deploy/grafana/rustaccio.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            let names = named_in(query);
            assert!(!names.is_empty(), "{query}");
            asked.extend(names.into_iter().map(str::to_owned));
        }
    }
    let there = now.names();
    let missing: Vec<_> = asked
        .iter()
        .filter(|name| !there.contains(&***name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // And it leaves out little of what there is.
    assert!(asked.len() >= 25, "{asked:?}");
    let counters = there.iter().filter(|name| name.ends_with("_total"));
    let left_out: Vec<_> = counters.filter(|name| !asked.contains(**name)).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[tokio::test]
async fn alerts_ask_for_what_there_is() {
    let (registry, _upstream, _clock) = with_upstream().await;
    registry.get("/far").await.assert(200);
    scrape(&registry).await;
    let now = scrape(&registry).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = fs::read_to_string(root.join("deploy/prometheus/rustaccio.rules.yml")).unwrap();
    let asked: BTreeSet<&str> = alerts
        .lines()
        .filter(|line| !line.contains("job=~"))
        .flat_map(named_in)
        .collect();
    assert!(asked.len() >= 8, "{asked:?}");
    let there = now.names();
    let missing: Vec<_> = asked
        .iter()
        .filter(|name| !there.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // And by labels, with values that there are before the first failure.
    let samples: Vec<_> = now.0.values().flat_map(|family| &family.samples).collect();
    let selector = Regex::new(r#"(rustaccio_\w+)\{((?:[^"}]|"[^"]*")*)\}"#).unwrap();
    let matcher = Regex::new(r#"(\w+)=~?"([^"]*)""#).unwrap();
    for found in selector.captures_iter(&alerts) {
        let [name, labels] = [1, 2].map(|at| found.get(at).unwrap().as_str());
        let is_one = |sample: &&&text::Sample| {
            sample.name == name
                && matcher.captures_iter(labels).all(|wanted| {
                    let [label, value] = [1, 2].map(|at| wanted.get(at).unwrap().as_str());
                    let value = Regex::new(&format!(
                        "^(?:{})$",
                        value.replace("{package}", ".package.")
                    ));
                    let is_like = |known: &String| value.as_ref().unwrap().is_match(known);
                    sample.labels.get(label).is_some_and(is_like)
                })
        };
        assert!(
            samples.iter().any(|sample| is_one(&sample)),
            "{}",
            &found[0]
        );
    }
}

#[tokio::test]
async fn all_families_are_in_the_documentation() {
    let (registry, _upstream, _clock) = with_upstream().await;
    scrape(&registry).await;
    let now = scrape(&registry).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let rows: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `rustaccio_"))
        .collect();
    let row = |(name, family): (&String, &text::Family)| {
        let labels = family
            .samples
            .iter()
            .flat_map(|sample| sample.labels.keys());
        let labels: BTreeSet<String> = labels
            .filter(|label| *label != "le")
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = Vec::from_iter(labels).join(", ");
        format!(
            "| `{name}` | {} | {labels} | {} |",
            family.kind, family.help
        )
    };
    let known: BTreeSet<String> = now.0.iter().map(row).collect();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let missing: Vec<&str> = known.difference(&rows).copied().collect();
    let gone: Vec<&str> = rows.difference(&known).copied().collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/metrics.md lacks\n{}\nand has what is not there:\n{}",
        missing.join("\n"),
        gone.join("\n")
    );
}

#[tokio::test]
async fn how_long_a_companys_own_services_take_is_counted() {
    let service = Service::start(|_| Reply::Json(200, json!({}))).await;
    let mut variables = vec![ON, OPEN];
    for (switch, address) in [
        ("RUSTACCIO_AUTH_BACKEND", "RUSTACCIO_AUTH_HTTP_BASE_URL"),
        ("RUSTACCIO_POLICY_BACKEND", "RUSTACCIO_POLICY_HTTP_BASE_URL"),
        ("RUSTACCIO_EVENT_SINK", "RUSTACCIO_EVENT_HTTP_BASE_URL"),
    ] {
        variables.extend([(switch, "http"), (address, &*service.url)]);
    }
    let registry = Registry::start(&variables).await;
    // Accounts are asked about her, and events tell of her.
    registry.sign_in("alice", "password").await.assert(201);
    registry.get("/nobody").await.assert(404);
    service
        .wait_for(|asked| asked.iter().any(|asked| asked.path == "/events/registry"))
        .await;
    let name = "rustaccio_backend_request_duration_seconds_count";
    let counted = async |backend| scrape(&registry).await.count(name, &[("backend", backend)]);
    for backend in ["auth", "policy"] {
        assert!(counted(backend).await > 0, "{backend}");
    }
    // It is counted once the answer has come.
    let told = async {
        while counted("events").await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .unwrap();
}
