//! Accounts that a company's own service keeps.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Asked, Package, Registry, Reply, Service, User,
    registry::{Start, with_json},
};

/// The users of the tests: alice, whose password is `password`, and bob with a token from outside.
fn company(asked: &Asked) -> Reply {
    let body = asked.json();
    match asked.path.as_str() {
        "/authenticate" | "/v2/login" => {
            if body["username"] == "alice" && body["password"] == "password" {
                Reply::Json(200, json!({}))
            } else {
                Reply::Json(401, json!({ "error": "who is that?" }))
            }
        }
        "/adduser" => match body["username"].as_str() {
            Some("alice") => Reply::Json(409, json!({ "message": "taken" })),
            Some("robot") => Reply::Json(418, json!({ "message": "no robots" })),
            _ => Reply::Json(201, json!({})),
        },
        "/change-password" => {
            if body["old_password"] == "password" {
                Reply::Json(200, json!({}))
            } else {
                Reply::Json(403, json!({ "error": "that was not it" }))
            }
        }
        "/request-auth" => {
            if body["token"] == "from-outside" {
                Reply::Json(200, json!({ "username": "bob", "groups": ["ops"] }))
            } else {
                Reply::Json(401, json!({}))
            }
        }
        _ => Reply::Json(404, json!({})),
    }
}

const RULES: &str = "
packages:
  'ops-*':
    access: ops
    publish: ops
  '**':
    access: $all
    publish: $authenticated
";

async fn registry(service: &Service, more: &[(&'static str, &str)]) -> Registry {
    let mut variables = vec![
        ("RUSTACCIO_AUTH_BACKEND", "http".to_owned()),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", service.url.clone()),
        ("RUSTACCIO_AUTH_HTTP_TIMEOUT_MS", "250".to_owned()),
    ];
    let more = more
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    variables.extend(more);
    Registry::with(Start {
        variables,
        file: RULES,
        ..Start::default()
    })
    .await
}

const REQUEST_AUTH: (&str, &str) = ("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", "request-auth");

fn bob() -> User {
    User {
        token: "from-outside".to_owned(),
    }
}

async fn sign_in(
    registry: &Registry,
    name: &str,
    password: &str,
    id: &str,
) -> crate::support::Answer {
    let path = format!("/-/user/org.couchdb.user:{name}");
    let body = json!({ "name": name, "password": password });
    let request = with_json(registry.request(Method::PUT, &path), &body);
    registry.send(request.header("x-request-id", id)).await
}

mod guesses;

#[tokio::test]
async fn users_sign_in_with_what_the_service_knows() {
    let service = Service::start(company).await;
    let registry = registry(&service, &[]).await;
    let answer = sign_in(&registry, "alice", "password", "r-1")
        .await
        .assert(201);
    assert_eq!(answer.json()["ok"], "you are authenticated as 'alice'");
    let asked = service.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str()),
        ("POST", "/authenticate")
    );
    assert_eq!(
        asked[0].json(),
        json!({ "username": "alice", "password": "password" })
    );
    assert_eq!(asked[0].header("x-request-id"), Some("r-1"));
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    // The token is ours: nobody is asked about it, and it does all that a token does.
    let alice = User {
        token: answer.json()["token"].as_str().unwrap().to_owned(),
    };
    let who = registry.get_as(&alice, "/-/whoami").await.assert(200);
    assert_eq!(who.json()["username"], "alice");
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let wish = json!({ "password": "password", "readonly": true });
    let made = registry
        .send_json(Some(&alice), Method::POST, "/-/npm/v1/tokens", &wish)
        .await
        .assert(200);
    let readonly = User {
        token: made.json()["token"].as_str().unwrap().to_owned(),
    };
    registry
        .publish(&readonly, &Package::new("app", "2.0.0"))
        .await
        .assert(403);
    registry
        .delete(&alice, &format!("/-/user/token/{}", alice.token))
        .await
        .assert(200);
    registry.get_as(&alice, "/-/whoami").await.assert(401);
}

