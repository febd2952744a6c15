//! npm itself against a registry: what users type.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    Package, Registry, Upstream,
    client::{Client, Turn},
    forward_proxy::Door,
    packages::forest,
    registry::Start,
};

fn package(name: &str, version: &str) -> Value {
    json!({ "name": name, "version": version, "description": "made by a test", "keywords": ["found"] })
}

/// Runs `work`, which blocks, beside the registry.
async fn with_npm<T: Send + 'static>(
    registry: &Registry,
    work: impl FnOnce(Client) -> T + Send + 'static,
) -> T {
    let npm = Client::npm(&registry.url);
    tokio::task::spawn_blocking(move || work(npm))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_tokens() {
    let registry = Registry::alone().await;
    with_npm(&registry, |npm| {
        let turns = || {
            vec![
                Turn::new("Username:", "alice"),
                Turn::new("Password:", "s3cret-1"),
            ]
        };
        npm.converse("login --auth-type=legacy", turns());
        assert_eq!(npm.ok(&["whoami"]).trim(), "alice");
        npm.ok(&["logout"]);
        assert!(npm.fails_in(npm.home(), &["whoami"]).contains("ENEEDAUTH"));
        npm.converse("login --auth-type=legacy", turns());
        assert_eq!(npm.ok(&["whoami"]).trim(), "alice");
        npm.ok(&["ping"]);
        let profile: Value = serde_json::from_str(&npm.ok(&["profile", "get", "--json"])).unwrap();
        assert_eq!(profile["name"], "alice");
        npm.converse(
            "token create --name=ci",
            vec![Turn::new("assword:", "s3cret-1")],
        );
        let tokens: Value = serde_json::from_str(&npm.ok(&["token", "list", "--json"])).unwrap();
        let tokens = tokens.as_array().unwrap();
        assert_eq!(tokens.len(), 2);
        for token in tokens {
            npm.run_in(
                npm.home(),
                &["token", "revoke", token["key"].as_str().unwrap()],
            );
        }
        assert!(npm.fails_in(npm.home(), &["whoami"]).contains("E401"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_package() {
    let registry = Registry::alone().await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let url = registry.url.clone();
    with_npm(&registry, move |npm| {
        npm.sign_in_with(&url, &alice.token);
        for name in ["plain", "@acme/scoped"] {
            let folder = npm.project(name, &package(name, "1.0.0"));
            fs::write(folder.join("index.js"), "module.exports = 42\n").unwrap();
            npm.ok_in(&folder, &["publish", "--access=public"]);
            let again = npm.fails_in(&folder, &["publish"]);
            assert!(again.contains("publish over"), "{again}");
            npm.project(name, &package(name, "1.1.0-beta.1"));
            npm.ok_in(&folder, &["publish", "--tag=beta"]);
            assert_eq!(npm.ok(&["view", name, "version"]).trim(), "1.0.0");
            npm.ok(&["dist-tag", "add", &format!("{name}@1.0.0"), "stable"]);
            npm.ok(&["dist-tag", "rm", name, "beta"]);
            let tags = npm.ok(&["dist-tag", "ls", name]);
            assert!(
                tags.contains("stable: 1.0.0") && !tags.contains("beta:"),
                "{tags}"
            );
            npm.ok(&["deprecate", &format!("{name}@<1.0.1"), "too old"]);
            assert_eq!(
                npm.ok(&["view", &format!("{name}@1.0.0"), "deprecated"])
                    .trim(),
                "too old"
            );
            npm.ok(&["deprecate", &format!("{name}@<1.0.1"), ""]);
            assert_eq!(
                npm.ok(&["view", &format!("{name}@1.0.0"), "deprecated"])
                    .trim(),
                ""
            );
            npm.ok(&["owner", "add", "bob", name]);
            let owners = npm.ok(&["owner", "ls", name]);
            assert!(
                owners.contains("alice") && owners.contains("bob"),
                "{owners}"
            );
            npm.ok(&["owner", "rm", "bob", name]);
        }
        let found = npm.ok(&["search", "found", "--json"]);
        assert!(
            found.contains("plain") && found.contains("@acme/scoped"),
            "{found}"
        );

        let other = Client::npm(&url);
        other.sign_in_with(&url, &bob.token);
        let project = other.project("project", &package("project", "1.0.0"));
        other.ok_in(&project, &["install", "plain", "@acme/scoped"]);
        let code = fs::read_to_string(project.join("node_modules/@acme/scoped/index.js"));
        assert_eq!(code.unwrap(), "module.exports = 42\n");

        npm.ok(&["unpublish", "plain@1.1.0-beta.1"]);
        let left: Value =
            serde_json::from_str(&npm.ok(&["view", "plain", "versions", "--json"])).unwrap();
        assert!(left == json!("1.0.0") || left == json!(["1.0.0"]), "{left}");
        npm.ok(&["unpublish", "@acme/scoped", "--force"]);
        assert!(
            npm.fails_in(npm.home(), &["view", "@acme/scoped"])
                .contains("E404")
        );
        let _ = fs::remove_dir_all(other.home().join(".npm"));
        fs::remove_dir_all(project.join("node_modules")).unwrap();
        let gone = other.fails_in(&project, &["ci"]);
        assert!(gone.contains("E404"), "{gone}");
    })
    .await;
}

/// The integrity that the lockfile has for each package.
fn locked(project: &Path) -> BTreeMap<String, String> {
    let lock: Value =
        serde_json::from_slice(&fs::read(project.join("package-lock.json")).unwrap()).unwrap();
    let packages = lock["packages"].as_object().unwrap().iter();
    packages
        .filter_map(|(path, entry)| {
            let name = path.rsplit_once("node_modules/")?.1;
            Some((name.to_owned(), entry["integrity"].as_str()?.to_owned()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_of_hundreds_installs_cold_warm_and_without_upstream() {
    const COUNT: usize = 500;
    let upstream = Upstream::start().await;
    let packages = Arc::new(forest(COUNT));
    for package in packages.values() {
        upstream.has(&[package]);
    }
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let registry = Registry::with_file(&file).await;
    let install = |packages: Arc<BTreeMap<String, Package>>| {
        move |npm: Client| {
            let needs: BTreeMap<&String, &str> =
                packages.keys().map(|name| (name, "^1.0.0")).collect();
            let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
            let project = npm.project("project", &manifest);
            npm.ok_in(&project, &["install"]);
            let locked = locked(&project);
            assert_eq!(locked.len(), COUNT);
            for (name, integrity) in locked {
                assert_eq!(integrity, packages[&name].integrity(), "{name}");
            }
            fs::remove_dir_all(project.join("node_modules")).unwrap();
            let _ = fs::remove_dir_all(npm.home().join(".npm"));
            npm.ok_in(&project, &["ci"]);
        }
    };
    with_npm(&registry, install(Arc::clone(&packages))).await;
    // It retries nothing; and it asks on few connections, which thus last.
    let door = Door::new().await;
    let url = door.url.clone();
    let connections = door.lead_to(&registry.url);
    let work = install(Arc::clone(&packages));
    tokio::task::spawn_blocking(move || work(Client::npm(&url)))
        .await
        .unwrap();
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections < COUNT / 5, "{connections} connections");
    for package in packages.values() {
        let path = format!("/{}/-/{}", package.name, package.file());
        assert_eq!(upstream.asked(&path), 1, "{path}");
    }
    upstream.stop().await;
    with_npm(&registry, install(Arc::clone(&packages))).await;
    let folder = registry.stop().await;
    let registry = Registry::with(Start {
        file: &file,
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    with_npm(&registry, install(packages)).await;
}
