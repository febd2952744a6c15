//! The cache of upstream stays in its bounds; what was used longest ago goes first, and nothing that
//! was published here.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::support::{Package, Registry, Upstream, process::Process};

const DAY: Duration = Duration::from_secs(86_400);

/// The files of one cached package.
fn files_of(data: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("cache/packages").join(name));
    let entries = entries.into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// As if `name` had not been used for so long.
fn age(data: &Path, name: &str, by: Duration) {
    let files = files_of(data, name);
    assert_eq!(files.len(), 2, "{files:?}");
    for path in files {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

/// Whether a tarball of `name` is cached.
fn has(data: &Path, name: &str) -> bool {
    let mut files = files_of(data, name).into_iter();
    files.any(|path| path.extension().is_some_and(|extension| extension == "tgz"))
}

/// Waits for what happens in the background.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(done.is_ok(), "{what}");
}

/// `rustaccio cache` on the data folder of a registry that may be running.
fn cache(data: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Process::command(data, &[]);
    let output = command.arg("cache").args(arguments).output().unwrap();
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn json(data: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let (is_fine, text) = cache(data, &arguments);
    assert!(is_fine, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// An upstream with packages of 300 kB of these names.
async fn upstream_with(names: &[&str]) -> (Upstream, Vec<Package>) {
    let upstream = Upstream::start().await;
    let packages: Vec<Package> = names
        .iter()
        .map(|name| Package::heavy(name, "1.0.0", 300_000))
        .collect();
    for package in &packages {
        upstream.has(&[package]);
    }
    (upstream, packages)
}

async fn install(registry: &Registry, package: &Package) {
    registry
        .get(&format!("/{}", package.name))
        .await
        .assert(200);
    let got = registry.tarball(package).await.assert(200);
    assert_eq!(got.body, package.tarball);
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_when_it_is_too_large() {
    let (upstream, packages) = upstream_with(&["old", "used", "new", "last"]).await;
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let alice = registry.user("alice").await;
    let own = Package::heavy("own", "1.0.0", 1_200_000);
    registry.publish(&alice, &own).await.assert(201);
    let data = registry.data();
    for package in &packages[..3] {
        install(&registry, package).await;
    }
    until("all are kept", || {
        let names = ["old", "used", "new"];
        names.iter().all(|name| files_of(&data, name).len() == 2)
    })
    .await;
    age(&data, "used", 9 * DAY);
    age(&data, "old", 8 * DAY);
    age(&data, "new", 7 * DAY);
    let folder = registry.stop().await;

    let variables = [
        ("RUSTACCIO_UPSTREAM", upstream.url.clone()),
        ("RUSTACCIO_CACHE_MAX_SIZE", "1100kb".to_owned()),
    ];
    let registry = Registry::with(crate::support::registry::Start {
        variables: variables.to_vec(),
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    // It is read from disk, which is a use, though nothing is downloaded.
    install(&registry, &packages[1]).await;
    install(&registry, &packages[3]).await;
    until("it is too large and nobody does anything", || {
        !has(&data, "old")
    })
    .await;
    assert!(has(&data, "used") && has(&data, "new") && has(&data, "last"));
    registry.tarball(&own).await.assert(200);
    // What was evicted comes again.
    install(&registry, &packages[0]).await;
    assert_eq!(upstream.asked("/old/-/old-1.0.0.tgz"), 2);
    assert_eq!(upstream.asked("/used/-/used-1.0.0.tgz"), 1);
}

#[tokio::test]
async fn what_nobody_uses_goes_when_it_is_too_old() {
    let (upstream, packages) = upstream_with(&["old", "new"]).await;
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let data = registry.data();
    for package in &packages {
        install(&registry, package).await;
    }
    until("both are kept", || {
        ["old", "new"]
            .iter()
            .all(|name| files_of(&data, name).len() == 2)
    })
    .await;
    age(&data, "old", 31 * DAY);
    age(&data, "new", 29 * DAY);
    let folder = registry.stop().await;
    let variables = vec![
        ("RUSTACCIO_UPSTREAM", upstream.url.clone()),
        ("RUSTACCIO_CACHE_MAX_AGE", "30d".to_owned()),
    ];
    let _registry = Registry::with(crate::support::registry::Start {
        variables,
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    let old = data.join("cache/packages/old");
    until("the old one stays", || !old.exists()).await;
    assert_eq!(files_of(&data, "new").len(), 2);
}

#[tokio::test]
async fn commands_work_beside_a_registry_that_runs() {
    let (upstream, packages) = upstream_with(&["one", "two", "three"]).await;
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let data = registry.data();
    for package in &packages {
        install(&registry, package).await;
    }
    until("all are kept", || {
        let names = ["one", "two", "three"];
        names.iter().all(|name| files_of(&data, name).len() == 2)
    })
    .await;
    age(&data, "two", 3 * DAY);
    let stats = json(&data, &["stats"]);
    assert_eq!(stats["total"]["files"], 6, "{stats}");
    assert_eq!(
        stats["uplinks"]["default"]["documents"]["files"], 3,
        "{stats}"
    );
    assert_eq!(
        stats["uplinks"]["default"]["tarballs"]["files"], 3,
        "{stats}"
    );
    let bytes: usize = packages.iter().map(|package| package.tarball.len()).sum();
    assert_eq!(stats["tarballs"]["bytes"], bytes);
    let (_, text) = cache(&data, &["stats"]);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name));
    assert!(row("FROM     DOCUMENTS").is_some(), "{text}");
    assert_eq!(row("default").unwrap().matches("  3 files, ").count(), 2);

    let (is_fine, text) = cache(&data, &["prune"]);
    assert!(
        !is_fine && text.contains("RUSTACCIO_CACHE_MAX_SIZE"),
        "{text}"
    );
    let pruned = json(&data, &["prune", "--max-age", "2d"]);
    assert_eq!(
        (&pruned["removed"]["files"], &pruned["kept"]["files"]),
        (&2.into(), &4.into())
    );
    assert!(!has(&data, "two"));
    let cleared = json(&data, &["clear", "--package", "one"]);
    assert_eq!(cleared["removed"]["files"], 2);
    assert!(!has(&data, "one") && has(&data, "three"));
    let none = json(&data, &["clear", "--uplink", "other"]);
    assert_eq!(none["removed"]["files"], 0);
    let (is_fine, text) = cache(&data, &["clear", "--uplink", "default"]);
    assert!(is_fine && text.starts_with("removed 2 files, "), "{text}");
    assert_eq!(json(&data, &["stats"])["total"]["files"], 0);
    for package in &packages {
        install(&registry, package).await;
    }
}
