//! Many at once: nothing is lost, nothing is done twice.

use std::sync::Arc;

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Package, Registry, Upstream, User, pipe::Pipe, registry::Start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn writers_of_one_package_never_lose_each_others_versions() {
    let registry = Arc::new(Registry::alone().await);
    let alice = registry.user("alice").await;
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let (registry, alice) = (Arc::clone(&registry), alice.clone());
        writers.spawn(async move {
            for number in 0..20 {
                let version = format!("{writer}.{number}.0");
                let package = Package::new("busy", &version);
                let tag = format!("writer-{writer}");
                registry
                    .publish_as(&alice, &package, &tag)
                    .await
                    .assert(201);
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let document = registry.get("/busy").await.assert(200).json();
    assert_eq!(document["versions"].as_object().unwrap().len(), 320);
    for writer in 0..16 {
        let tag = format!("writer-{writer}");
        assert_eq!(document["dist-tags"][&tag], format!("{writer}.19.0"));
        for number in 0..20 {
            let package = Package::new("busy", &format!("{writer}.{number}.0"));
            assert_eq!(
                registry.tarball(&package).await.assert(200).body,
                package.tarball
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn one_of_many_publishers_of_one_version_wins() {
    let registry = Arc::new(Registry::alone().await);
    let alice = registry.user("alice").await;
    let mut writers = JoinSet::new();
    for writer in 0..12 {
        let (registry, alice) = (Arc::clone(&registry), alice.clone());
        writers.spawn(async move {
            let package = Package::with(
                "app",
                "1.0.0",
                &json!({}),
                &[("who", format!("{writer}").as_bytes())],
            );
            (registry.publish(&alice, &package).await.status, package)
        });
    }
    let (mut won, mut lost) = (Vec::new(), 0);
    while let Some(done) = writers.join_next().await {
        let (status, package) = done.unwrap();
        match status.as_u16() {
            201 => won.push(package),
            409 => lost += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((won.len(), lost), (1, 11));
    let bytes = registry.tarball(&won[0]).await.assert(200).body;
    assert_eq!(bytes, won[0].tarball);
    let document = registry.get("/app").await.json();
    assert_eq!(
        document["versions"]["1.0.0"]["dist"]["integrity"],
        won[0].integrity()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn two_hundred_register_at_once() {
    // That many passwords take their time to hash.
    let patient = [("RUSTACCIO_REQUEST_TIMEOUT_SECS", "300")];
    let registry = Arc::new(Registry::start(&patient).await);
    let mut visitors = JoinSet::new();
    for number in 0..200 {
        let registry = Arc::clone(&registry);
        visitors.spawn(async move { registry.user(&format!("user{number}")).await });
    }
    let mut users: Vec<User> = Vec::new();
    while let Some(user) = visitors.join_next().await {
        users.push(user.unwrap());
    }
    let registry = Arc::into_inner(registry).unwrap();
    if registry.is_in_folder() {
        let state = std::fs::read(registry.data().join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        assert_eq!(state["users"].as_object().unwrap().len(), 200);
    }
    let folder = registry.stop().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    for user in &users {
        registry.get_as(user, "/-/whoami").await.assert(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn publishing_unpublishing_and_reading_at_once_never_shows_half_of_it() {
    let registry = Arc::new(Registry::alone().await);
    let alice = registry.user("alice").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (registry, stopped) = (Arc::clone(&registry), stopped.clone());
        readers.spawn(async move {
            let mut seen = 0;
            while !*stopped.borrow() {
                let answer = registry.get("/app").await;
                if answer.status == 404 {
                    continue;
                }
                let document = answer.assert(200).json();
                for (version, object) in document["versions"].as_object().unwrap() {
                    let package = Package::new("app", version);
                    assert_eq!(object["dist"]["integrity"], package.integrity());
                    let bytes = registry.tarball(&package).await;
                    // It may have been unpublished since; wrong or half it never is.
                    assert!(bytes.status == 404 || bytes.body == package.tarball);
                    seen += 1;
                }
            }
            seen
        });
    }
    for round in 0..30 {
        let package = Package::new("app", &format!("1.{}.0", round % 3));
        registry.publish(&alice, &package).await.assert(201);
        if round % 3 == 2 {
            registry.delete(&alice, "/app/-rev/x").await.assert(201);
        }
    }
    stop.send(true).unwrap();
    while let Some(seen) = readers.join_next().await {
        seen.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn fifty_clients_follow_one_download_and_most_hang_up() {
    let upstream = Upstream::start().await;
    let mut package = Package::new("huge", "1.0.0");
    // Nobody looks into it on this way.
    package.tarball = (0..60_000_000_u32 / 4).flat_map(u32::to_le_bytes).collect();
    upstream.has(&[&package]);
    let whole = Bytes::from(std::mem::take(&mut package.tarball));
    let (open, opened) = tokio::sync::watch::channel(false);
    let sent = whole.clone();
    let path = "/huge/-/huge-1.0.0.tgz";
    upstream.plays(path, move |_| {
        let (whole, mut opened) = (sent.clone(), opened.clone());
        async move {
            let length = whole.len();
            let first = stream::iter([Ok::<_, std::io::Error>(whole.slice(..2_000_000))]);
            let rest = stream::once(async move {
                opened.wait_for(|is_open| *is_open).await.unwrap();
                Ok(whole.slice(2_000_000..))
            });
            let headers = [(header::CONTENT_LENGTH, length.to_string())];
            (headers, Body::from_stream(first.chain(rest))).into_response()
        }
    });
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let url = format!("{}{path}", registry.url);
    // All of them have their first bytes before upstream goes on.
    let mut answers = Vec::new();
    for _ in 0..50 {
        let answer = registry.client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answers.push(answer);
    }
    // Most of them hang up, which is nobody else's business.
    answers.truncate(10);
    open.send(true).unwrap();
    let mut readers = JoinSet::new();
    for mut answer in answers {
        let whole = whole.clone();
        readers.spawn(async move {
            let mut at = 0;
            while let Some(chunk) = answer.chunk().await.unwrap() {
                assert!(whole[at..].starts_with(&chunk));
                at += chunk.len();
            }
            assert_eq!(at, whole.len());
        });
    }
    readers.join_all().await;
    assert_eq!(upstream.asked(path), 1);
    assert_eq!(upstream.asked("/huge"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn twenty_who_ask_for_a_cold_document_cost_one_question() {
    let upstream = Upstream::start().await;
    let body = upstream
        .document(&[&Package::new("lib", "1.0.0")])
        .to_string();
    let (open, opened) = tokio::sync::watch::channel(false);
    upstream.plays("/lib", move |_| {
        let (body, mut opened) = (body.clone(), opened.clone());
        async move {
            opened.wait_for(|is_open| *is_open).await.unwrap();
            body.into_response()
        }
    });
    let registry = Arc::new(Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await);
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let registry = Arc::clone(&registry);
        readers.spawn(async move { registry.get("/lib").await.assert(200).body });
    }
    while upstream.asked("/lib") == 0 {
        tokio::task::yield_now().await;
    }
    // Those who come later find the answer.
    open.send(true).unwrap();
    let bodies = readers.join_all().await;
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(upstream.asked("/lib"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn twenty_who_ask_after_a_restart_cost_one_reading() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    registry.get("/lib").await.assert(200);
    upstream.stop().await;
    let folder = registry.stop().await;
    let path = folder.path().join("data/cache/packages/lib/default.json");
    let kept = std::fs::read(&path).unwrap();
    // What can be read once is read once.
    let pipe = Pipe::instead_of(&path);
    let registry = Registry::with(Start {
        variables: vec![("RUSTACCIO_UPSTREAM", "http://127.0.0.1:9".to_owned())],
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let registry = Arc::new(registry);
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let registry = Arc::clone(&registry);
        readers.spawn(async move { registry.get("/lib").await });
    }
    let giving = move || {
        pipe.give(&kept);
        pipe
    };
    let pipe = tokio::task::spawn_blocking(giving).await.unwrap();
    let limit = std::time::Duration::from_secs(20);
    let answers = tokio::time::timeout(limit, readers.join_all()).await;
    pipe.release();
    for answer in answers.expect("somebody waits for another reading") {
        let document = answer.assert(200).json();
        assert!(document["versions"]["1.0.0"].is_object());
    }
}
