//! Lockfiles that the clients themselves have written.

use std::{collections::BTreeSet, fs, path::Path};

use rustaccio::lockfile::Lockfile;
use serde_json::json;

use super::Here;
use crate::support::{Package, Upstream};

/// What each of them names; both are of one project.
const LOCKED: [(&str, &str); 8] = [
    ("@lock/leaf", "1.0.0"),
    ("@lock/leaf", "2.0.0"),
    ("lock-darwin", "1.0.0"),
    ("lock-dev", "0.1.0"),
    ("lock-linux", "1.0.0"),
    ("lock-mid", "1.0.0"),
    ("lock-peer", "1.0.0"),
    ("lock-top", "1.2.0"),
];

/// All of them by name; `registry` stands where they were made with `http://localhost`.
pub(super) fn written(registry: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/import/lockfiles");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<(String, String)> = entries
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, text.replace("http://localhost", registry))
        })
        .collect();
    files.sort();
    assert_eq!(files.len(), 9);
    files
}

/// A registry with all of it.
pub(super) async fn source() -> Upstream {
    let upstream = Upstream::start().await;
    let package = |(name, version): &(&str, &str)| Package::new(name, version);
    let packages: Vec<Package> = LOCKED.iter().map(package).collect();
    upstream.has(&[&packages[0], &packages[1]]);
    for package in &packages[2..] {
        upstream.has(&[package]);
    }
    upstream
}

#[test]
fn each_form_names_the_same_packages() {
    for (file, text) in written("http://localhost") {
        let lockfile = Lockfile::parse(text.as_bytes()).unwrap();
        let found: BTreeSet<(&str, &str)> = lockfile
            .packages
            .iter()
            .map(|locked| (locked.name.as_str(), locked.version.as_str()))
            .collect();
        assert_eq!(found, BTreeSet::from(LOCKED), "{file}");
        let knows_dev = [
            "npm-6.json",
            "npm-8.json",
            "npm-12.json",
            "pnpm-7.yaml",
            "pnpm-8.yaml",
        ];
        assert_eq!(
            lockfile.knows_dev,
            knows_dev.contains(&file.as_str()),
            "{file}"
        );
        for locked in &lockfile.packages {
            let is_dev = lockfile.knows_dev && locked.name.as_str() == "lock-dev";
            assert_eq!(locked.is_dev, is_dev, "{file} {}", locked.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_names_what_is_imported() {
    let upstream = source().await;
    let here = Here::new();
    for (file, text) in written(&upstream.url) {
        let path = here.file(&file, &text);
        let said = here
            .import(&upstream.url, &["--lockfile", &path, "--dry-run", "--json"])
            .await;
        let summary = said.fine().json();
        assert_eq!(
            (&summary["changed"], &summary["versions"]),
            (&json!(7), &json!(8)),
            "{file}"
        );
    }
    // What comes from another registry is not ours to take.
    let (_, text) = written("http://elsewhere.invalid").remove(1);
    let path = here.file("package-lock.json", &text);
    let said = here.import(&upstream.url, &["--lockfile", &path]).await;
    said.fails("no package of the lockfile comes from");
    // Where the lockfile leaves it to the settings, they say.
    let (file, text) = written(&upstream.url).remove(6);
    assert_eq!(file, "pnpm-8.yaml");
    let path = here.file("pnpm-lock.yaml", &text);
    let npmrc = format!(
        "registry=http://elsewhere.invalid/\n@lock:registry={}/\n",
        upstream.url
    );
    let npmrc = here.file("npmrc", &npmrc);
    let said = here
        .import(
            &upstream.url,
            &["--lockfile", &path, "--npmrc", &npmrc, "--json"],
        )
        .await;
    assert_eq!(said.fine().json()["packages"], 1);
}
