//! Installing with real clients, beyond the table of commands: what they ask for, which version they
//! choose and what they keep, compared with what they do without us.

mod commands;
mod large;
mod lockfiles;
mod publishing;
mod release_age;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustaccio::lifecycle::{Clock as _, ManualClock, SystemClock};
use serde_json::{Value, json};

use crate::{
    clients::installing::{Address, installer},
    support::{Package, Registry, Upstream, client::Client, registry::Start},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A clock that is ten days late: what is published by it is older than any client waits for.
fn days_ago() -> Arc<ManualClock> {
    ManualClock::at(SystemClock.now().plus_millis(-10 * 86_400_000))
}

/// A registry that proxies `upstream`.
async fn proxy(upstream: &Upstream, clock: Option<Arc<ManualClock>>) -> Registry {
    let file = proxying(upstream);
    Registry::with(Start {
        file: &file,
        clock,
        ..Start::default()
    })
    .await
}

fn proxying(upstream: &Upstream) -> String {
    format!("uplinks:\n  default:\n    url: {}\n", upstream.url)
}

/// A client of this name that uses the registry at `url`, with all of its defaults.
fn client_at(name: &str, url: &str) -> Client {
    let mut client = Client::new(name);
    installer(name).point(&mut client, Address::of(url));
    client
}

/// Runs `work`, which blocks, beside the servers.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The package.json of a project that needs these packages.
fn needing(needs: &[&str]) -> Value {
    let needs: serde_json::Map<String, Value> = needs
        .iter()
        .map(|name| ((*name).to_owned(), json!("^1.0.0")))
        .collect();
    json!({ "name": "project", "version": "1.0.0", "private": true, "dependencies": needs })
}

/// A project of `client` that has installed `needs`.
#[track_caller]
fn install(client: &Client, needs: &[&str]) -> PathBuf {
    let folder = client.project("project", &needing(needs));
    client.ok_in(&folder, &installer(&client.name).install());
    folder
}

/// Which version of a package a project has.
#[track_caller]
fn version_of(folder: &Path, name: &str) -> String {
    let file = folder.join("node_modules").join(name).join("package.json");
    let text = fs::read(&file).unwrap_or_else(|_| panic!("{name} is not installed"));
    let manifest: Value = serde_json::from_slice(&text).unwrap();
    manifest["version"].as_str().unwrap().to_owned()
}

/// Leaves of a project what is in version control, and of what the client keeps elsewhere nothing.
fn check_out_anew(client: &Client, folder: &Path) {
    fs::remove_dir_all(folder.join("node_modules")).unwrap();
    for cache in installer(&client.name).caches() {
        let _ = fs::remove_dir_all(client.home().join(cache));
    }
}

/// Versions of a package, each with how many minutes ago it was published.
fn published(upstream: &Upstream, versions: &[(&Package, i64)]) -> Value {
    let packages: Vec<&Package> = versions.iter().map(|(package, _)| *package).collect();
    upstream.has(&packages);
    let mut document = upstream.document(&packages);
    let ago = |minutes: i64| json!(SystemClock.now().plus_millis(-minutes * 60_000).to_string());
    for (package, minutes) in versions {
        document["time"][&package.version] = ago(*minutes);
        document["time"]["modified"] = ago(*minutes);
    }
    document
}
