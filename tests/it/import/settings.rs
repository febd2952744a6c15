//! A folder that Verdaccio made, found through its settings, into every kind of storage.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha1::Digest as _;

use super::{Here, folder::store, get, tarball_path};
use crate::support::{
    Package,
    backend::{Backend, fresh},
    registry::client,
};

/// Settings of Verdaccio's in `folder`, with a package in a rule's own folder, another one, and a user
/// elsewhere.
fn settings_beside(folder: &Path) -> ([Package; 2], String) {
    let storage = folder.join("kept");
    let packages = ["@team/tool", "plain"].map(|name| Package::new(name, "1.0.0"));
    store(&storage.join("apart"), &[&packages[0]], false);
    store(&storage, &[&packages[1]], false);
    let list = json!({ "list": ["@team/tool", "plain"], "secret": "x".repeat(32) });
    fs::write(storage.join(".verdaccio-db.json"), list.to_string()).unwrap();
    let hash = STANDARD.encode(sha1::Sha1::digest("password"));
    fs::write(folder.join("people"), format!("alice:{{SHA}}{hash}\n")).unwrap();
    let settings = folder.join("config.yaml");
    let text = "storage: ./kept\nauth: { htpasswd: { file: ./people } }\npackages:\n  \
                '@team/*': { access: $all, storage: apart }\n  '**': { access: $all }\n";
    fs::write(&settings, text).unwrap();
    (packages, settings.to_str().unwrap().to_owned())
}

async fn signs_in(url: &str) {
    let path = format!("{url}/-/user/org.couchdb.user:alice");
    let body = json!({ "name": "alice", "password": "password" }).to_string();
    let answer = client().put(path).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_verdaccio_lead_to_packages_and_users() {
    let theirs = tempfile::tempdir().unwrap();
    let (packages, settings) = settings_beside(theirs.path());
    for backend in [Backend::Folder, Backend::FolderAndDatabase, Backend::Bucket] {
        let variables = fresh(backend).await;
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let here = Here::with(&variables);
        let said = here.import(&settings, &["--json"]).await.fine().json();
        let counts = (&said["versions"], &said["users"]);
        assert_eq!(counts, (&json!(2), &json!(1)), "{backend:?}: {said}");
        let registry = here.serve();
        for package in &packages {
            let (status, bytes) = get(&format!("{}{}", registry.url, tarball_path(package))).await;
            assert_eq!((status, bytes), (200, package.tarball.clone()));
        }
        signs_in(&registry.url).await;
        registry.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_moves_into_a_bucket_with_its_settings() {
    let theirs = tempfile::tempdir().unwrap();
    let (packages, settings) = settings_beside(theirs.path());
    let variables = fresh(Backend::Bucket).await;
    let mut variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let storage = theirs.path().join("kept");
    let storage = storage.to_str().unwrap();
    variables.push(("RUSTACCIO_DATA_DIR", storage));
    let there = Here::with(&variables);
    let moves = ["-c", &settings, "migrate", "to-bucket"];
    there.run(&moves).await.fine();
    variables.pop();
    let here = Here::with(&variables);
    let registry = here.serve();
    for package in &packages {
        let (status, bytes) = get(&format!("{}{}", registry.url, tarball_path(package))).await;
        assert_eq!((status, bytes), (200, package.tarball.clone()));
    }
    registry.stop();
}
