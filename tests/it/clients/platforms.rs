//! Packages for some machines only, and what else of a package decides what is installed with it.

use std::{fs, path::Path};

use serde_json::json;

use super::installing::Address;
use crate::support::{Package, Registry, Upstream, client::Client};

/// What upstream has: `app`, which brings `bundled` along, may go without its peer, and has a part
/// for each kind of machine.
fn stock(upstream: &Upstream) {
    let optional = ["on-glibc", "on-musl", "on-aix", "on-s390x", "on-all"];
    let optional: serde_json::Map<_, _> = optional
        .iter()
        .map(|name| ((*name).to_owned(), json!("^1.0.0")))
        .collect();
    let app = Package::with(
        "app",
        "1.0.0",
        &json!({
            "bin": { "app-command": "cli.js" },
            "dependencies": { "bundled": "^1.0.0" },
            "bundleDependencies": ["bundled"],
            "peerDependencies": { "missing-peer": "^1.0.0" },
            "peerDependenciesMeta": { "missing-peer": { "optional": true } },
            "optionalDependencies": optional,
        }),
        &[
            ("cli.js", b"#!/usr/bin/env node\n"),
            ("node_modules/bundled/index.js", b"module.exports = 1\n"),
            (
                "node_modules/bundled/package.json",
                br#"{"name":"bundled","version":"1.0.0"}"#,
            ),
        ],
    );
    let parts = [
        ("on-glibc", json!({ "os": ["linux"], "libc": ["glibc"] })),
        ("on-musl", json!({ "os": ["linux"], "libc": ["musl"] })),
        ("on-aix", json!({ "os": ["aix"] })),
        ("on-s390x", json!({ "cpu": ["s390x"] })),
        ("on-all", json!({})),
    ];
    upstream.has(&[&app]);
    upstream.has(&[&Package::new("bundled", "1.0.0")]);
    for (name, fields) in parts {
        upstream.has(&[&Package::with(name, "1.0.0", &fields, &[])]);
    }
}

/// Whether a package lies anywhere below `folder`.
fn has(folder: &Path, name: &str) -> bool {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .any(|entry| {
            let path = entry.path();
            let is_it = path.ends_with(name) && path.join("package.json").is_file();
            is_it || has(&path, name)
        })
}

async fn installs_what_fits(name: &'static str) {
    let upstream = Upstream::start().await;
    stock(&upstream);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let url = registry.url.clone();
    let work = move || {
        let installer = super::installer(name);
        let mut client = Client::new(name);
        installer.point(&mut client, Address::of(&url));
        installer.trust_what_is_new(&mut client);
        let folder = client.project("project", &super::scene::project("project", &["app"]));
        client.ok_in(&folder, &installer.install());
        let modules = folder.join("node_modules");
        assert!(modules.join(".bin/app-command").exists());
        assert!(has(&modules, "bundled") && has(&modules, "on-all"));
        for other in ["on-aix", "on-s390x", "missing-peer"] {
            assert!(!has(&modules, other), "{other}");
        }
        // Older ones do not know of C libraries.
        if !matches!(name, "npm-9" | "yarn-1") {
            let found = ["on-glibc", "on-musl"].map(|name| has(&modules, name));
            assert_eq!(found.iter().filter(|found| **found).count(), 1, "{found:?}");
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    // Yarn 1 and Bun look for it even so.
    if name.contains("npm") {
        assert_eq!(upstream.asked("/bundled"), 0);
    }
}

macro_rules! fits {
    ($($test:ident $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                installs_what_fits($name).await;
            }
        )*
    };
}

fits! {
    npm_9 "npm-9",
    npm_12 "npm-12",
    pnpm_10 "pnpm-10",
    pnpm_12 "pnpm-12",
    yarn_1 "yarn-1",
    bun_1 "bun-1",
}
