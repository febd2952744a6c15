//! What a company's own services answer is counted by how that ended.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::{ON, OPEN, scrape};
use crate::support::{Asked, Package, Registry, Reply, Service, User};

const REMEMBERED: &str = "60000";

/// How often each outcome was counted in a family; those that never were are left out.
async fn outcomes(registry: &Registry, family: &str) -> BTreeMap<String, u64> {
    let now = scrape(registry).await;
    let samples = &now.0[family].samples;
    let counted = samples.iter().map(|sample| {
        let outcome = sample.labels["outcome"].clone();
        (outcome, sample.value.to_string().parse().unwrap())
    });
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Those that `work` adds.
async fn added(
    registry: &Registry,
    family: &str,
    work: impl Future<Output = ()>,
) -> BTreeMap<String, u64> {
    let before = outcomes(registry, family).await;
    work.await;
    let mut after = outcomes(registry, family).await;
    for (outcome, count) in &mut after {
        *count -= before.get(outcome).copied().unwrap_or_default();
    }
    after.retain(|_, count| *count > 0);
    after
}

fn counts(expected: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let expected = expected.iter();
    expected
        .map(|(outcome, count)| ((*outcome).to_owned(), *count))
        .collect()
}

/// Allows what is called so, refuses what is called so, and has no opinion about the rest.
fn by_name(asked: &Asked) -> Reply {
    let question = asked.json();
    if question["action"] != "access" {
        return Reply::Json(200, json!(true));
    }
    let about = |name: &Value| match name.as_str().unwrap() {
        name if name.starts_with("yes") => json!(true),
        name if name.starts_with("no") => json!(false),
        _ => Value::Null,
    };
    let answer = match question["packages"].as_array() {
        Some(names) => json!({ "decisions": names.iter().map(about).collect::<Vec<_>>() }),
        None => json!({ "allowed": about(&question["package"]) }),
    };
    Reply::Json(200, answer)
}

async fn with_policy(service: &Service, more: &[(&str, &str)]) -> Registry {
    let mut variables = vec![
        ON,
        OPEN,
        ("RUSTACCIO_POLICY_BACKEND", "http"),
        ("RUSTACCIO_POLICY_HTTP_BASE_URL", &*service.url),
        ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", REMEMBERED),
    ];
    variables.extend(more);
    Registry::start(&variables).await
}

const POLICY: &str = "rustaccio_policy_backend_requests_total";

#[tokio::test]
async fn decisions_are_counted_by_what_was_decided() {
    let service = Service::start(by_name).await;
    for (is_open, failed, status) in [
        ("false", "failed_closed", 502),
        ("true", "failed_open", 404),
    ] {
        service.plays(by_name);
        let open = ("RUSTACCIO_POLICY_HTTP_FAIL_OPEN", is_open);
        let registry = with_policy(&service, &[open]).await;
        assert_eq!(outcomes(&registry, POLICY).await, counts(&[]));
        for (path, status) in [("/yes", 404), ("/no", 401), ("/maybe", 404), ("/no", 401)] {
            registry.get(path).await.assert(status);
        }
        service.replies(Reply::Json(500, json!({})));
        registry.get("/else").await.assert(status);
        let expected = [
            ("allowed", 1),
            ("rejected", 1),
            ("abstained", 1),
            ("cached", 1),
            (failed, 1),
        ];
        assert_eq!(outcomes(&registry, POLICY).await, counts(&expected));
    }
}

#[tokio::test]
async fn decisions_about_many_are_counted_like_those_about_one() {
    let service = Service::start(by_name).await;
    let many = ("RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT", "/many");
    for settings in [&[][..], &[many]] {
        service.plays(by_name);
        let registry = with_policy(&service, settings).await;
        let alice = registry.user("alice").await;
        for name in ["no-1", "no-2", "no-3", "yes-1", "yes-2", "x-1"] {
            let package = Package::new(name, "1.0.0");
            registry.publish(&alice, &package).await.assert(201);
        }
        let all = async |count: usize| {
            let all = registry.get("/-/all").await.assert(200).json();
            assert_eq!(all.as_object().unwrap().len(), count);
        };
        let asked = added(&registry, POLICY, all(3)).await;
        let expected = counts(&[("allowed", 2), ("rejected", 3), ("abstained", 1)]);
        assert_eq!(asked, expected, "{settings:?}");
        let known = added(&registry, POLICY, all(3)).await;
        assert_eq!(known, counts(&[("cached", 6)]), "{settings:?}");
        // A question that fails is one.
        service.replies(Reply::Json(500, json!({})));
        let failing = async {
            registry.get_as(&alice, "/-/all").await.assert(502);
        };
        let failed = added(&registry, POLICY, failing).await;
        assert_eq!(failed, counts(&[("failed_closed", 1)]), "{settings:?}");
    }
}

#[tokio::test]
async fn credentials_are_counted_by_what_was_said_of_them() {
    let service = Service::start(|asked| {
        let question = asked.json();
        match asked.path.as_str() {
            "/request-auth" if question["token"] == "known" => {
                Reply::Json(200, json!({ "username": "alice" }))
            }
            "/authenticate" if question["password"] == "right" => Reply::Json(200, json!({})),
            _ => Reply::Json(401, json!({})),
        }
    })
    .await;
    let registry = Registry::start(&[
        ON,
        OPEN,
        ("RUSTACCIO_AUTH_BACKEND", "http"),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", &*service.url),
        ("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", "/request-auth"),
        ("RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS", REMEMBERED),
    ])
    .await;
    let family = "rustaccio_auth_backend_requests_total";
    let bearer = async |token: &str, status: u16| {
        let user = User {
            token: token.to_owned(),
        };
        registry.get_as(&user, "/-/whoami").await.assert(status);
    };
    let basic = async |password: &str, status: u16| {
        let request = registry.request(Method::GET, "/-/whoami");
        let request = request.basic_auth("alice", Some(password));
        registry.send(request).await.assert(status);
    };
    let login = async |password: &str, status: u16| {
        registry.sign_in("alice", password).await.assert(status);
    };
    let check = async |work, expected: &str| {
        let added = added(&registry, family, work).await;
        assert_eq!(added, counts(&[(expected, 1)]));
    };
    // A token that the service does not know may be one of ours.
    check(Box::pin(bearer("known", 200)) as Work<'_>, "allowed").await;
    check(Box::pin(bearer("known", 200)), "cached").await;
    check(Box::pin(bearer("other", 401)), "abstained").await;
    check(Box::pin(basic("wrong", 401)), "rejected").await;
    check(Box::pin(basic("right", 200)), "allowed").await;
    check(Box::pin(basic("right", 200)), "cached").await;
    check(Box::pin(login("right", 201)), "allowed").await;
    check(Box::pin(login("wrong", 401)), "rejected").await;
    service.replies(Reply::Json(500, json!({})));
    check(Box::pin(bearer("new", 502)), "failed_closed").await;
    check(Box::pin(basic("other", 500)), "failed_closed").await;
    check(Box::pin(login("right", 500)), "failed_closed").await;
}

type Work<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;
