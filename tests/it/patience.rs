//! How long the registry waits for a company's services, and how long it believes what they said: the
//! same answer comes in time or too late, as the setting says.

use std::{collections::BTreeMap, time::Duration};

use axum::response::IntoResponse as _;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Asked, Package, Registry, Reply, Service, Upstream};

/// An answer that is too late for the shortest patience there is, and for none that is longer.
fn late(answer: Value) -> Reply {
    Reply::Late(Duration::from_secs(1), 200, answer)
}

const SHORT: &str = "250";
const LONG: &str = "60000";

#[tokio::test]
async fn an_account_service_may_be_as_late_as_the_setting_says() {
    let service = Service::replying(late(json!({ "username": "bob" }))).await;
    for (patience, status) in [(SHORT, 502), (LONG, 200)] {
        let registry = Registry::start(&[
            ("RUSTACCIO_AUTH_BACKEND", "http"),
            ("RUSTACCIO_AUTH_HTTP_BASE_URL", &service.url),
            ("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", "request-auth"),
            ("RUSTACCIO_AUTH_HTTP_TIMEOUT_MS", patience),
        ])
        .await;
        let request = registry.request(Method::GET, "/-/whoami");
        let answer = registry.send(request.bearer_auth("from-outside")).await;
        answer.assert(status);
    }
}

#[tokio::test]
async fn a_policy_service_may_be_as_late_as_the_setting_says() {
    let service = Service::replying(late(json!({ "allowed": true }))).await;
    for (patience, status) in [(SHORT, 502), (LONG, 404)] {
        let registry = Registry::start(&[
            ("RUSTACCIO_POLICY_BACKEND", "http"),
            ("RUSTACCIO_POLICY_HTTP_BASE_URL", &service.url),
            ("RUSTACCIO_POLICY_HTTP_TIMEOUT_MS", patience),
        ])
        .await;
        registry.get("/missing").await.assert(status);
    }
}

/// How often each event came, in the order in which they came first.
fn times(asked: &[Asked]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for asked in asked {
        let id = asked.json()["event_id"].as_str().unwrap().to_owned();
        if !times.contains_key(&id) {
            order.push(id.clone());
        }
        *times.entry(id).or_default() += 1;
    }
    order.iter().map(|id| times[id]).collect()
}

#[tokio::test]
async fn a_sink_of_events_may_be_as_late_as_the_setting_says() {
    for patience in [SHORT, LONG] {
        let service = Service::replying(late(json!({}))).await;
        let registry = Registry::start(&[
            ("RUSTACCIO_EVENT_SINK", "http"),
            ("RUSTACCIO_EVENT_HTTP_BASE_URL", &service.url),
            ("RUSTACCIO_EVENT_HTTP_TIMEOUT_MS", patience),
        ])
        .await;
        let alice = registry.user("alice").await;
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
        if patience == SHORT {
            // Nobody waited for the first answer.
            let is_repeated =
                |asked: &[Asked]| times(asked).first().is_some_and(|times| *times > 1);
            service.wait_for(is_repeated).await;
        } else {
            // The next one comes when the first was delivered, which it was at once.
            let asked = service.wait_for(|asked| times(asked).len() > 1).await;
            assert_eq!(times(&asked), [1, 1]);
        }
    }
}

/// A yes counts until its time is over, though the service says no by now; then it is asked again.
async fn ends_by_itself(
    service: &Service,
    registry: &Registry,
    request: impl Fn() -> RequestBuilder,
    [before, after]: [u16; 2],
    no: Reply,
) {
    registry.send(request()).await.assert(before);
    service.replies(no);
    let waiting = async {
        loop {
            let status = registry.send(request()).await.status.as_u16();
            if status == after {
                break;
            }
            assert_eq!(status, before);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(ended.is_ok(), "it counts for ever");
    assert_eq!(service.asked().len(), 2);
}

#[tokio::test]
async fn a_token_that_the_service_revokes_works_no_longer_than_its_answer_counts() {
    let yes = Reply::Json(200, json!({ "username": "bob" }));
    let service = Service::replying(yes).await;
    let registry = Registry::start(&[
        ("RUSTACCIO_AUTH_BACKEND", "http"),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", &service.url),
        ("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", "request-auth"),
        ("RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS", "300"),
    ])
    .await;
    let request = || {
        let request = registry.request(Method::GET, "/-/whoami");
        request.bearer_auth("from-outside")
    };
    let no = Reply::Json(401, json!({}));
    ends_by_itself(&service, &registry, request, [200, 401], no).await;
}

#[tokio::test]
async fn a_right_that_the_service_revokes_lasts_no_longer_than_its_decision_counts() {
    let service = Service::replying(Reply::Json(200, json!({ "allowed": true }))).await;
    let registry = Registry::start(&[
        ("RUSTACCIO_POLICY_BACKEND", "http"),
        ("RUSTACCIO_POLICY_HTTP_BASE_URL", &service.url),
        ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "300"),
    ])
    .await;
    let request = || registry.request(Method::GET, "/missing");
    let no = Reply::Json(200, json!({ "allowed": false }));
    ends_by_itself(&service, &registry, request, [404, 401], no).await;
}

#[tokio::test]
async fn an_uplink_may_be_as_late_as_its_key_says() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    let document = upstream.document(&[&package]).to_string();
    upstream.plays("/lib", move |_| {
        let document = document.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            document.into_response()
        }
    });
    for (patience, status) in [("250ms", 504), ("1m", 200)] {
        let url = &upstream.url;
        let file = format!("uplinks:\n  default:\n    url: {url}\n    timeout: {patience}\n");
        let registry = Registry::with_file(&file).await;
        registry.get("/lib").await.assert(status);
    }
}
