//! A store that ignores conditions, and where it is refused.

use crate::support::{bucket::s3_at, process::Process};

type Variables = Vec<(&'static str, String)>;

const BACKEND: &str = "RUSTACCIO_STATE_COORDINATION_BACKEND";

/// A store that writes whatever it is told, whatever the condition.
async fn careless_store() -> String {
    use axum::{
        body::Bytes,
        extract::State,
        http::{Method, StatusCode, Uri, header::ETAG},
        response::IntoResponse as _,
    };
    type Objects = std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, Bytes>>>;
    let answer = async |State(objects): State<Objects>, method: Method, uri: Uri, body: Bytes| {
        if uri
            .query()
            .is_some_and(|query| query.contains("list-type="))
        {
            // Nobody looks for what is there.
            return "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
                .into_response();
        }
        let key = uri.path().to_owned();
        let mut objects = objects.lock().unwrap();
        let found = match method {
            Method::PUT => {
                objects.insert(key.clone(), body);
                objects.get(&key)
            }
            Method::DELETE => {
                objects.remove(&key);
                return StatusCode::NO_CONTENT.into_response();
            }
            _ => objects.get(&key),
        };
        match found {
            Some(bytes) => {
                let tag = format!("\"{}\"", hex::encode(bytes));
                ([(ETAG, tag)], bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let router = axum::Router::new()
        .fallback(answer)
        .with_state(Objects::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// What is said to refuse these settings.
async fn refusal(variables: &Variables, arguments: &'static [&'static str]) -> String {
    let variables = variables.clone();
    let started = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut command = Process::command(folder.path(), &variables);
        command.args(arguments);
        Process::refusal(command)
    });
    started.await.unwrap()
}

#[track_caller]
fn check(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditional_writes_is_refused() {
    let endpoint = careless_store().await;
    let unsafe_store = ["If-None-Match", BACKEND];
    check(&refusal(&s3_at(&endpoint), &[]).await, &unsafe_store);
    // Turns are taken at packages; accounts would still be overwritten.
    let mut with_leases = s3_at(&endpoint);
    let redis = "redis://127.0.0.1:1/".to_owned();
    with_leases.extend([
        (BACKEND, "redis".to_owned()),
        ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", redis),
    ]);
    check(&refusal(&with_leases, &[]).await, &unsafe_store);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_in_such_a_store_are_refused() {
    let endpoint = careless_store().await;
    // Packages are on this disk.
    let mut variables: Variables = vec![(BACKEND, "s3".to_owned())];
    for (name, value) in s3_at(&endpoint) {
        let name = match name {
            "RUSTACCIO_S3_ENDPOINT" => "RUSTACCIO_STATE_COORDINATION_S3_ENDPOINT",
            "RUSTACCIO_S3_BUCKET" => "RUSTACCIO_STATE_COORDINATION_S3_BUCKET",
            "RUSTACCIO_S3_ACCESS_KEY_ID" => "RUSTACCIO_STATE_COORDINATION_S3_ACCESS_KEY_ID",
            "RUSTACCIO_S3_SECRET_ACCESS_KEY" => "RUSTACCIO_STATE_COORDINATION_S3_SECRET_ACCESS_KEY",
            _ => continue,
        };
        variables.push((name, value));
    }
    let said = refusal(&variables, &[]).await;
    check(&said, &[BACKEND, "two could hold the same lease"]);
}

/// Accounts are in Postgres, so that only packages are at risk.
#[cfg(all(feature = "postgres", feature = "redis"))]
mod beside_a_database {
    use super::*;
    use crate::support::{Package, Registry, postgres, redis, registry::Start};

    async fn variables() -> Variables {
        let mut variables = s3_at(&careless_store().await);
        variables.extend(postgres::variables(&postgres::schema().await));
        variables
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_leases_that_fail_closed_make_up_for_it() {
        let mut variables = variables().await;
        let unsafe_store = ["If-None-Match", BACKEND];
        check(&refusal(&variables, &[]).await, &unsafe_store);
        variables.extend([
            (BACKEND, "redis".to_owned()),
            ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", redis::url()),
            ("RUSTACCIO_STATE_COORDINATION_LOCK_KEY", redis::prefix()),
        ]);
        let mut open = variables.clone();
        open.push(("RUSTACCIO_STATE_COORDINATION_FAIL_OPEN", "true".to_owned()));
        check(&refusal(&open, &[]).await, &unsafe_store);
        let registry = Registry::with(Start {
            variables,
            ..Start::default()
        })
        .await;
        let alice = registry.user("alice").await;
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_repaired() {
        let mut variables = variables().await;
        variables.extend([
            (BACKEND, "redis".to_owned()),
            ("RUSTACCIO_STATE_COORDINATION_REDIS_URL", redis::url()),
            ("RUSTACCIO_STATE_COORDINATION_LOCK_KEY", redis::prefix()),
        ]);
        let said = refusal(&variables, &["fsck", "--repair"]).await;
        check(&said, &["If-None-Match", "leave --repair away"]);
    }
}
