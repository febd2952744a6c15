//! What programs that embed the registry rely on.

mod accounts;
mod programs;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use rustaccio::{
    app::build_router,
    auth::AuthHook,
    config::{Config, Env, Sources},
    error::RegistryError,
    models::AuthIdentity,
    runtime::build_state,
    storage::{Store, StoreOptions},
};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::support::{Package, Upstream, publish_body};

/// One user, `robot`, with the token `robot-token`; nobody may see `hidden`.
struct Hook;

#[async_trait]
impl AuthHook for Hook {
    async fn authenticate_request(
        &self,
        token: &str,
        _method: &str,
        path: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        assert!(path.starts_with('/') && !path.starts_with("/npm"), "{path}");
        Ok((token == "robot-token").then(|| AuthIdentity {
            username: Some("robot".to_owned()),
            groups: vec!["ci".to_owned()],
        }))
    }

    async fn allow_access(
        &self,
        _identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        Ok((package == "hidden").then_some(false))
    }

    async fn allow_publish(
        &self,
        identity: Option<AuthIdentity>,
        _package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        Ok(Some(identity.is_some_and(|who| who.groups == ["ci"])))
    }
}

async fn nested(prefix: &str) -> (Router, TempDir) {
    let (router, folder) = router(prefix, Arc::new(Hook), &[]).await;
    let router = Router::new()
        .route("/", axum::routing::get(|| async { "the host's own page" }))
        .nest("/npm", router);
    (router, folder)
}

async fn router(
    prefix: &str,
    hook: Arc<dyn AuthHook>,
    variables: &[(&str, &str)],
) -> (Router, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let env: Env = [
        (
            "RUSTACCIO_DATA_DIR",
            folder.path().join("data").to_str().unwrap(),
        ),
        ("RUSTACCIO_UPSTREAM", "none"),
    ]
    .into_iter()
    .chain(variables.iter().copied())
    .collect();
    let mut config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    config.url_prefix = prefix.to_owned();
    let state = build_state(&config, Some(hook)).await.unwrap();
    (build_router(state), folder)
}

async fn send(
    router: &Router,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: String,
) -> (StatusCode, Value) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "host.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = router
        .clone()
        .oneshot(request.body(Body::from(body)).unwrap())
        .await
        .unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn a_registry_lives_below_a_path_of_another_router() {
    for prefix in ["", "/npm"] {
        let (router, _folder) = nested(prefix).await;
        let body = publish_body(&Package::new("@s/app", "1.0.0"), "latest").to_string();
        let token = Some("robot-token");
        let (status, body) = send(&router, "PUT", "/npm/@s%2fapp", token, body).await;
        assert_eq!(status, 201, "{body}");
        for path in ["/npm/@s/app", "/npm/@s%2fapp"] {
            let (status, document) = send(&router, "GET", path, None, String::new()).await;
            assert_eq!(status, 200, "{document}");
            let tarball = &document["versions"]["1.0.0"]["dist"]["tarball"];
            assert_eq!(tarball, "http://host.example/npm/@s/app/-/app-1.0.0.tgz");
        }
        let (status, who) = send(&router, "GET", "/npm/-/whoami", token, String::new()).await;
        assert_eq!((status.as_u16(), &who["username"]), (200, &"robot".into()));
        let (status, _) = send(
            &router,
            "GET",
            "/npm/-/whoami",
            Some("other"),
            String::new(),
        )
        .await;
        assert_eq!(status, 401);
        let (status, _) = send(&router, "GET", "/", None, String::new()).await;
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn a_hook_overrules_the_rules() {
    let (router, _folder) = nested("").await;
    for name in ["hidden", "shown"] {
        let body = publish_body(&Package::new(name, "1.0.0"), "latest").to_string();
        let path = format!("/npm/{name}");
        let (status, _) = send(&router, "PUT", &path, None, body.clone()).await;
        assert_eq!(status, 401);
        let (status, answer) = send(&router, "PUT", &path, Some("robot-token"), body).await;
        assert_eq!(status, 201, "{answer}");
    }
    let (status, _) = send(&router, "GET", "/npm/hidden", None, String::new()).await;
    assert_eq!(status, 401);
    let (status, _) = send(
        &router,
        "GET",
        "/npm/hidden",
        Some("robot-token"),
        String::new(),
    )
    .await;
    assert_eq!(status, 403);
    let (_, found) = send(
        &router,
        "GET",
        "/npm/-/v1/search?text=",
        None,
        String::new(),
    )
    .await;
    assert_eq!(found["total"], 1);
    let (_, all) = send(&router, "GET", "/npm/-/all", None, String::new()).await;
    assert!(all.get("hidden").is_none() && all.get("shown").is_some());
}

#[tokio::test]
async fn a_store_is_opened_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        data_dir: folder.path().join("data"),
        cache_dir: None,
    };
    let store = Store::open_with_options(options.clone()).await.unwrap();
    let name = "app".parse().unwrap();
    assert!(store.metadata().get(&name).await.unwrap().is_none());
    let second: RegistryError = Store::open_with_options(options).await.unwrap_err().into();
    assert!(second.status().is_server_error());
}