#[tokio::test]
async fn who_is_not_known_is_made_there_or_hears_why_not() {
    let service = Service::start(company).await;
    let registry = registry(
        &service,
        &[
            ("RUSTACCIO_PASSWORD_MIN", "8"),
            ("RUSTACCIO_AUTH_HTTP_LOGIN_ENDPOINT", "/v2/login"),
        ],
    )
    .await;
    let made = sign_in(&registry, "carol", "long enough", "r")
        .await
        .assert(201);
    assert_eq!(made.json()["ok"], "user 'carol' created");
    assert_eq!(service.count("/v2/login"), 1);
    assert_eq!(service.count("/adduser"), 1);
    // A wrong password of somebody who is there, with the service's own words.
    let refused = sign_in(&registry, "alice", "no password", "r")
        .await
        .assert(401);
    assert_eq!(refused.error(), "who is that?");
    // One that is too short is not even sent.
    service.forget();
    sign_in(&registry, "dave", "short", "r").await.assert(401);
    assert_eq!(service.count("/adduser"), 0);
}

#[tokio::test]
async fn a_closed_registration_is_closed_there_too() {
    let service = Service::start(company).await;
    let registry = registry(&service, &[("RUSTACCIO_REGISTRATION", "closed")]).await;
    sign_in(&registry, "carol", "password", "r")
        .await
        .assert(401);
    assert_eq!(service.count("/adduser"), 0);
    sign_in(&registry, "alice", "password", "r")
        .await
        .assert(201);
}

#[tokio::test]
async fn a_new_password_is_the_services_and_ends_logins_here() {
    let service = Service::start(company).await;
    let registry = registry(&service, &[]).await;
    let alice = registry.user("alice").await;
    let change = |old: &str, new: &str| json!({ "password": { "old": old, "new": new } });
    let send = async |body: Value| {
        registry
            .send_json(Some(&alice), Method::POST, "/-/npm/v1/user", &body)
            .await
    };
    let refused = send(change("wrong", "another")).await.assert(403);
    assert_eq!(refused.error(), "that was not it");
    send(change("password", "x")).await.assert(401);
    send(change("password", "another")).await.assert(200);
    assert_eq!(
        service.bodies("/change-password").last(),
        Some(
            &json!({ "username": "alice", "old_password": "password", "new_password": "another" })
        )
    );
    registry.get_as(&alice, "/-/whoami").await.assert(401);
}

#[tokio::test]
async fn the_service_knows_whose_tokens_they_are() {
    let service = Service::start(company).await;
    let registry = registry(&service, &[REQUEST_AUTH]).await;
    let request = registry
        .request(Method::GET, "/-/whoami?x=1")
        .bearer_auth("from-outside")
        .header("x-request-id", "r-7");
    let who = registry.send(request).await.assert(200);
    assert_eq!(who.json()["username"], "bob");
    let asked = service.asked();
    assert_eq!(
        asked[0].json(),
        json!({ "token": "from-outside", "method": "GET", "path": "/-/whoami", "request_id": "r-7" })
    );
    assert_eq!(asked[0].header("x-request-id"), Some("r-7"));
    // Its groups count in rules.
    let package = Package::new("ops-tool", "1.0.0");
    registry.publish(&bob(), &package).await.assert(201);
    registry.get_as(&bob(), "/ops-tool").await.assert(200);
    registry.get("/ops-tool").await.assert(401);
    // A token that it does not know may be one of ours.
    let alice = registry.user("alice").await;
    let who = registry.get_as(&alice, "/-/whoami").await.assert(200);
    assert_eq!(who.json()["username"], "alice");
    registry.get_as(&alice, "/ops-tool").await.assert(403);
    let nobody = User {
        token: "unknown".to_owned(),
    };
    registry.get_as(&nobody, "/-/whoami").await.assert(401);
}

