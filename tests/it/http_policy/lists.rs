//! Lists whose packages others decide about, where these fail or take their time.

use std::time::Duration;

use serde_json::json;

use super::{allowed, by_name, registry};
use crate::support::{Asked, Package, Registry, Reply, Service, registry::Start};

#[tokio::test]
async fn a_refusal_to_decide_about_many_denies_all_of_them() {
    let batch = ("RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT", "/many");
    let slow = ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "60000");
    let open = ("RUSTACCIO_POLICY_HTTP_FAIL_OPEN", "true");
    for status in [401, 403] {
        let service = Service::start(by_name).await;
        let registry = registry(&service, &[batch, slow, open]).await;
        let alice = registry.user("alice").await;
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
        service.replies(Reply::Bytes(status, Vec::new()));
        service.forget();
        for _ in 0..2 {
            let all = registry.get("/-/all").await.assert(200).json();
            assert_eq!(all, json!({}), "{status}");
        }
        // It is remembered like what is said of each.
        assert_eq!(service.count("/many"), 1, "{status}");
        let found = registry.get("/-/v1/search?text=app").await.assert(200);
        assert_eq!(found.json()["total"], 0, "{status}");
    }
}

#[tokio::test]
async fn what_is_denied_stays_so_when_another_question_fails() {
    let slow = ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "60000");
    let open = ("RUSTACCIO_POLICY_HTTP_FAIL_OPEN", "true");
    let service = Service::start(by_name).await;
    let registry = registry(&service, &[slow, open]).await;
    let alice = registry.user("alice").await;
    let names: Vec<String> = (0..40).map(|number| format!("p{number:02}")).collect();
    for name in &names {
        let package = Package::new(name, "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    let shown = async |path: &str| {
        let all = registry.get(path).await.assert(200).json();
        let all = all.as_object().unwrap().keys();
        let all = all.filter(|name| name.starts_with('p')).cloned();
        all.collect::<Vec<_>>()
    };
    // Of those that are asked about with it, the others are denied, before and after it.
    let all_but = |names: Vec<&str>| {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        move |asked: &Asked| match asked.json()["package"].as_str() {
            Some(name) if names.iter().any(|failing| failing == name) => {
                Reply::Bytes(500, Vec::new())
            }
            _ => allowed(false),
        }
    };
    service.plays(all_but(vec!["p20"]));
    let rest: Vec<&str> = names.iter().skip(32).map(String::as_str).collect();
    assert_eq!(shown("/-/all").await, [vec!["p20"], rest].concat());
    // What is known counts after a failure too.
    assert_eq!(shown("/-/all?since=p31").await, Vec::<String>::new());
    assert_eq!(shown("/-/all").await, ["p20"]);
    service.plays(all_but(vec![]));
    assert_eq!(shown("/-/all").await, Vec::<String>::new());
}

/// Publishes `count` packages with these settings.
async fn with_packages(variables: &[(&'static str, &str)], count: usize) -> Registry {
    let variables = variables
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let registry = Registry::with(Start {
        variables: variables.collect(),
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    for number in 0..count {
        let package = Package::new(&format!("p{number:02}"), "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    registry
}

#[tokio::test]
async fn a_refusal_that_is_about_one_package_hides_just_that() {
    let service = Service::replying(Reply::Json(200, json!({}))).await;
    let settings = [
        ("RUSTACCIO_AUTH_BACKEND", "http"),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", service.url.as_str()),
        ("RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT", "/access"),
        ("RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS", "0"),
    ];
    let registry = with_packages(&settings, 3).await;
    let answers_of_one = |status: u16| {
        service.plays(move |asked| match asked.json()["package"].as_str() {
            Some("p01") => Reply::Json(status, json!({ "error": "of one" })),
            _ => Reply::Json(200, json!({})),
        });
    };
    for status in [400, 404, 409, 418] {
        answers_of_one(status);
        let all = registry.get("/-/all").await.assert(200).json();
        let names = all.as_object().unwrap().keys();
        let names: Vec<&String> = names.filter(|name| name.starts_with('p')).collect();
        assert_eq!(names, ["p00", "p02"], "{status}");
        let found = registry.get("/-/v1/search?text=p").await.assert(200);
        assert_eq!(found.json()["total"], 2, "{status}");
        registry.get("/p01").await.assert(status);
    }
    // Whoever says that of itself has not decided.
    for status in [408, 429, 500, 503] {
        answers_of_one(status);
        registry.get("/-/all").await.assert(status);
    }
}

/// Late enough that more than two rounds of questions take longer than a list may.
const LATE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_list_does_not_wait_for_a_slow_service_without_end() {
    let is_opens = [("false", 502), ("true", 200)];
    for (is_open, status) in is_opens {
        let service = Service::start(by_name).await;
        let settings = [
            ("RUSTACCIO_POLICY_BACKEND", "http"),
            ("RUSTACCIO_POLICY_HTTP_BASE_URL", service.url.as_str()),
            ("RUSTACCIO_POLICY_HTTP_TIMEOUT_MS", "250"),
            ("RUSTACCIO_POLICY_HTTP_FAIL_OPEN", is_open),
        ];
        let registry = with_packages(&settings, 80).await;
        service.replies(Reply::Late(LATE, 200, json!({})));
        for path in ["/-/all", "/-/v1/search?text=p&from=1000000"] {
            service.forget();
            let answer = registry.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {is_open}");
            let asked = service.count("/authorize");
            assert!(asked <= 48, "{path} {is_open}: {asked}");
        }
    }
}

#[tokio::test]
async fn a_list_does_not_wait_for_slow_accounts_without_end() {
    let service = Service::replying(Reply::Json(200, json!({}))).await;
    let settings = [
        ("RUSTACCIO_AUTH_BACKEND", "http"),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", service.url.as_str()),
        ("RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT", "/access"),
        ("RUSTACCIO_AUTH_HTTP_TIMEOUT_MS", "250"),
    ];
    let registry = with_packages(&settings, 80).await;
    service.replies(Reply::Late(LATE, 200, json!({})));
    for path in ["/-/all", "/-/v1/search?text=p&from=1000000"] {
        service.forget();
        let answer = registry.get(path).await.assert(502);
        assert_eq!(answer.json()["code"], "AUTH_BACKEND_UNAVAILABLE");
        let asked = service.count("/access");
        assert!(asked <= 48, "{path}: {asked}");
    }
}
