//! The sink of events: what it is told, when, and what it may do to the registry, which is nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use rustaccio::{
    config::{AuditLogConfig, Config, Env, EventsConfig, Sources},
    events::{Event, Events, EventsOptions},
    lifecycle::{Lifecycle, SystemClock},
    models::Caller,
    telemetry::Metrics,
};
use serde_json::{Value, json};

use crate::operators::{command, run};
use crate::support::{
    Asked, Package, Registry, Reply, Service, User,
    registry::{Start, with_json},
};

const DOCUMENT: &str = include_str!("../../docs/contracts/registry-events-v1.md");
const PATH: &str = "/events/registry";

async fn sink() -> Service {
    Service::replying(Reply::Json(200, json!({}))).await
}

async fn telling(service: &Service, more: &[(&str, &str)]) -> Registry {
    let variables = [
        ("RUSTACCIO_EVENT_SINK", "http"),
        ("RUSTACCIO_EVENT_HTTP_BASE_URL", &*service.url),
        ("RUSTACCIO_ADMIN_USERS", "boss,ada"),
    ];
    Registry::start(&[&variables, more].concat()).await
}

fn types(asked: &[Asked]) -> Vec<String> {
    let type_of = |asked: &Asked| asked.json()["event_type"].as_str().unwrap().to_owned();
    asked.iter().map(type_of).collect()
}

/// Does each thing that is told of, once at least.
async fn do_everything(registry: &Registry) {
    let ada = registry.user("ada").await;
    registry.user("bob").await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let package = Package::new("@acme/tools", version);
        registry.publish(&ada, &package).await.assert(201);
    }
    let tag = "/-/package/@acme%2ftools/dist-tags/next";
    registry.put(&ada, tag, &json!("1.0.0")).await.assert(201);
    registry.delete(&ada, tag).await.assert(201);
    let star = "/-/user/package/@acme%2ftools/star";
    registry.put(&ada, star, &json!({})).await.assert(200);
    let owners = "/-/package/@acme%2ftools/owners";
    let owner = json!({ "user": "bob" });
    registry.put(&ada, owners, &owner).await.assert(200);
    let access = (
        "/-/package/@acme%2ftools/access",
        json!({ "access": "restricted" }),
    );
    post(registry, &ada, access.0, &access.1).await;
    let file = "/@acme%2ftools/-/tools-1.1.0.tgz/-rev/1";
    registry.delete(&ada, file).await.assert(201);
    registry
        .delete(&ada, "/@acme%2ftools/-rev/1")
        .await
        .assert(201);
    accounts(registry, &ada).await;
    organisations(registry, &ada).await;
    // Administrators.
    post(registry, &ada, "/-/admin/reindex", &json!({})).await;
    let health = "/-/admin/storage-health";
    registry.get_as(&ada, health).await.assert(200);
    let named = json!({ "package": "@acme/tools" });
    post(registry, &ada, "/-/admin/package-cache/invalidate", &named).await;
    post(
        registry,
        &ada,
        "/-/admin/policy-cache/invalidate",
        &json!({}),
    )
    .await;
    // What she may not.
    registry
        .put_anonymously("/nobody", &json!({}))
        .await
        .assert(401);
}

async fn post(registry: &Registry, user: &User, path: &str, body: &Value) -> Value {
    let answer = registry.send_json(Some(user), Method::POST, path, body);
    answer.await.assert(200).json()
}

async fn accounts(registry: &Registry, ada: &User) {
    let wish =
        json!({ "password": "password", "readonly": true, "cidr_whitelist": ["127.0.0.1/8"] });
    let made = post(registry, ada, "/-/npm/v1/tokens", &wish).await;
    let key = made["key"].as_str().unwrap();
    let path = format!("/-/npm/v1/tokens/token/{key}");
    registry.delete(ada, &path).await.assert(200);
    let profile = "/-/npm/v1/user";
    post(registry, ada, profile, &json!({ "fullname": "Ada" })).await;
    let tfa = json!({ "tfa": { "password": "password", "mode": "auth-only" } });
    post(registry, ada, profile, &tfa).await;
    registry.sign_in("ada", "wrong").await.assert(401);
    let bob = registry.user("bob").await;
    let path = format!("/-/user/token/{}", bob.token);
    registry.delete(&bob, &path).await.assert(200);
    let bob = registry.user("bob").await;
    let password = json!({ "password": { "old": "password", "new": "passwords" } });
    post(registry, &bob, profile, &password).await;
}