#[tokio::test]
async fn an_answer_about_a_token_counts_for_what_was_asked() {
    let service = Service::start(|asked| {
        // A service whose answer depends on the path.
        if asked.json()["path"] == "/-/whoami" {
            Reply::Json(200, json!({ "user": "bob" }))
        } else {
            Reply::Json(200, json!({ "authenticated": false }))
        }
    })
    .await;
    let slow = ("RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS", "60000");
    let by_request = registry(&service, &[REQUEST_AUTH, slow]).await;
    for _ in 0..3 {
        by_request.get_as(&bob(), "/-/whoami").await.assert(200);
        by_request
            .get_as(&bob(), "/-/npm/v1/tokens")
            .await
            .assert(401);
    }
    assert_eq!(service.count("/request-auth"), 2);
    service.forget();
    // For one that does not look at paths.
    let scope = ("RUSTACCIO_AUTH_HTTP_CACHE_SCOPE", "token");
    let by_token = registry(&service, &[REQUEST_AUTH, slow, scope]).await;
    by_token.get_as(&bob(), "/-/whoami").await.assert(200);
    by_token
        .get_as(&bob(), "/-/npm/v1/tokens")
        .await
        .assert(200);
    assert_eq!(service.count("/request-auth"), 1);
    service.forget();
    // Without a memory each request asks, and one of a single entry is full soon.
    let no_memory = ("RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS", "0");
    let each = registry(&service, &[REQUEST_AUTH, no_memory]).await;
    for _ in 0..2 {
        each.get_as(&bob(), "/-/whoami").await.assert(200);
    }
    assert_eq!(service.count("/request-auth"), 2);
    service.forget();
    let small = ("RUSTACCIO_AUTH_HTTP_CACHE_MAX_ENTRIES", "1");
    let small = registry(&service, &[REQUEST_AUTH, slow, small]).await;
    for path in ["/-/whoami", "/-/npm/v1/tokens", "/-/whoami"] {
        small.get_as(&bob(), path).await;
    }
    assert_eq!(service.count("/request-auth"), 3);
}

#[tokio::test]
async fn requests_at_once_ask_about_a_token_once() {
    let service = Service::replying(Reply::Never).await;
    let patient = ("RUSTACCIO_AUTH_HTTP_TIMEOUT_MS", "60000");
    let registry = registry(&service, &[REQUEST_AUTH, patient]).await;
    let bob = bob();
    // The answer comes when all have asked: those that come later hear what is known.
    let first = registry.get_as(&bob, "/-/whoami");
    let rest = async {
        service.wait_for(|asked| asked.len() == 1).await;
        service.plays(company);
        let ask = |path| registry.get_as(&bob, path);
        let other = ask("/-/npm/v1/tokens").await;
        assert_eq!(other.status.as_u16(), 200);
        let same = tokio::time::timeout(Duration::from_millis(200), ask("/-/whoami")).await;
        assert!(same.is_err(), "it asked for itself");
    };
    tokio::select! {
        _ = first => panic!("the service never answers"),
        () = rest => {}
    }
    assert_eq!(service.count("/request-auth"), 2);
}

#[tokio::test]
async fn rights_are_decided_by_the_service_where_it_has_an_endpoint() {
    let service = Service::start(|asked| {
        let body = asked.json();
        match (asked.path.as_str(), body["package"].as_str()) {
            ("/access", Some("hidden")) => Reply::Json(200, json!({ "allowed": false })),
            ("/access", Some("broken")) => Reply::Json(409, json!({ "error": "in conflict" })),
            ("/access", Some("ops-open")) => Reply::Json(200, json!(true)),
            ("/access", _) => Reply::Json(200, json!({})),
            ("/publish", _) => Reply::Json(403, json!({})),
            ("/unpublish", _) => Reply::Json(200, json!({ "allowed": true })),
            _ => company(asked),
        }
    })
    .await;
    let registry = registry(
        &service,
        &[
            REQUEST_AUTH,
            ("RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT", "/access"),
            ("RUSTACCIO_AUTH_HTTP_ALLOW_PUBLISH_ENDPOINT", "/publish"),
            ("RUSTACCIO_AUTH_HTTP_ALLOW_UNPUBLISH_ENDPOINT", "/unpublish"),
        ],
    )
    .await;
    registry.get("/hidden").await.assert(401);
    // Allowed where the rules say no; the package is not there.
    registry.get("/ops-open").await.assert(404);
    // No opinion: the rules.
    registry.get("/ops-other").await.assert(401);
    let broken = registry.get("/broken").await.assert(409);
    assert_eq!(broken.error(), "in conflict");
    registry
        .publish(&bob(), &Package::new("app", "1.0.0"))
        .await
        .assert(403);
    registry.delete(&bob(), "/app/-rev/1").await.assert(404);
    let asked = service.bodies("/publish");
    let identity = json!({ "username": "bob", "groups": ["ops"] });
    assert_eq!(asked[0]["package"], "app");
    assert_eq!(asked[0]["username"], "bob");
    assert_eq!(asked[0]["groups"], json!(["ops"]));
    assert_eq!(asked[0]["identity"], identity);
    let anonymous = &service.bodies("/access")[0];
    assert_eq!(anonymous["username"], Value::Null);
    assert_eq!(anonymous["identity"], Value::Null);
    assert_eq!(anonymous["groups"], json!([]));
    let ids = service.asked();
    let is_told =
        |asked: &Asked| asked.json()["request_id"] == asked.header("x-request-id").unwrap();
    assert!(ids.iter().all(is_told));
}

