//! Decisions of a company's own service.

mod lists;
mod upstream;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::Method;
use rustaccio::{auth::AuthHook, error::RegistryError, models::AuthIdentity};
use serde_json::{Value, json};

use crate::support::{Asked, Package, Registry, Reply, Service, User, registry::Start};

const RULES: &str = "
packages:
  'closed-*':
    access: nobody
    publish: $authenticated
  '**':
    access: $all
    publish: $authenticated
    unpublish: $authenticated
";

async fn registry(service: &Service, more: &[(&'static str, &str)]) -> Registry {
    with_hook(service, more, None).await
}

async fn with_hook(
    service: &Service,
    more: &[(&'static str, &str)],
    hook: Option<Arc<dyn AuthHook>>,
) -> Registry {
    let mut variables = vec![
        ("RUSTACCIO_POLICY_BACKEND", "http".to_owned()),
        ("RUSTACCIO_POLICY_HTTP_BASE_URL", service.url.clone()),
        ("RUSTACCIO_POLICY_HTTP_TIMEOUT_MS", "250".to_owned()),
    ];
    let more = more
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    variables.extend(more);
    Registry::with(Start {
        variables,
        file: RULES,
        hook,
        ..Start::default()
    })
    .await
}

fn allowed(is_allowed: bool) -> Reply {
    Reply::Json(200, json!({ "allowed": is_allowed }))
}

/// No opinion, but for packages whose names say so.
fn by_name(asked: &Asked) -> Reply {
    let body = asked.json();
    let name = body["package"].as_str().unwrap();
    if name.contains("secret") {
        allowed(false)
    } else if name.contains("shown") {
        Reply::Json(200, json!(true))
    } else {
        Reply::Json(200, json!({}))
    }
}

#[tokio::test]
async fn the_service_decides_before_the_rules() {
    let service = Service::start(by_name).await;
    let registry = registry(&service, &[]).await;
    let alice = registry.user("alice").await;
    for name in ["app", "closed-shown", "closed-app"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    // It says no where the rules say yes.
    let refused = registry.get("/secret").await.assert(401);
    assert_eq!(
        refused.error(),
        "authorization required to access package secret"
    );
    let refused = registry
        .publish(&alice, &Package::new("secret", "1.0.0"))
        .await
        .assert(403);
    assert_eq!(refused.json()["code"], "AUTH_FORBIDDEN");
    // It says yes where they say no.
    registry.get("/closed-shown").await.assert(200);
    // It has no opinion.
    registry.get("/closed-app").await.assert(401);
    registry.get("/app").await.assert(200);
}

#[tokio::test]
async fn a_question_tells_all_that_it_may_depend_on() {
    let service = Service::start(by_name).await;
    let proxy = ("RUSTACCIO_TRUST_PROXY", "true");
    let registry = registry(&service, &[proxy]).await;
    let alice = registry.user("alice").await;
    let request = registry
        .request(Method::GET, "/@acme%2fapp?write=true")
        .bearer_auth(&alice.token)
        .header("x-request-id", "r-1")
        .header("x-rustaccio-org-id", "acme")
        .header("x-project-id", "web");
    registry.send(request).await.assert(404);
    let asked = &service.asked()[0];
    assert_eq!(asked.path, "/authorize");
    assert_eq!(asked.header("x-request-id"), Some("r-1"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let identity = json!({ "username": "alice", "groups": [] });
    assert_eq!(
        asked.json(),
        json!({
            "action": "access",
            "package": "@acme/app",
            "method": "GET",
            "path": "/@acme%2fapp",
            "request_id": "r-1",
            "username": "alice",
            "groups": [],
            "identity": identity,
            "tenant": { "org_id": "acme", "project_id": "web" },
            "org_id": "acme",
            "project_id": "web",
        })
    );
    service.forget();
    registry.get("/app").await.assert(404);
    let anonymous = &service.bodies("/authorize")[0];
    assert_eq!(anonymous["username"], Value::Null);
    assert_eq!(anonymous["identity"], Value::Null);
    assert_eq!(
        anonymous["tenant"],
        json!({ "org_id": null, "project_id": null })
    );
}

#[tokio::test]
async fn actions_are_told_by_the_right_that_they_need() {
    let service = Service::start(by_name).await;
    let registry = registry(&service, &[]).await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let asked_for = async |method: Method, path: &str, body: Value| {
        service.forget();
        registry.send_json(Some(&alice), method, path, &body).await;
        let bodies = service.bodies("/authorize");
        let mut actions: Vec<String> = bodies
            .iter()
            .map(|body| body["action"].as_str().unwrap().to_owned())
            .collect();
        actions.dedup();
        actions
    };
    let star = asked_for(Method::PUT, "/-/user/package/app/star", json!({})).await;
    assert_eq!(star, ["access"]);
    let tag = asked_for(Method::PUT, "/-/package/app/dist-tags/next", json!("1.0.0")).await;
    assert_eq!(tag, ["publish"]);
    let owner = json!({ "name": "bob", "email": "b@x.example" });
    let owner = asked_for(Method::PUT, "/-/package/app/owners", owner).await;
    assert!(owner.iter().all(|action| action == "publish"), "{owner:?}");
    let removed = asked_for(Method::DELETE, "/app/-rev/1", json!({})).await;
    assert_eq!(removed, ["unpublish"]);
}

#[tokio::test]
async fn decisions_count_for_a_while_and_for_one_question() {
    let service = Service::start(by_name).await;
    let slow = ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "60000");
    let admins = ("RUSTACCIO_ADMIN_USERS", "root");
    let registry = registry(&service, &[slow, admins]).await;
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    for _ in 0..3 {
        registry.get("/app").await.assert(404);
        registry.get_as(&alice, "/app").await.assert(404);
        registry.get("/app/latest").await.assert(404);
    }
    assert_eq!(service.count("/authorize"), 3);
    // Names that only look alike when they are joined.
    let before = service.count("/authorize");
    let request = async |path: &str| registry.get(&format!("/{path}")).await.status.as_u16();
    assert_eq!(request("a").await, 404);
    assert_eq!(request("a/get").await, 404);
    assert_eq!(service.count("/authorize"), before + 2);
    let path = "/-/admin/policy-cache/invalidate";
    for (user, status) in [(None, 401), (Some(&alice), 403)] {
        let refused = registry
            .send_json(user, Method::POST, path, &json!({}))
            .await;
        refused.assert(status);
    }
    service.plays(|_| allowed(false));
    registry.get("/app").await.assert(404);
    let done = registry
        .send_json(Some(&root), Method::POST, path, &json!("whatever"))
        .await
        .assert(200);
    assert_eq!(done.json(), json!({ "ok": "policy cache invalidated" }));
    registry.get("/app").await.assert(401);
}

#[tokio::test]
async fn how_much_is_remembered_is_a_setting() {
    let service = Service::start(by_name).await;
    let slow = ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "60000");
    let none = ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "0");
    let one = ("RUSTACCIO_POLICY_HTTP_CACHE_MAX_ENTRIES", "1");
    let any = ("RUSTACCIO_POLICY_HTTP_CACHE_MAX_ENTRIES", "0");
    let endpoint = ("RUSTACCIO_POLICY_HTTP_DECISION_ENDPOINT", "v2/decide");
    let counts: [(&[(&'static str, &str)], usize); 3] = [
        (&[none, endpoint], 4),
        (&[slow, one, endpoint], 4),
        (&[slow, any, endpoint], 2),
    ];
    for (settings, count) in counts {
        service.forget();
        let registry = registry(&service, settings).await;
        for path in ["/a", "/b", "/a", "/b"] {
            registry.get(path).await.assert(404);
        }
        assert_eq!(service.count("/v2/decide"), count, "{settings:?}");
    }
}

#[tokio::test]
async fn a_service_that_misbehaves_allows_nothing() {
    let mut service = Service::start(by_name).await;
    let no_memory = ("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "0");
    let registry = registry(&service, &[no_memory]).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    for reply in misbehaviours() {
        service.replies(reply.clone());
        let what = format!("{reply:?}");
        for path in ["/app", "/-/v1/search?text=app", "/-/all", "/missing"] {
            let answer = registry.get(path).await;
            assert_eq!(answer.status.as_u16(), 502, "{path} {what}");
            assert_eq!(
                answer.json()["code"],
                "POLICY_BACKEND_UNAVAILABLE",
                "{path} {what}"
            );
            assert!(
                answer.json()["hint"]
                    .as_str()
                    .unwrap()
                    .contains("policy service")
            );
        }
        let next = registry
            .publish(&alice, &Package::new("app", "2.0.0"))
            .await;
        assert_eq!(next.status.as_u16(), 502, "{what}");
    }
    service.stop().await;
    registry.get("/app").await.assert(502);
    registry.get("/-/ping").await.assert(200);
    service.plays(by_name);
    service.restart().await;
    registry.get("/app").await.assert(200);
}

fn misbehaviours() -> Vec<Reply> {
    vec![
        Reply::Never,
        Reply::Late(Duration::from_secs(20), 200, json!(true)),
        Reply::Cut,
        Reply::Endless,
        Reply::Bytes(200, b"<html>".to_vec()),
        Reply::Bytes(500, b"true".to_vec()),
        Reply::Bytes(404, b"true".to_vec()),
        Reply::Bytes(302, b"true".to_vec()),
    ]
}

#[tokio::test]
async fn the_rules_decide_without_the_service_where_that_is_wanted() {
    let mut service = Service::start(by_name).await;
    let open = ("RUSTACCIO_POLICY_HTTP_FAIL_OPEN", "true");
    let registry = registry(&service, &[open]).await;
    let alice = registry.user("alice").await;
    for name in ["app", "closed-app"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    for reply in misbehaviours() {
        service.replies(reply.clone());
        registry.get("/app").await.assert(200);
        registry.get("/closed-app").await.assert(401);
    }
    // However many packages there are, a list waits for one failure.
    for number in 0..20 {
        let package = Package::new(&format!("p{number}"), "1.0.0");
        service.plays(by_name);
        registry.publish(&alice, &package).await.assert(201);
    }
    service.replies(Reply::Never);
    service.forget();
    let all = registry.get("/-/all").await.assert(200);
    assert_eq!(all.json().as_object().unwrap().len(), 21);
    assert!(
        service.count("/authorize") <= 16,
        "{}",
        service.count("/authorize")
    );
    service.stop().await;
    registry.get("/app").await.assert(200);
    // A refusal is no failure.
    service.replies(Reply::Bytes(403, Vec::new()));
    service.restart().await;
    registry.get("/app").await.assert(401);
}

/// Publishes `count` packages, the even ones hidden.
async fn many(registry: &Registry, count: usize) -> User {
    let alice = registry.user("alice").await;
    for number in 0..count {
        let kind = if number % 2 == 0 { "secret" } else { "open" };
        let package = Package::new(&format!("lib-{number:03}-{kind}"), "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    alice
}

fn no_secrets_to_read(asked: &Asked) -> Reply {
    if asked.json()["action"] == "access" {
        by_name(asked)
    } else {
        allowed(true)
    }
}

#[tokio::test]
async fn a_search_asks_about_the_page_that_it_shows() {
    let service = Service::start(no_secrets_to_read).await;
    let registry = registry(&service, &[]).await;
    many(&registry, 120).await;
    service.forget();
    let page = registry
        .get("/-/v1/search?text=lib&size=5")
        .await
        .assert(200);
    let page = page.json();
    let names: Vec<&str> = names_of(&page);
    assert_eq!(names.len(), 5);
    assert!(names.iter().all(|name| name.ends_with("open")), "{names:?}");
    let asked = service.count("/authorize");
    assert!(asked <= 32, "{asked}");
    // More than are shown, and none of those that may not be seen.
    assert_eq!(page["total"], 6);
    // Asked again, nobody is asked.
    registry
        .get("/-/v1/search?text=lib&size=5")
        .await
        .assert(200);
    assert_eq!(service.count("/authorize"), asked);
    // To the end, the pages have each once, and the total is true.
    let mut all = Vec::new();
    loop {
        let path = format!("/-/v1/search?text=lib&size=7&from={}", all.len());
        let page = registry.get(&path).await.assert(200).json();
        let names = names_of(&page).into_iter().map(str::to_owned);
        let before = all.len();
        all.extend(names);
        if all.len() == before {
            assert_eq!(page["total"], 60);
            break;
        }
    }
    let mut distinct = all.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((all.len(), distinct.len()), (60, 60));
}

fn names_of(page: &Value) -> Vec<&str> {
    let objects = page["objects"].as_array().unwrap().iter();
    objects
        .map(|object| object["package"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn lists_ask_once_about_many_where_the_service_can() {
    let service = Service::start(|asked| match asked.path.as_str() {
        "/many" => {
            let body = asked.json();
            let decisions = body["packages"].as_array().unwrap().iter().map(|name| {
                let is_secret = name.as_str().unwrap().contains("secret");
                if is_secret { json!(false) } else { Value::Null }
            });
            Reply::Json(200, json!({ "decisions": decisions.collect::<Vec<_>>() }))
        }
        _ => no_secrets_to_read(asked),
    })
    .await;
    let batch = ("RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT", "/many");
    let registry = registry(&service, &[batch]).await;
    let alice = many(&registry, 40).await;
    service.forget();
    let all = registry.get("/-/all").await.assert(200).json();
    assert_eq!(all.as_object().unwrap().len(), 20);
    assert_eq!(
        (service.count("/many"), service.count("/authorize")),
        (1, 0)
    );
    let asked = &service.bodies("/many")[0];
    assert_eq!(asked["action"], "access");
    assert_eq!(asked["path"], "/-/all");
    assert_eq!(asked["username"], Value::Null);
    assert!(asked.get("package").is_none(), "{asked}");
    assert_eq!(asked["packages"].as_array().unwrap().len(), 40);
    registry.get("/-/all").await.assert(200);
    assert_eq!(service.count("/many"), 1);
    let found = registry
        .get_as(&alice, "/-/v1/search?text=lib&size=250")
        .await;
    assert_eq!(found.json()["total"], 20);
    assert_eq!(service.count("/many"), 2);
    // Too few decisions, or no list of them, decide nothing.
    for wrong in [json!({ "decisions": [true] }), json!(true)] {
        service.plays(move |_| Reply::Json(200, wrong.clone()));
        let answer = registry.get("/-/all?since=lib").await;
        // What is known is known.
        answer.assert(200);
        registry.get_as(&alice, "/-/all").await.assert(502);
    }
}

#[tokio::test]
async fn lists_of_some_packages_ask_about_those() {
    let service = Service::start(no_secrets_to_read).await;
    let registry = registry(&service, &[]).await;
    let alice = many(&registry, 20).await;
    for name in ["lib-000-secret", "lib-001-open"] {
        let path = format!("/-/user/package/{name}/star");
        registry.put(&alice, &path, &json!({})).await;
    }
    service.forget();
    let stars = registry.get("/-/_view/starredByUser?key=%22alice%22").await;
    let starred = stars.assert(200).json();
    assert_eq!(starred["rows"], json!([{ "value": "lib-001-open" }]));
    assert_eq!(service.count("/authorize"), 1);
}

/// Says about everything what it was made with.
struct Hook(Opinion, Mutex<usize>);

type Opinion = Option<bool>;

#[async_trait]
impl AuthHook for Hook {
    async fn allow_access(
        &self,
        _: Option<AuthIdentity>,
        _: &str,
    ) -> Result<Option<bool>, RegistryError> {
        *self.1.lock().unwrap() += 1;
        Ok(self.0)
    }
}

#[tokio::test]
async fn whoever_is_asked_first_and_has_an_opinion_decides() {
    // The policy service, the hook, the auth service, the rules; and what comes of it.
    let cases: [(Opinion, Opinion, Opinion, &str, u16); 6] = [
        (Some(false), Some(true), Some(true), "open", 401),
        (Some(true), Some(false), Some(false), "closed-x", 404),
        (None, Some(false), Some(true), "open", 401),
        (None, Some(true), Some(false), "closed-x", 404),
        (None, None, Some(false), "open", 401),
        (None, None, None, "closed-x", 401),
    ];
    for (policy, hook, auth, name, status) in cases {
        let say = |opinion: Opinion| Reply::Json(200, json!({ "allowed": opinion }));
        let service = Service::start(move |asked| match asked.path.as_str() {
            "/allow-access" => say(auth),
            _ => say(policy),
        })
        .await;
        let hook = Arc::new(Hook(hook, Mutex::default()));
        let settings = [
            ("RUSTACCIO_AUTH_BACKEND", "http"),
            ("RUSTACCIO_AUTH_HTTP_BASE_URL", service.url.as_str()),
            ("RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT", "/allow-access"),
        ];
        let registry = with_hook(&service, &settings, Some(hook.clone())).await;
        let answer = registry.get(&format!("/{name}")).await;
        let what = format!("{policy:?} {:?} {auth:?} {name}", hook.0);
        assert_eq!(answer.status.as_u16(), status, "{what}");
        // Who comes after the one that decides is not asked.
        assert_eq!(*hook.1.lock().unwrap() > 0, policy.is_none(), "{what}");
        let is_asked = policy.is_none() && hook.0.is_none();
        assert_eq!(service.count("/allow-access") > 0, is_asked, "{what}");
    }
}

#[tokio::test]
async fn a_yes_lifts_neither_a_tokens_limits_nor_what_a_package_says() {
    let service = Service::replying(allowed(true)).await;
    let registry = registry(&service, &[]).await;
    let alice = registry.user("alice").await;
    let package = Package::new("@acme/app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let wish = json!({ "password": "password", "readonly": true });
    let made = registry
        .send_json(Some(&alice), Method::POST, "/-/npm/v1/tokens", &wish)
        .await
        .assert(200);
    let readonly = User {
        token: made.json()["token"].as_str().unwrap().to_owned(),
    };
    let next = Package::new("@acme/app", "2.0.0");
    registry.publish(&readonly, &next).await.assert(403);
    let restricted = json!({ "access": "restricted" });
    let path = "/-/package/@acme%2fapp/access";
    registry
        .send_json(Some(&alice), Method::POST, path, &restricted)
        .await
        .assert(200);
    registry.get("/@acme%2fapp").await.assert(404);
    registry.get_as(&alice, "/@acme%2fapp").await.assert(200);
}