#[test]
fn a_file_is_read_on_top_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    std::fs::write(&path, "url_prefix: /npm/\n").unwrap();
    let config = Config::from_env_with_config_file(path.clone()).unwrap();
    assert_eq!(config.url_prefix, "/npm");
    std::fs::write(&path, "max_body_size: huge\nurl_prefix: /../\n").unwrap();
    let problems = Config::from_env_with_config_file(path).unwrap_err();
    assert!(
        problems.contains("max_body_size") && problems.contains("url_prefix"),
        "{problems}"
    );
}

#[tokio::test]
async fn a_package_cannot_need_a_second_factor_that_is_kept_elsewhere() {
    let (router, _folder) = nested("").await;
    let publish = async |version: &str| {
        let body = publish_body(&Package::new("@s/app", version), "latest").to_string();
        send(&router, "PUT", "/npm/@s%2fapp", Some("robot-token"), body).await
    };
    assert_eq!(publish("1.0.0").await.0, 201);
    let path = "/npm/-/package/@s%2fapp/access";
    let lock = r#"{"publish_requires_tfa":true}"#.to_owned();
    let (status, refused) = send(&router, "POST", path, Some("robot-token"), lock).await;
    assert_eq!(status, 403);
    let why = refused["error"].as_str().unwrap();
    assert!(why.contains("kept elsewhere"), "{why}");
    assert_eq!(publish("1.0.1").await.0, 201);
}

#[tokio::test]
async fn a_registry_with_wrong_settings_is_not_built() {
    let env: Env = [("RUSTACCIO_MAX_BODY_SIZE", "huge"), ("PORT", "x")]
        .into_iter()
        .collect();
    let config = Config::load(&Sources {
        env,
        ..Sources::default()
    });
    let error = build_state(&config, None).await.unwrap_err().to_string();
    assert!(
        error.contains("RUSTACCIO_MAX_BODY_SIZE") && error.contains("PORT"),
        "{error}"
    );
}

/// Knows no answer to tokens of its own, and takes for ever over who may read `slow`.
struct Pensive;

#[async_trait]
impl AuthHook for Pensive {
    async fn authenticate_request(
        &self,
        token: &str,
        _method: &str,
        _path: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        if token == "pensive" {
            std::future::pending::<()>().await;
        }
        Ok(None)
    }

    async fn allow_access(
        &self,
        _identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        if package == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(None)
    }

    async fn allow_publish(
        &self,
        _identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        if package == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(Some(true))
    }
}

#[tokio::test]
async fn no_request_waits_for_ever() {
    let upstream = Upstream::start().await;
    let package = Package::new("far", "1.0.0");
    let document = upstream.document(&[&package]).to_string();
    // Upstream has limits of its own, and takes its time.
    upstream.plays("/far", move |_| {
        let document = document.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            axum::response::IntoResponse::into_response(document)
        }
    });
    let variables = [
        ("RUSTACCIO_REQUEST_TIMEOUT_SECS", "1"),
        ("RUSTACCIO_UPSTREAM", &*upstream.url),
    ];
    let (router, _folder) = router("", Arc::new(Pensive), &variables).await;
    let body = publish_body(&Package::new("slow", "1.0.0"), "latest").to_string();
    for (method, path, token, body) in [
        ("GET", "/-/whoami", Some("pensive"), ""),
        ("GET", "/slow", None, ""),
        ("GET", "/slow/-/slow-1.0.0.tgz", None, ""),
        ("PUT", "/slow", None, &body),
    ] {
        let (status, answer) = send(&router, method, path, token, body.to_owned()).await;
        assert_eq!(status, 503, "{method} {path}: {answer}");
        assert_eq!(answer["code"], "SERVICE_UNAVAILABLE", "{method} {path}");
    }
    let far = publish_body(&Package::new("far", "2.0.0"), "latest").to_string();
    let ((read, _), (written, _)) = tokio::join!(
        send(&router, "GET", "/far", None, String::new()),
        send(&router, "PUT", "/far", None, far),
    );
    assert_eq!((read.as_u16(), written.as_u16()), (200, 201));
}

#[tokio::test]
async fn a_write_that_takes_too_long_is_written_all_the_same() {
    let upstream = Upstream::start().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&gate);
    upstream.plays("/app", move |_| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            axum::response::IntoResponse::into_response(StatusCode::NOT_FOUND)
        }
    });
    let variables = [
        ("RUSTACCIO_REQUEST_TIMEOUT_SECS", "1"),
        ("RUSTACCIO_UPSTREAM", &*upstream.url),
    ];
    let (router, _folder) = router("", Arc::new(Pensive), &variables).await;
    let publish = async |version: &str| {
        let body = publish_body(&Package::new("app", version), "latest").to_string();
        send(&router, "PUT", "/app", None, body).await.0.as_u16()
    };
    // The first waits for upstream, which has limits of its own; the second for the first.
    let second = async {
        while upstream.asked("/app") == 0 {
            tokio::task::yield_now().await;
        }
        let status = publish("2.0.0").await;
        gate.notify_one();
        status
    };
    assert_eq!(tokio::join!(publish("1.0.0"), second), (201, 503));
    let is_written = async {
        while send(&router, "GET", "/app/2.0.0", None, String::new())
            .await
            .0
            != 200
        {
            tokio::task::yield_now().await;
        }
    };
    let written = tokio::time::timeout(Duration::from_secs(30), is_written).await;
    assert!(written.is_ok(), "it was given up");
}
