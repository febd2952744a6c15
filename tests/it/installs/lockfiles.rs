//! Lockfiles, and the addresses in them: what was locked once installs again, unchanged.

use std::fs;

use deno_npmrc::NPM_DEFAULT_REGISTRY;

use super::*;
use crate::support::front::{Front, for_document};

/// Upstream's `left`, which needs `@up/right`.
fn stock(upstream: &Upstream) {
    let fields = json!({ "dependencies": { "@up/right": "^1.0.0" } });
    upstream.has(&[&Package::with("left", "1.0.0", &fields, &[])]);
    upstream.has(&[&Package::new("@up/right", "1.2.0")]);
}

/// Publishes `own`, which needs `@acme/own`, which needs upstream's `left`.
async fn publish(registry: &Registry) {
    let alice = registry.user("alice").await;
    let needs = |name: &str| json!({ "dependencies": { name: "^1.0.0" } });
    for (name, need) in [("@acme/own", "left"), ("own", "@acme/own")] {
        let package = Package::with(name, "1.0.0", &needs(need), &[]);
        registry.publish(&alice, &package).await.assert(201);
    }
}

/// A lockfile that was written against `url`, as it would be had that been the public registry.
fn as_of_the_public_registry(name: &str, lock: &str, url: &str) -> String {
    match name {
        // These two name no address that is the public registry's.
        "bun-1" => {
            let words = lock.split('"');
            let words: Vec<&str> = words
                .map(|word| if word.starts_with(url) { "" } else { word })
                .collect();
            words.join("\"")
        }
        "deno-2" => {
            let mut lock: Value = serde_json::from_str(lock).unwrap();
            for package in lock["npm"].as_object_mut().unwrap().values_mut() {
                package.as_object_mut().unwrap().remove("tarball");
            }
            lock.to_string()
        }
        _ => lock.replace(url, NPM_DEFAULT_REGISTRY.trim_end_matches('/')),
    }
}

/// What a lockfile of the public registry names, is asked of the registry that the client is told to
/// use; here of one that has never seen it.
async fn of_the_public_registry(name: &'static str) {
    let upstream = Upstream::start().await;
    stock(&upstream);
    let one = proxy(&upstream, None).await;
    let url = one.url.clone();
    let lock = beside(move || {
        let client = client_at(name, &url);
        let lock = install(&client, &["left"]).join(installer(name).lockfile());
        as_of_the_public_registry(name, &fs::read_to_string(lock).unwrap(), &url)
    });
    let lock = lock.await;
    // Only npm and Yarn 1 name the address of everything; Yarn 1 then asks there and nowhere else.
    let is_npm = name.starts_with("npm");
    assert_eq!(lock.contains(NPM_DEFAULT_REGISTRY), is_npm, "{lock}");
    let other = proxy(&upstream, None).await;
    let front = Front::before(&other.url).await;
    let url = front.url.clone();
    beside(move || {
        let client = client_at(name, &url);
        let folder = client.project("project", &needing(&["left"]));
        let file = folder.join(installer(name).lockfile());
        fs::write(&file, &lock).unwrap();
        client.ok_in(&folder, &installer(name).ci());
        assert_eq!(version_of(&folder, "left"), "1.0.0");
        assert_eq!(fs::read_to_string(file).unwrap(), lock);
    })
    .await;
    let asked = front.take_asked();
    let tarballs = asked.iter().filter(|line| line.contains("/-/"));
    assert_eq!(tarballs.count(), 2, "{asked:?}");
    if is_npm {
        for name in ["left", "@up/right"] {
            assert!(for_document(&asked, name).is_empty(), "{asked:?}");
        }
    }
}

