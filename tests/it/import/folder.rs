//! A folder that Verdaccio made, taken over into another one.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha1::Digest as _;

use super::{Here, contents, get, get_json, tarball_path};
use crate::support::{Package, registry::client};

/// Puts a package into `folder` as Verdaccio does.
pub(super) fn store(folder: &Path, packages: &[&Package], mixed: bool) {
    let name = &packages[0].name;
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let (mut versions, mut attachments, mut time) = (json!({}), json!({}), json!({}));
    for package in packages {
        versions[&package.version] = package.version_object("http://localhost:4873");
        let sum = package.shasum();
        attachments[package.file()] = json!({ "shasum": sum, "version": package.version });
        time[&package.version] = json!("2020-06-01T00:00:00.000Z");
        fs::write(folder.join(package.file()), &package.tarball).unwrap();
    }
    let last = packages.last().unwrap();
    let uplinks = if mixed {
        json!({ "npmjs": { "etag": "x", "fetched": 1 } })
    } else {
        json!({})
    };
    let document = json!({
        "name": name, "versions": versions, "time": time, "users": {}, "_rev": "3-abc", "_id": name,
        "dist-tags": { "latest": last.version }, "_uplinks": uplinks, "_distfiles": {},
        "_attachments": attachments, "readme": "# Read",
    });
    fs::write(folder.join("package.json"), document.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hosted_there_and_who_may_sign_in_come_over() {
    let theirs = tempfile::tempdir().unwrap();
    let storage = theirs.path().join("storage");
    let packages = ["1.0.0", "1.1.0"].map(|version| Package::new("@team/tool", version));
    let (plain, cached) = (
        Package::new("plain", "1.0.0"),
        Package::new("cached", "1.0.0"),
    );
    store(&storage, &[&packages[0], &packages[1]], false);
    store(&storage, &[&plain], false);
    // What only came from upstream is not in the list.
    store(&storage, &[&cached], true);
    let list = json!({ "list": ["@team/tool", "plain"], "secret": "x".repeat(32) });
    fs::write(storage.join(".verdaccio-db.json"), list.to_string()).unwrap();
    let hash = STANDARD.encode(sha1::Sha1::digest("password"));
    fs::write(storage.join("htpasswd"), format!("alice:{{SHA}}{hash}\n")).unwrap();
    let before = contents(theirs.path());

    let here = Here::new();
    let source = storage.to_str().unwrap();
    let said = here.import(source, &["--dry-run", "--json"]).await.fine();
    assert_eq!(
        (&said.json()["changed"], &said.json()["users"]),
        (&json!(2), &json!(1))
    );
    let said = here.import(source, &["--json"]).await.fine();
    let summary = said.json();
    assert_eq!(
        (&summary["versions"], &summary["users"]),
        (&json!(3), &json!(1)),
        "{summary}"
    );
    let after = contents(&here.data());
    let said = here.import(source, &[]).await.fine();
    assert!(said.text.contains("2 as they should be"), "{}", said.text);
    assert!(contents(&here.data()) == after);
    assert!(contents(theirs.path()) == before, "the source was changed");

    let registry = here.serve();
    let shown = get_json(&format!("{}/@team%2ftool", registry.url)).await;
    assert_eq!(shown["dist-tags"]["latest"], "1.1.0");
    assert_eq!(shown["readme"], "# Read");
    assert_eq!(shown["time"]["1.0.0"], "2020-06-01T00:00:00.000Z");
    for package in [&packages[0], &packages[1], &plain] {
        let (status, bytes) = get(&format!("{}{}", registry.url, tarball_path(package))).await;
        assert_eq!((status, bytes), (200, package.tarball.clone()));
    }
    let (status, _) = get(&format!("{}/cached", registry.url)).await;
    assert_eq!(status, 404);
    let path = format!("{}/-/user/org.couchdb.user:alice", registry.url);
    let body = json!({ "name": "alice", "password": "password" }).to_string();
    let answer = client().put(path).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert!(answer["token"].is_string());
    registry.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_folders_are_told_from_it() {
    let here = Here::new();
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    here.import(path, &[])
        .await
        .fails("no folder that Verdaccio made");
    fs::write(
        empty.path().join(".verdaccio-db.json"),
        r#"{"list":[],"secret":""}"#,
    )
    .unwrap();
    let said = here.import(path, &[]).await.fine();
    assert!(
        said.text.contains("name it with --htpasswd"),
        "{}",
        said.text
    );
    here.import(path, &["--search", "x"])
        .await
        .fails("a folder cannot be searched");
    here.import(path, &["--lockfile", "x"])
        .await
        .fails("--names");
    here.import("/not/there", &[])
        .await
        .fails("https://npm.example.com");
}