async fn organisations(registry: &Registry, ada: &User) {
    let member = json!({ "user": "bob", "role": "developer" });
    registry
        .put(ada, "/-/org/acme/user", &member)
        .await
        .assert(200);
    let team = json!({ "name": "core" });
    registry
        .put(ada, "/-/org/acme/team", &team)
        .await
        .assert(201);
}

impl Registry {
    async fn put_anonymously(&self, path: &str, body: &Value) -> crate::support::Answer {
        self.send_json(None, Method::PUT, path, body).await
    }
}

/// Types and attributes, as the contract's table has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let (_, table) = DOCUMENT.split_once("| type | attributes |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let words = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let event_type = words(cells[1]).remove(0);
        (event_type, words(cells[2]).into_iter().collect())
    })
    .collect()
}

/// Each is as the contract says, and is told once.
fn check_envelopes(asked: &[Asked], documented: &BTreeMap<String, BTreeSet<String>>) {
    let mut ids = BTreeSet::new();
    for asked in asked {
        assert_eq!((&*asked.method, &*asked.path), ("POST", PATH));
        let event = asked.json();
        let mut keys: Vec<&str> = event
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        let envelope = [
            "actor",
            "address",
            "attributes",
            "event_id",
            "event_type",
            "occurred_at",
            "package",
            "request_id",
            "tenant",
        ];
        assert_eq!(keys, envelope);
        // An operator needs no connection.
        let address = match event["actor"].as_str() {
            Some("$operator") => Value::Null,
            _ => "127.0.0.1".into(),
        };
        assert_eq!(event["address"], address, "{event}");
        let event_type = event["event_type"].as_str().unwrap();
        let attributes = event["attributes"].as_object().unwrap();
        let attributes: BTreeSet<String> = attributes.keys().cloned().collect();
        assert_eq!(attributes, documented[event_type], "{event}");
        let is_about_a_package = event_type.starts_with("package.");
        assert!(
            !is_about_a_package || event["package"] == "@acme/tools",
            "{event}"
        );
        assert_eq!(
            event["tenant"],
            json!({ "org_id": null, "project_id": null })
        );
        assert_eq!(asked.header("x-request-id"), event["request_id"].as_str());
        assert_eq!(
            asked.header("x-rustaccio-event-id"),
            event["event_id"].as_str()
        );
        assert!(ids.insert(event["event_id"].to_string()));
        assert!(asked.header("x-rustaccio-signature").is_none());
        let text = event.to_string();
        assert!(
            !text.contains("password\":") && !text.contains("passwords"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn all_that_happens_is_told_as_the_contract_says() {
    let service = sink().await;
    let registry = telling(&service, &[]).await;
    do_everything(&registry).await;
    let variables = [
        ("RUSTACCIO_EVENT_SINK", "http"),
        ("RUSTACCIO_EVENT_HTTP_BASE_URL", &*service.url),
    ];
    for change in ["disable", "enable"] {
        let command = command(&registry, &variables);
        run(command, &["user", change, "bob"], "").await.well();
    }
    let documented = documented();
    let expected: BTreeSet<String> = documented.keys().cloned().collect();
    let seen = |asked: &[Asked]| -> BTreeSet<String> { types(asked).into_iter().collect() };
    let asked = service
        .wait_for(|asked| seen(asked).is_superset(&expected))
        .await;
    assert_eq!(seen(&asked), expected);
    check_envelopes(&asked, &documented);
    let of = |wanted: &str| {
        let events = asked.iter().map(Asked::json);
        let mut events = events.filter(|event| event["event_type"] == wanted);
        events.next().unwrap()
    };
    let published = of("package.published");
    assert_eq!(published["actor"], "ada");
    let attributes = &published["attributes"];
    assert_eq!(attributes["version"], "1.0.0");
    assert_eq!(attributes["tags"], json!(["latest"]));
    assert_eq!(attributes["new_package"], true);
    assert_eq!(attributes["route"], "/{package}");
    let denied = of("request.denied");
    assert_eq!(
        (&denied["actor"], &denied["package"]),
        (&json!("anonymous"), &json!("nobody"))
    );
    assert_eq!(of("auth.login.failed")["attributes"]["user"], "ada");
    registry.stop().await;
}

#[tokio::test]
async fn of_a_write_that_failed_nothing_is_told() {
    let service = sink().await;
    let registry = telling(&service, &[]).await;
    let ada = registry.user("ada").await;
    let package = Package::new("tools", "1.0.0");
    registry.publish(&ada, &package).await.assert(201);
    registry.publish(&ada, &package).await.assert(409);
    let tag = "/-/package/tools/dist-tags/next";
    registry.put(&ada, tag, &json!("9.9.9")).await.assert(404);
    // Nothing changed.
    let latest = "/-/package/tools/dist-tags/latest";
    registry
        .put(&ada, latest, &json!("1.0.0"))
        .await
        .assert(201);
    registry.stop().await;
    let told = types(&service.asked());
    let packages = told.iter().filter(|told| told.starts_with("package."));
    assert_eq!(packages.collect::<Vec<_>>(), ["package.published"]);
}

#[tokio::test]
async fn a_sink_that_never_answers_costs_a_publish_nothing() {
    let service = Service::replying(Reply::Never).await;
    let timeout = ("RUSTACCIO_EVENT_HTTP_TIMEOUT_MS", "600000");
    let registry = telling(&service, &[timeout]).await;
    let ada = registry.user("ada").await;
    let publish = async |version: &str| {
        let package = Package::new("tools", version);
        registry.publish(&ada, &package).await.assert(201);
    };
    publish("1.0.0").await;
    let is_told = |asked: &[Asked]| types(asked).iter().any(|told| told == "package.published");
    service.wait_for(is_told).await;
    for minor in 1..6 {
        publish(&format!("1.{minor}.0")).await;
    }
    // The first is still being delivered, and those behind it wait for it.
    let published = types(&service.asked());
    let published = published.iter().filter(|told| *told == "package.published");
    assert_eq!(published.count(), 1);
}

#[tokio::test]
async fn what_fails_for_a_moment_is_sent_again_in_order() {
    let count = Arc::new(AtomicUsize::new(0));
    let tries = Arc::clone(&count);
    let service = Service::start(move |asked| {
        let is_first = asked.json()["attributes"]["version"] == "1.0.0";
        let before = if is_first {
            tries.fetch_add(1, Ordering::SeqCst)
        } else {
            9
        };
        match before {
            0 => Reply::Json(500, json!({})),
            1 => Reply::Json(429, json!({})),
            2 => Reply::Never,
            _ => Reply::Json(204, json!({})),
        }
    })
    .await;
    let timeout = ("RUSTACCIO_EVENT_HTTP_TIMEOUT_MS", "250");
    let registry = telling(&service, &[timeout]).await;
    let ada = registry.user("ada").await;
    for version in ["1.0.0", "1.1.0"] {
        let package = Package::new("tools", version);
        registry.publish(&ada, &package).await.assert(201);
    }
    let versions = |asked: &[Asked]| -> Vec<(String, String)> {
        let events = asked.iter().map(Asked::json);
        let published = events.filter(|event| event["event_type"] == "package.published");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        published
            .map(|event| {
                (
                    text(&event["attributes"]["version"]),
                    text(&event["event_id"]),
                )
            })
            .collect()
    };
    let asked = service.wait_for(|asked| versions(asked).len() >= 5).await;
    let versions = versions(&asked);
    let (first, second) = versions.split_at(4);
    assert!(first.iter().all(|sent| *sent == first[0]), "{versions:?}");
    assert_eq!((&*first[0].0, &*second[0].0), ("1.0.0", "1.1.0"));
}

#[tokio::test]
async fn a_sink_that_was_down_is_told_afterwards() {
    let mut service = sink().await;
    let registry = telling(&service, &[]).await;
    service.stop().await;
    let ada = registry.user("ada").await;
    let package = Package::new("tools", "1.0.0");
    registry.publish(&ada, &package).await.assert(201);
    service.restart().await;
    let is_told = |asked: &[Asked]| types(asked).iter().any(|told| told == "package.published");
    service.wait_for(is_told).await;
}

/// Answers do not matter, but for their status: each of these is asked once and no more.
#[tokio::test]
async fn garbage_and_endless_answers_are_as_good_as_any() {
    for reply in [
        Reply::Bytes(200, vec![0xff; 100_000]),
        Reply::Endless,
        Reply::Json(400, json!({})),
    ] {
        let service = Service::replying(reply).await;
        let registry = telling(&service, &[]).await;
        let ada = registry.user("ada").await;
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let package = Package::new("tools", version);
            registry.publish(&ada, &package).await.assert(201);
        }
        registry.stop().await;
        assert_eq!(types(&service.asked()).len(), 5);
    }
}

#[tokio::test]
async fn events_are_signed_with_the_secret() {
    let service = sink().await;
    let more = [
        ("RUSTACCIO_EVENT_HTTP_SECRET", "quite secret"),
        ("RUSTACCIO_EVENT_HTTP_ENDPOINT", "told/of?by=npm"),
        ("RUSTACCIO_TRUST_PROXY", "true"),
    ];
    let registry = telling(&service, &more).await;
    let ada = registry.user("ada").await;
    let tenant = registry
        .request(Method::POST, "/-/npm/v1/user")
        .bearer_auth(&ada.token)
        .header("x-org-id", "acme")
        .header("x-request-id", "the-request");
    let tenant = with_json(tenant, &json!({ "fullname": "Ada" }));
    registry.send(tenant).await.assert(200);
    registry.stop().await;
    let asked = service.asked();
    for asked in &asked {
        assert_eq!(asked.path, "/told/of?by=npm");
        let signature = asked.header("x-rustaccio-signature").unwrap();
        let (time, code) = signature.split_once(',').unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let code = hex::decode(code.strip_prefix("v1=").unwrap()).unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"quite secret").unwrap();
        mac.update(format!("{time}.").as_bytes());
        mac.update(&asked.body);
        mac.verify_slice(&code).unwrap();
    }
    let last = asked.last().unwrap().json();
    assert_eq!(last["event_type"], "auth.profile.changed");
    assert_eq!(last["request_id"], "the-request");
    assert_eq!(
        last["tenant"],
        json!({ "org_id": "acme", "project_id": null })
    );
}

/// Events without a registry, for a sink at `url`.
async fn alone(url: &str, capacity: usize) -> (Events, Metrics, Lifecycle) {
    let (metrics, lifecycle) = (Metrics::counting(), Lifecycle::new());
    let config = EventsConfig {
        is_http: true,
        base_url: Some(url.parse().unwrap()),
        capacity,
        ..EventsConfig::default()
    };
    let trail = AuditLogConfig::default();
    let opened = Events::open(EventsOptions {
        events: &config,
        audit_log: &trail,
        clock: Arc::new(SystemClock),
        metrics: metrics.clone(),
        lifecycle: lifecycle.clone(),
    });
    (opened.await.unwrap(), metrics, lifecycle)
}

fn counted(metrics: &Metrics, outcome: &str) -> usize {
    let start = format!("rustaccio_events_total{{outcome=\"{outcome}\"}} ");
    let text = metrics.to_text();
    let line = text.lines().find_map(|line| line.strip_prefix(&*start));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_full_queue_takes_no_more_and_counts_what_is_lost() {
    let service = Service::replying(Reply::Never).await;
    let (events, metrics, lifecycle) = alone(&service.url, 4).await;
    for _ in 0..10 {
        events.tell(&Caller::default(), None, &Event::StorageHealthRead {});
    }
    assert_eq!((events.depth(), counted(&metrics, "dropped")), (4, 6));
    let waiting = |count: usize| {
        let line = format!("rustaccio_event_queue_length {count}");
        metrics.to_text().lines().any(|found| found == line)
    };
    assert!(waiting(4));
    // It stops in time, and what could not be delivered is counted too.
    let began = tokio::time::Instant::now();
    assert!(lifecycle.drain(Duration::from_secs(3)).await);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((events.depth(), counted(&metrics, "dropped")), (0, 10));
    assert!(waiting(0));
    events.tell(&Caller::default(), None, &Event::StorageHealthRead {});
    assert_eq!(counted(&metrics, "dropped"), 11);
}

#[tokio::test]
async fn what_strangers_do_leaves_room_for_what_is_done() {
    let service = Service::replying(Reply::Never).await;
    let (events, metrics, lifecycle) = alone(&service.url, 10).await;
    let tell = |event: &Event, times: usize| {
        for _ in 0..times {
            events.tell(&Caller::default(), None, event);
        }
        (events.depth(), counted(&metrics, "dropped"))
    };
    let denied = Event::Denied {
        action: "package.put".to_owned(),
        status: 401,
        code: None,
        reason: None,
    };
    let (user, code) = (None, "AUTH_UNAUTHORIZED");
    let failed = Event::LoginFailed { user, code };
    assert_eq!(tell(&denied, 4), (4, 0));
    assert_eq!(tell(&failed, 4), (5, 3));
    assert_eq!(tell(&denied, 1), (5, 4));
    assert_eq!(tell(&Event::StorageHealthRead {}, 6), (10, 5));
    lifecycle.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn what_limits_refuse_is_not_told() {
    let service = sink().await;
    let limit = [
        ("RUSTACCIO_RATE_LIMIT_BACKEND", "memory"),
        ("RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW", "1"),
        ("RUSTACCIO_RATE_LIMIT_WINDOW_SECS", "3600"),
    ];
    let registry = telling(&service, &limit).await;
    for status in [401, 429, 429] {
        let put = registry.put_anonymously("/nobody", &json!({})).await;
        put.assert(status);
    }
    // Other kinds have limits of their own.
    registry.user("ada").await;
    registry.stop().await;
    let told = types(&service.asked());
    let denied = told.iter().filter(|told| *told == "request.denied");
    assert_eq!(denied.count(), 1, "{told:?}");
    assert!(told.iter().any(|told| told == "auth.login.succeeded"));
}

#[tokio::test]
async fn what_waits_at_shutdown_is_delivered_before_its_end() {
    let late = Reply::Late(Duration::from_millis(100), 200, json!({}));
    let service = Service::replying(late).await;
    let (events, metrics, lifecycle) = alone(&service.url, 100).await;
    for _ in 0..5 {
        events.tell(&Caller::default(), None, &Event::StorageHealthRead {});
    }
    assert!(lifecycle.drain(Duration::from_secs(30)).await);
    assert_eq!(counted(&metrics, "delivered"), 5);
    assert_eq!(service.count(PATH), 5);
}

#[tokio::test]
async fn a_sink_without_an_address_stops_the_start() {
    let config = |env: &[(&str, &str)]| {
        let env: Env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Config::load(&Sources {
            env,
            ..Sources::default()
        })
        .describe_problems()
    };
    let problem = config(&[("RUSTACCIO_EVENT_SINK", "http")]);
    assert!(problem.contains("RUSTACCIO_EVENT_SINK"), "{problem}");
    assert!(
        problem.contains("needs RUSTACCIO_EVENT_HTTP_BASE_URL"),
        "{problem}"
    );
    let problem = config(&[("RUSTACCIO_EVENT_HTTP_BASE_URL", "ftp://x")]);
    assert!(
        problem.contains("RUSTACCIO_EVENT_HTTP_BASE_URL"),
        "{problem}"
    );
}

/// The same by a file.
#[tokio::test]
async fn a_file_names_the_sink_too() {
    let service = sink().await;
    let file = format!(
        "event:\n  sink: http\n  http:\n    base_url: {}\n    endpoint: /elsewhere\n\
         packages:\n  '**':\n    access: $all\n    publish: $all\n",
        service.url
    );
    let registry = Registry::with(Start {
        file: &file,
        ..Start::default()
    })
    .await;
    registry.user("ada").await;
    registry.stop().await;
    assert_eq!(service.count("/elsewhere"), 2);
}