/// What was locked against us installs without upstream, after a restart, as it was locked.
async fn of_ours(name: &'static str) {
    let upstream = Upstream::start().await;
    stock(&upstream);
    let clock = days_ago();
    let registry = proxy(&upstream, Some(Arc::clone(&clock))).await;
    publish(&registry).await;
    let front = Front::before(&registry.url).await;
    let url = front.url.clone();
    let locked = beside(move || {
        let client = client_at(name, &url);
        let folder = install(&client, &["own", "left"]);
        let lock = fs::read_to_string(folder.join(installer(name).lockfile())).unwrap();
        check_out_anew(&client, &folder);
        (client, folder, lock)
    });
    let (client, folder, lock) = locked.await;
    assert!(lock.contains("@up/right"), "{lock}");
    // Yarn 4 keeps an address where it is not the one that it would have made itself.
    assert!(!lock.contains("__archiveUrl"), "{lock}");
    let file = proxying(&upstream);
    upstream.stop().await;
    let data = registry.stop().await;
    let registry = Registry::with(Start {
        file: &file,
        folder: Some(data),
        clock: Some(clock),
        ..Start::default()
    })
    .await;
    front.lead_to(&registry.url);
    front.take_asked();
    beside(move || {
        client.ok_in(&folder, &installer(name).ci());
        assert_eq!(version_of(&folder, "own"), "1.0.0");
        let after = fs::read_to_string(folder.join(installer(name).lockfile())).unwrap();
        assert_eq!(after, lock);
    })
    .await;
    let asked = front.take_asked();
    let tarballs = asked.iter().filter(|line| line.contains("/-/"));
    assert_eq!(tarballs.count(), 4, "{asked:?}");
}

macro_rules! each {
    ($kind:ident: $($test:ident $name:literal),* $(,)?) => {
        mod $kind {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$kind($name).await;
                }
            )*
        }
    };
}

each! {
    of_the_public_registry:
    npm_7 "npm-7",
    npm_9 "npm-9",
    npm_12 "npm-12",
    pnpm_12 "pnpm-12",
    yarn_4 "yarn-4",
    bun_1 "bun-1",
    deno_2 "deno-2",
}

each! {
    of_ours:
    npm_12 "npm-12",
    pnpm_12 "pnpm-12",
    yarn_1 "yarn-1",
    yarn_4 "yarn-4",
    bun_1 "bun-1",
    deno_2 "deno-2",
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yarn_4_keeps_no_address_of_a_registry_below_a_path() {
    let upstream = Upstream::start().await;
    stock(&upstream);
    let registry = below_a_path(&upstream).await;
    publish(&registry).await;
    let url = registry.url.clone();
    beside(move || {
        let yarn = client_at("yarn-4", &url);
        let folder = install(&yarn, &["own", "left"]);
        let lock = fs::read_to_string(folder.join("yarn.lock")).unwrap();
        assert!(lock.contains("@acme/own") && lock.contains("@up/right"));
        assert!(!lock.contains("__archiveUrl"), "{lock}");
    })
    .await;
}

async fn below_a_path(upstream: &Upstream) -> Registry {
    Registry::with(Start {
        file: &proxying(upstream),
        variables: vec![("RUSTACCIO_URL_PREFIX", "/npm/private".to_owned())],
        clock: Some(days_ago()),
        ..Start::default()
    })
    .await
}

/// By default npm 12 takes no tarball from elsewhere than below the registry's own address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_12_finds_every_tarball_below_the_registry() {
    let upstream = Upstream::start().await;
    stock(&upstream);
    for registry in [proxy(&upstream, None).await, below_a_path(&upstream).await] {
        publish(&registry).await;
        let url = registry.url.clone();
        beside(move || {
            let npm = client_at("npm-12", &url);
            assert_eq!(npm.ok(&["config", "get", "allow-remote"]).trim(), "none");
            let folder = install(&npm, &["own", "left"]);
            for name in ["own", "@acme/own", "left"] {
                assert_eq!(version_of(&folder, name), "1.0.0");
            }
        })
        .await;
    }
    // It does find one that is elsewhere: upstream's own, behind another address.
    let front = Front::before(&upstream.url).await;
    let url = front.url.clone();
    beside(move || {
        let npm = client_at("npm-12", &url);
        let folder = npm.project("project", &needing(&["left"]));
        let refused = npm.fails_in(&folder, &["install"]);
        assert!(refused.contains("EALLOWREMOTE"), "{refused}");
    })
    .await;
}
