//! Reindexing and the report on storage, in a bucket and with manifests in Postgres.

use reqwest::Method;
use serde_json::{Value, json};

use super::manifest;
use crate::{
    storage_reports::{health, reindex},
    support::{
        Package, Registry,
        bucket::{Bucket, s3_at, s3_endpoint},
        process::Process,
        wire::{Line, Wire},
    },
};

const ADMIN: (&str, &str) = ("RUSTACCIO_ADMIN_USERS", "root");

#[tokio::test]
async fn a_bucket_is_reported_on_and_reindexed() {
    let bucket = Bucket::s3().await;
    let node = bucket.node_with(&[ADMIN]).await;
    let root = node.user("root").await;
    for name in ["app", "@s/lost"] {
        let package = Package::new(name, "1.0.0");
        node.publish(&root, &package).await.assert(201);
    }
    // An older layout, and one where only the list of Verdaccio's plugin tells the name.
    let old = Package::new("@old/dashed", "1.0.0");
    bucket
        .put("@old__dashed/package.json", manifest(&[&old]))
        .await;
    bucket
        .put("@old__dashed/-/dashed-1.0.0.tgz", old.tarball.clone())
        .await;
    let listed = Package::new("@old/two__slashes", "1.0.0");
    bucket
        .put(
            "@old__two__slashes/two__slashes-1.0.0.tgz",
            listed.tarball.clone(),
        )
        .await;
    let names = json!({ "list": ["@old/two__slashes", "no such name!", "nothing"] });
    bucket.put("verdaccio-s3-db.json", names.to_string()).await;
    bucket.delete("@s/lost/package.json").await;
    bucket.put("app/app-9.0.0.tgz", "an orphan").await;
    let report = health(&node, &root).await;
    assert_eq!(
        report["problems"],
        json!({
            "tarballsWithoutSidecar": ["@old/two__slashes", "@s/lost"],
            "sidecarsWithoutTarballs": [],
            "tarballsMissingFromManifest": ["app/-/app-9.0.0.tgz"],
            "manifestAttachmentsMissingBlob": [],
            "damagedSidecars": [],
            "staleStatePackages": ["@s/lost"],
        })
    );
    let summary = &report["summary"];
    assert_eq!(summary["backendPackages"], 4);
    assert_eq!(summary["backendTarballs"], 5);
    assert_eq!(summary["sidecarPackages"], 2);
    assert_eq!(summary["legacyVerdaccioIndexPackages"], 2);
    let done = reindex(&node, &root).await;
    assert_eq!(
        done,
        json!({
            "ok": true, "changed": true,
            "packagesBefore": 2, "packagesAfter": 4, "sidecarsSynced": 2,
        })
    );
    // Nobody but an administrator sees those that were lost.
    let lost = Package::new("@s/lost", "1.0.0");
    node.tarball(&old).await.assert(200);
    node.tarball(&lost).await.assert(404);
    for package in [&lost, &old, &listed] {
        let path = format!("/{}/-/{}", package.name, package.file());
        let tarball = node.get_as(&root, &path).await.assert(200);
        assert_eq!(tarball.body, package.tarball);
    }
    let found = node.get("/-/v1/search?text=").await.json();
    assert_eq!(found["total"], 2);
}

