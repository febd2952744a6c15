//! Reindexing and the report on storage, on one disk.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Package, Registry, User, registry::Start};

const ADMIN: (&str, &str) = ("RUSTACCIO_ADMIN_USERS", "root");

pub(crate) async fn reindex(registry: &Registry, user: &User) -> Value {
    let path = "/-/admin/reindex";
    let done = registry.send_json(Some(user), Method::POST, path, &Value::Null);
    let done = done.await.assert(200);
    assert_eq!(done.headers["x-accel-buffering"], "no");
    done.json()
}

pub(crate) async fn health(registry: &Registry, user: &User) -> Value {
    let report = registry.get_as(user, "/-/admin/storage-health").await;
    report.assert(200).json()
}

async fn found(registry: &Registry) -> Value {
    let found = registry.get("/-/v1/search?text=&size=250").await.json();
    let found = found["objects"].as_array().unwrap().iter();
    let mut found: Vec<Value> = found.map(|hit| hit["package"]["name"].clone()).collect();
    found.sort_by_key(ToString::to_string);
    found.into()
}

#[tokio::test]
async fn the_report_names_what_does_not_fit_together() {
    let registry = Registry::start(&[ADMIN]).await;
    let root = registry.user("root").await;
    let nothing = json!({
        "tarballsWithoutSidecar": [], "sidecarsWithoutTarballs": [],
        "tarballsMissingFromManifest": [], "manifestAttachmentsMissingBlob": [],
        "damagedSidecars": [], "staleStatePackages": [],
    });
    let counts = |packages: u32, tarballs: u32, manifests: u32, state: u32| {
        json!({
            "backendPackages": packages, "backendTarballs": tarballs,
            "sidecarPackages": manifests, "statePackages": state,
            "legacyVerdaccioIndexPackages": 0,
        })
    };
    let empty = json!({ "ok": true, "summary": counts(0, 0, 0, 0), "problems": nothing });
    assert_eq!(health(&registry, &root).await, empty);
    for name in [
        "whole", "@s/lost", "hurt", "bare", "broken", "gone", "removed",
    ] {
        for version in ["1.0.0", "2.0.0"] {
            let package = Package::new(name, version);
            registry.publish(&root, &package).await.assert(201);
        }
    }
    registry
        .delete(&root, "/removed/-rev/any")
        .await
        .assert(201);
    let fine = json!({ "ok": true, "summary": counts(6, 12, 6, 6), "problems": nothing });
    assert_eq!(health(&registry, &root).await, fine);

    let tarballs = registry.data().join("tarballs");
    fs::remove_file(tarballs.join("@s__lost/package.json")).unwrap();
    fs::remove_file(tarballs.join("hurt/hurt-1.0.0.tgz")).unwrap();
    fs::write(tarballs.join("hurt/hurt-8.0.0.tgz"), "orphan").unwrap();
    fs::write(tarballs.join("hurt/hurt-9.0.0.tgz"), "orphan").unwrap();
    for version in ["1.0.0", "2.0.0"] {
        fs::remove_file(tarballs.join(format!("bare/bare-{version}.tgz"))).unwrap();
    }
    fs::write(tarballs.join("broken/package.json"), "{ half").unwrap();
    fs::remove_dir_all(tarballs.join("gone")).unwrap();
    let problems = json!({
        "tarballsWithoutSidecar": ["@s/lost"],
        "sidecarsWithoutTarballs": ["bare"],
        "tarballsMissingFromManifest": ["hurt/-/hurt-8.0.0.tgz", "hurt/-/hurt-9.0.0.tgz"],
        "manifestAttachmentsMissingBlob":
            ["bare/-/bare-1.0.0.tgz", "bare/-/bare-2.0.0.tgz", "hurt/-/hurt-1.0.0.tgz"],
        "damagedSidecars": ["broken"],
        "staleStatePackages": ["@s/lost", "broken", "gone"],
    });
    let expected = json!({ "ok": true, "summary": counts(4, 9, 4, 6), "problems": problems });
    assert_eq!(health(&registry, &root).await, expected);
}