#[tokio::test]
async fn outside_tokens_alone_count_in_external_mode() {
    let service = Service::start(company).await;
    let external = ("RUSTACCIO_AUTH_EXTERNAL_MODE", "true");
    let web = ("RUSTACCIO_WEB_LOGIN", "true");
    let registry = registry(&service, &[REQUEST_AUTH, external, web]).await;
    let routes = [
        (Method::PUT, "/-/user/org.couchdb.user:alice"),
        (Method::GET, "/-/user/org.couchdb.user:alice"),
        (Method::PUT, "/-/user/org.couchdb.user:alice/-rev/1"),
        (Method::DELETE, "/-/user/token/x"),
        (Method::GET, "/-/npm/v1/user"),
        (Method::POST, "/-/npm/v1/user"),
        (Method::GET, "/-/npm/v1/tokens"),
        (Method::POST, "/-/npm/v1/tokens"),
        (Method::DELETE, "/-/npm/v1/tokens/token/x"),
        (Method::POST, "/-/v1/login"),
        (Method::POST, "/-/v1/login_cli/x"),
        (Method::GET, "/-/v1/done/x"),
        (Method::GET, "/-/web/login"),
    ];
    for (method, path) in routes {
        let body = json!({ "name": "alice", "password": "password" });
        let answer = registry
            .send_json(Some(&bob()), method.clone(), path, &body)
            .await;
        assert_eq!(answer.status.as_u16(), 404, "{method} {path}");
        assert_eq!(answer.error(), "not found", "{method} {path}");
    }
    registry.get_as(&bob(), "/-/whoami").await.assert(200);
    // Clients that only know names and passwords send the token as one.
    let basic = |name: &str, password: &str| {
        registry
            .request(Method::GET, "/-/whoami")
            .basic_auth(name, Some(password))
    };
    registry
        .send(basic("bob", "from-outside"))
        .await
        .assert(200);
    registry
        .send(basic("alice", "from-outside"))
        .await
        .assert(401);
    registry.send(basic("alice", "password")).await.assert(401);
    assert_eq!(service.count("/authenticate"), 0);
}