#[tokio::test]
async fn a_package_is_listed_once_for_a_report() {
    let bucket = Bucket::s3().await;
    let line = Line::to(&s3_endpoint()).await;
    let node = bucket
        .node_with(&[ADMIN, ("RUSTACCIO_S3_ENDPOINT", &line.url)])
        .await;
    let root = node.user("root").await;
    let names = ["counted-one", "counted-two", "counted-three"];
    for name in names {
        let package = Package::new(&format!("@s/{name}"), "1.0.0");
        node.publish(&root, &package).await.assert(201);
    }
    // In an older place, and with an orphan there.
    let old = Package::new("@s/old", "1.0.0");
    bucket.put("@s__old/package.json", manifest(&[&old])).await;
    bucket
        .put("@s__old/-/old-1.0.0.tgz", old.tarball.clone())
        .await;
    bucket.put("@s%2fold/-/old-2.0.0.tgz", "an orphan").await;
    line.take_asked();
    let report = health(&node, &root).await;
    let orphans = &report["problems"]["tarballsMissingFromManifest"];
    assert_eq!(*orphans, json!(["@s/old/-/old-2.0.0.tgz"]));
    assert_eq!(report["summary"]["backendTarballs"], 5);
    let asked = line.take_asked();
    for name in names {
        let listings = asked
            .iter()
            .filter(|line| line.contains("list-type=") && line.contains(name));
        assert_eq!(listings.count(), 1, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_reported_as_that() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node_with(&[ADMIN]).await;
    let root = node.user("root").await;
    // So that she is known while the store is not there.
    node.get_as(&root, "/-/whoami").await.assert(200);
    line.set(Wire::Cut);
    let path = "/-/admin/storage-health";
    let answer = node.get_as(&root, path).await.assert(503);
    assert_eq!(answer.json()["code"], "STORAGE_UNAVAILABLE");
    line.set(Wire::Whole);
    assert_eq!(health(&node, &root).await["ok"], true);
}

#[tokio::test]
async fn one_at_a_time_until_the_client_hangs_up() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node_with(&[ADMIN]).await;
    let root = node.user("root").await;
    for number in 0..20 {
        let package = Package::new(&format!("app-{number}"), "1.0.0");
        let key = format!("app-{number}/package.json");
        bucket.put(&key, manifest(&[&package])).await;
    }
    for (method, path) in [
        (Method::GET, "/-/admin/storage-health"),
        (Method::POST, "/-/admin/reindex"),
    ] {
        let ask = || {
            let request = node.request(method.clone(), path);
            request.bearer_auth(&root.token)
        };
        let mut first = ask().send().await.unwrap();
        assert!(first.chunk().await.unwrap().is_some());
        // It cannot come to its end; who is there already is known without the store.
        line.set(Wire::Stuck);
        let second = node.send(ask()).await;
        if second.status == 200 {
            // It had come to its end before.
            line.set(Wire::Whole);
            continue;
        }
        assert!(second.assert(409).error().contains("already"));
        drop(first);
        line.set(Wire::Whole);
        // The one that nobody waits for makes room.
        let begun = std::time::Instant::now();
        while node.send(ask()).await.status == 409 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// What `rustaccio fsck` prints with these settings.
#[cfg(feature = "postgres")]
fn fsck(data: &std::path::Path, settings: &[(&str, String)], arguments: &[&str]) -> String {
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut command = Process::command(data, &settings);
    let output = command.arg("fsck").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn manifests_in_postgres_are_checked_against_tarballs_anywhere() {
    use crate::support::postgres::{schema, variables};
    use sqlx::{Connection as _, Executor as _};

    let bucket = Bucket::s3().await;
    for in_bucket in [false, true] {
        let url = schema().await;
        let mut settings = variables(&url);
        settings.push((ADMIN.0, ADMIN.1.to_owned()));
        if in_bucket {
            settings.extend(bucket.variables.clone());
        }
        let start = |folder| crate::support::registry::Start {
            variables: settings.clone(),
            folder,
            ..Default::default()
        };
        let node = Registry::with(start(None)).await;
        let root = node.user("root").await;
        for name in ["lost", "@s/app"] {
            let package = Package::new(name, "1.0.0");
            node.publish(&root, &package).await.assert(201);
        }
        let mut database = sqlx::PgConnection::connect(&url).await.unwrap();
        let statement = "DELETE FROM manifests WHERE name = 'lost'";
        database.execute(statement).await.unwrap();
        let report = health(&node, &root).await;
        assert_eq!(
            report["problems"]["tarballsWithoutSidecar"],
            json!(["lost"])
        );
        assert_eq!(report["summary"]["sidecarPackages"], 1);
        let done = reindex(&node, &root).await;
        assert_eq!(done["sidecarsSynced"], 1, "{done}");
        assert_eq!(done["packagesAfter"], 2);
        node.get("/lost").await.assert(200);

        database.execute(statement).await.unwrap();
        let orphan = "an orphan";
        let hurt = "@s/app/app-1.0.0.tgz";
        if in_bucket {
            bucket.put("lost/lost-9.0.0.tgz", orphan).await;
            bucket.delete(hurt).await;
        }
        let folder = node.stop().await;
        let data = folder.path().join("data");
        if !in_bucket {
            let tarballs = data.join("tarballs");
            std::fs::write(tarballs.join("lost/lost-9.0.0.tgz"), orphan).unwrap();
            std::fs::remove_file(tarballs.join("@s__app/app-1.0.0.tgz")).unwrap();
        }
        let fsck = |arguments: &[&str]| fsck(&data, &settings, arguments);
        let report = fsck(&[]);
        for line in [
            "lost: tarballs, and no manifest",
            "@s/app@1.0.0: the tarball is missing",
        ] {
            assert!(report.contains(line), "{report}");
        }
        let report = fsck(&["--repair"]);
        // A tarball that is in no folder here may be in another node's.
        let repaired = if in_bucket { 3 } else { 2 };
        let expected = format!("3 problems, {repaired} put right");
        assert!(report.contains(&expected), "{report}");
        let left = fsck(&[]);
        assert_eq!(left.contains("all fine"), in_bucket, "{left}");
        let node = Registry::with(start(Some(folder))).await;
        let lost = Package::new("lost", "1.0.0");
        assert_eq!(node.tarball(&lost).await.assert(200).body, lost.tarball);
        if !in_bucket {
            node.get("/@s%2fapp").await.assert(200);
            continue;
        }
        node.get("/@s%2fapp").await.assert(404);
        let report: Value = health(&node, &root).await;
        let problems = report["problems"].as_object().unwrap().values();
        assert!(
            problems.filter_map(Value::as_array).all(Vec::is_empty),
            "{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_before_the_store_went_away_is_said() {
    let bucket = Bucket::s3().await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    let names = ["first", "l-1", "l-2", "l-3", "l-4", "l-5", "m"];
    for name in names {
        let package = Package::new(name, "1.0.0");
        node.publish(&alice, &package).await.assert(201);
    }
    drop(node.stop().await);
    bucket.delete("first/first-1.0.0.tgz").await;
    let line = Line::to(&s3_endpoint()).await;
    line.cut_at("/l-1/package.json");
    let mut variables = bucket.variables.clone();
    variables.push(("RUSTACCIO_S3_ENDPOINT", line.url.clone()));
    let done = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut command = Process::command(folder.path(), &variables);
        command.arg("fsck").output().unwrap()
    });
    let output = done.await.unwrap();
    assert!(!output.status.success());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, why) = (text(output.stdout), text(output.stderr));
    assert!(
        said.contains("first@1.0.0: the tarball is missing"),
        "{said}"
    );
    assert!(
        said.contains("l-1: the manifest could not be read"),
        "{said}"
    );
    assert!(
        !said.contains("all fine") && !said.contains("packages,"),
        "{said}"
    );
    assert!(why.contains("it did not come to its end"), "{why}");
}