#[tokio::test]
async fn reindexing_finds_what_came_and_forgets_what_went() {
    let other = Registry::alone().await;
    let registry = Registry::start(&[ADMIN]).await;
    let root = registry.user("root").await;
    let alice = other.user("alice").await;
    let nothing = json!({
        "ok": true, "changed": false, "packagesBefore": 0, "packagesAfter": 0, "sidecarsSynced": 0,
    });
    assert_eq!(reindex(&registry, &root).await, nothing);
    let kept = Package::new("kept", "1.0.0");
    for name in ["kept", "going", "lost"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&root, &package).await.assert(201);
    }
    let come = Package::new("@s/come", "1.0.0");
    other.publish(&alice, &come).await.assert(201);
    let tarballs = registry.data().join("tarballs");
    let folder = |registry: &Registry| registry.data().join("tarballs/@s__come");
    fs::rename(folder(&other), folder(&registry)).unwrap();
    fs::remove_dir_all(tarballs.join("going")).unwrap();
    fs::remove_file(tarballs.join("lost/package.json")).unwrap();
    // No version is made of a tarball where there is a manifest.
    fs::write(tarballs.join("kept/kept-2.0.0.tgz"), &come.tarball).unwrap();
    let done = reindex(&registry, &root).await;
    let expected = json!({
        "ok": true, "changed": true, "packagesBefore": 2, "packagesAfter": 3, "sidecarsSynced": 1,
    });
    assert_eq!(done, expected);
    assert_eq!(found(&registry).await, json!(["@s/come", "kept", "lost"]));
    let shown = registry.get("/kept").await.assert(200).json();
    assert_eq!(shown["versions"].as_object().unwrap().len(), 1);
    assert_eq!(registry.tarball(&kept).await.assert(200).body, kept.tarball);
    let lost = Package::new("lost", "1.0.0");
    assert_eq!(registry.tarball(&lost).await.assert(200).body, lost.tarball);
    let again = reindex(&registry, &root).await;
    assert_eq!(
        (&again["changed"], &again["packagesBefore"]),
        (&json!(false), &json!(3))
    );
}

#[tokio::test]
async fn only_administrators_may_and_a_failure_is_no_report() {
    let registry = Registry::start(&[ADMIN]).await;
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    for name in ["a", "b", "zzz"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&root, &package).await.assert(201);
    }
    let asked = [
        (Method::POST, "/-/admin/reindex"),
        (Method::GET, "/-/admin/storage-health"),
    ];
    // A manifest that is a folder cannot be read, and nobody knows what is in it.
    let manifest = registry.data().join("tarballs/zzz/package.json");
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    for (method, path) in asked {
        registry
            .send(registry.request(method.clone(), path))
            .await
            .assert(401);
        let request = registry.request(method.clone(), path);
        registry
            .send(request.bearer_auth(&alice.token))
            .await
            .assert(403);
        let request = registry.request(method, path).bearer_auth(&root.token);
        // It breaks off, before or after the first bytes have come.
        if let Ok(answer) = request.send().await {
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.is_err(), "{path}: half of an answer");
        }
    }
    // Others are served, and it may be tried again.
    registry.get("/a").await.assert(200);
    fs::remove_dir(&manifest).unwrap();
    assert_eq!(reindex(&registry, &root).await["sidecarsSynced"], 1);
    registry.get("/zzz").await.assert(200);
}

#[tokio::test]
async fn a_folder_that_changes_under_a_node_is_searched_again() {
    let other = Registry::alone().await;
    let registry = Registry::with(Start {
        variables: vec![("RUSTACCIO_PACKAGE_DISCOVERY_REFRESH_SECS", "1".to_owned())],
        ..Start::default()
    })
    .await;
    let alice = other.user("alice").await;
    let package = Package::new("app", "1.0.0");
    other.publish(&alice, &package).await.assert(201);
    assert_eq!(found(&registry).await, json!([]));
    let folder = |registry: &Registry| registry.data().join("tarballs/app");
    fs::rename(folder(&other), folder(&registry)).unwrap();
    let begun = std::time::Instant::now();
    while found(&registry).await != json!(["app"]) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