#[tokio::test]
async fn tokens_that_were_made_here_do_not_count_in_external_mode() {
    let service = Service::start(company).await;
    let open = registry(&service, &[REQUEST_AUTH]).await;
    let alice = open.user("alice").await;
    let folder = open.stop().await;
    let mut variables = vec![("RUSTACCIO_AUTH_EXTERNAL_MODE", "true".to_owned())];
    variables.push(("RUSTACCIO_AUTH_BACKEND", "http".to_owned()));
    variables.push(("RUSTACCIO_AUTH_HTTP_BASE_URL", service.url.clone()));
    variables.push((REQUEST_AUTH.0, REQUEST_AUTH.1.to_owned()));
    let external = Registry::with(Start {
        variables,
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    external.get_as(&alice, "/-/whoami").await.assert(401);
    external.get_as(&bob(), "/-/whoami").await.assert(200);
}

#[tokio::test]
async fn passwords_in_headers_are_asked_about_once_in_a_while() {
    let service = Service::start(company).await;
    let slow = ("RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS", "60000");
    let registry = registry(&service, &[slow]).await;
    let ask = async |password: &str| {
        let request = registry.request(Method::GET, "/-/whoami");
        let request = request.basic_auth("alice", Some(password));
        registry.send(request).await.status.as_u16()
    };
    assert_eq!(ask("password").await, 200);
    assert_eq!(ask("password").await, 200);
    assert_eq!(service.count("/authenticate"), 1);
    assert_eq!(ask("wrong").await, 401);
    assert_eq!(service.count("/authenticate"), 2);
}

#[tokio::test]
async fn a_service_that_misbehaves_is_a_bad_gateway_in_time() {
    let mut service = Service::start(company).await;
    let registry = registry(
        &service,
        &[
            REQUEST_AUTH,
            ("RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT", "/access"),
        ],
    )
    .await;
    let late = Reply::Late(Duration::from_secs(20), 200, json!({ "username": "root" }));
    let misbehaviours = [
        Reply::Never,
        late,
        Reply::Cut,
        Reply::Endless,
        Reply::Bytes(200, b"<html>".to_vec()),
        Reply::Bytes(500, b"{}".to_vec()),
        Reply::Bytes(302, Vec::new()),
        Reply::Bytes(404, Vec::new()),
    ];
    for reply in misbehaviours {
        service.replies(reply.clone());
        let answer = registry.get_as(&bob(), "/-/whoami").await;
        assert_eq!(answer.status.as_u16(), 502, "{reply:?}");
        assert_eq!(
            answer.json()["code"],
            "AUTH_BACKEND_UNAVAILABLE",
            "{reply:?}"
        );
        assert!(!answer.error().contains("127.0.0.1"), "{}", answer.error());
        // Reads without a token ask who may read.
        let status = registry.get("/app").await.status.as_u16();
        let expected = match &reply {
            Reply::Bytes(status @ (404 | 500), _) => *status,
            _ => 502,
        };
        assert_eq!(status, expected, "{reply:?}");
    }
    service.replies(Reply::Never);
    sign_in(&registry, "alice", "password", "r")
        .await
        .assert(502);
    // What a service says of itself while it fails stays in the log.
    service.replies(Reply::Json(503, json!({ "error": "at 10.0.0.7" })));
    let failed = sign_in(&registry, "alice", "password", "r")
        .await
        .assert(503);
    assert_eq!(failed.json()["code"], "AUTH_BACKEND_REFUSED");
    assert_eq!(failed.error(), "the auth service failed");
    service.stop().await;
    registry.get_as(&bob(), "/-/whoami").await.assert(502);
    sign_in(&registry, "alice", "password", "r")
        .await
        .assert(502);
    registry.get("/-/ping").await.assert(200);
    // It is asked again as soon as it is there again.
    service.plays(company);
    service.restart().await;
    registry.get_as(&bob(), "/-/whoami").await.assert(200);
}

#[tokio::test]
async fn statuses_that_we_have_no_error_for_are_passed_on() {
    let service = Service::start(company).await;
    service.plays(|asked| match asked.path.as_str() {
        "/authenticate" => Reply::Json(402, json!({ "message": "pay\u{7} first" })),
        _ => Reply::Json(400, json!({})),
    });
    let registry = registry(&service, &[]).await;
    let refused = sign_in(&registry, "robot", "password", "r")
        .await
        .assert(402);
    assert_eq!(refused.json()["code"], "AUTH_BACKEND_REFUSED");
    assert_eq!(refused.error(), "pay first");
}

#[tokio::test]
async fn a_service_without_an_address_stops_the_start() {
    for (backend, variable) in [
        ("RUSTACCIO_AUTH_BACKEND", "RUSTACCIO_AUTH_HTTP_BASE_URL"),
        ("RUSTACCIO_POLICY_BACKEND", "RUSTACCIO_POLICY_HTTP_BASE_URL"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let env = [
            ("RUSTACCIO_DATA_DIR", data.as_str()),
            ("RUSTACCIO_UPSTREAM", "none"),
            (backend, "http"),
        ];
        let config = rustaccio::config::Config::load(&rustaccio::config::Sources {
            env: env.into_iter().collect(),
            ..rustaccio::config::Sources::default()
        });
        let refused = rustaccio::runtime::build_state(&config, None).await;
        let refused = refused.expect_err("it does not start").to_string();
        assert!(refused.contains(variable), "{refused}");
        assert!(refused.contains(&format!("{backend}=http")), "{refused}");
    }
}

#[tokio::test]
async fn files_say_the_same_in_verdaccios_words() {
    let service = Service::start(company).await;
    let file = format!(
        "
auth:
  backend: http
  external: true
  http:
    baseUrl: {}
    addUserEndpoint: /adduser
    loginEndpoint: /authenticate
    changePasswordEndpoint: /change-password
    requestAuthEndpoint: /request-auth
    allowAccessEndpoint: /access
    allowPublishEndpoint: /publish
    allowUnpublishEndpoint: /unpublish
    timeoutMs: 250
",
        service.url
    );
    let registry = Registry::with_file(&file).await;
    registry.get_as(&bob(), "/-/whoami").await.assert(200);
    registry.get("/-/npm/v1/tokens").await.assert(404);
    service.plays(|asked| match asked.path.as_str() {
        "/access" => Reply::Json(200, json!(false)),
        _ => Reply::Never,
    });
    registry.get("/app").await.assert(401);
}
