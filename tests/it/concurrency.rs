//! Many at once: nothing is lost, nothing is done twice.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Package, Registry, User, registry::Start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_package_never_lose_each_others_versions() {
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
async fn one_of_many_publishers_of_one_version_wins() {
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
async fn two_hundred_register_at_once() {
    let registry = Arc::new(Registry::alone().await);
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
    let path = registry.data().join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(state["users"].as_object().unwrap().len(), 200);
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
async fn publishing_unpublishing_and_reading_at_once_never_shows_half_of_it() {
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
