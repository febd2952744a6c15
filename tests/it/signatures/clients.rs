//! `audit signatures` of real clients, through the registry and without it.

use std::path::PathBuf;

use super::*;
use crate::support::client::Client;

/// npm from version 9 on asks Sigstore's own repository before it asks a registry for keys,
/// and that cannot be reached by tests. This answers for it that it knows no such registry.
const NO_SIGSTORE: &str = "
    const Module = require('node:module')
    const load = Module._load
    const getTarget = async () => {
      throw Object.assign(new Error('no such target'), { code: 'TUF_FIND_TARGET_ERROR' })
    }
    Module._load = function (request, ...rest) {
      const loaded = load.call(this, request, ...rest)
      if (request !== '@sigstore/tuf') return loaded
      return { ...loaded, initTUF: async () => ({ getTarget }) }
    }
";

/// A project of a client that has installed `needs` from `registry`.
fn installed(client: &mut Client, registry: &str, needs: &[&str]) -> PathBuf {
    client.configure("no-sigstore.cjs", NO_SIGSTORE);
    let shim = client.home().join("no-sigstore.cjs");
    client.set("NODE_OPTIONS", &format!("--require={}", shim.display()));
    let settings = "audit=false\nfund=false\nupdate-notifier=false\nfetch-retries=0\n";
    client.configure(".npmrc", &format!("registry={registry}/\n{settings}"));
    let needs: serde_json::Map<String, Value> = needs
        .iter()
        .map(|name| ((*name).to_owned(), json!("^1.0.0")))
        .collect();
    let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
    let project = client.project("project", &manifest);
    client.ok_in(&project, &["install"]);
    project
}

/// Packages of ours and one that upstream signed; the key was replaced between the first two,
/// where a client knows that a signature outlives its key.
async fn verifies(name: &'static str) {
    let knows_of_expiry = !matches!(name, "npm-8" | "npm-9");
    let upstream = Upstream::start().await;
    let signer = Signer::new().await;
    upstream.answers(KEYS, &signer.document());
    signer.stocks(&upstream, &Package::new("theirs", "1.0.0"));
    let file = file_of(&[("default", &upstream)]);
    let registry = Registry::with_file(&file).await;
    let alice = registry.user("alice").await;
    let old = Package::new("@acme/old", "1.0.0");
    registry.publish(&alice, &old).await.assert(201);
    let folder = registry.stop().await;
    if knows_of_expiry {
        let (text, is_ok) = signing_key(&folder.path().join("data"), &["rotate"], &[]);
        assert!(is_ok, "{text}");
    }
    let start = Start {
        file: &file,
        folder: Some(folder),
        ..Start::default()
    };
    let registry = Registry::with(start).await;
    let new = Package::new("new", "1.0.0");
    registry.publish(&alice, &new).await.assert(201);
    let url = registry.url.clone();
    let work = move || {
        let mut client = Client::new(name);
        let project = installed(&mut client, &url, &["@acme/old", "new", "theirs"]);
        let said = client.ok_in(&project, &["audit", "signatures"]);
        assert!(said.contains('3') && said.contains("verified"), "{said}");
        assert!(
            !said.contains("missing") && !said.contains("invalid"),
            "{said}"
        );
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    drop(registry);
}

/// What a client says of what `registry` has, without addresses and times.
fn opinion(name: &str, registry: &str) -> (String, bool) {
    let mut client = Client::new(name);
    let project = installed(&mut client, registry, &["good", "unsigned", "wrong"]);
    let output = client.run_in(&project, &["audit", "signatures"]);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap().replace(registry, "");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("audited") && !line.contains("_logs"));
    (
        lines.collect::<Vec<_>>().join("\n"),
        output.status.success(),
    )
}

/// What clients hear is what they hear without us.
async fn says_the_same(name: &'static str) {
    let signer = Signer::new().await;
    let upstream = Upstream::start().await;
    upstream.answers(KEYS, &signer.document());
    upstream.has(&[&Package::new("unsigned", "1.0.0")]);
    let good = Package::new("good", "1.0.0");
    signer.stocks(&upstream, &good);
    let wrong = Package::new("wrong", "1.0.0");
    upstream.has(&[&wrong]);
    let mut document = upstream.document(&[&wrong]);
    document["versions"]["1.0.0"]["dist"]["signatures"] = json!([signer.signature(&good)]);
    upstream.answers("/wrong", &document);
    let registry = proxy(&upstream).await;
    let (direct, through) = (upstream.url.clone(), registry.url.clone());
    let work = move || (opinion(name, &direct), opinion(name, &through));
    let (direct, through) = tokio::task::spawn_blocking(work).await.unwrap();
    assert_eq!(direct, through);
    for word in ["wrong", "unsigned", "invalid", "missing"] {
        assert!(direct.0.contains(word), "{word}: {}", direct.0);
    }
}

/// A mirror that passes on signatures without having their keys does not keep clients from
/// verifying what was published here, nor what a registry without signatures has.
async fn verifies_beside_a_mirror(name: &'static str) {
    let mirror = Upstream::start().await;
    let signer = Signer::new().await;
    signer.stocks(&mirror, &Package::new("theirs", "1.0.0"));
    mirror.has(&[&Package::new("unsigned", "1.0.0")]);
    let registry = proxy(&mirror).await;
    let alice = registry.user("alice").await;
    let local = Package::new("local", "1.0.0");
    registry.publish(&alice, &local).await.assert(201);
    registry.get("/theirs").await.assert(200);
    let url = registry.url.clone();
    let work = move || {
        let mut client = Client::new(name);
        let project = installed(&mut client, &url, &["local", "unsigned"]);
        let said = client.ok_in(&project, &["audit", "signatures"]);
        assert!(said.contains('2') && said.contains("verified"), "{said}");
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

macro_rules! tests_of {
    ($what:ident: $($test:ident $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$what($name).await;
            }
        )*
    };
}

mod newest {
    tests_of! {
        verifies: npm_12_verifies "npm-12", pnpm_12_verifies "pnpm-12",
    }
    tests_of! {
        says_the_same: npm_12_says_the_same "npm-12", pnpm_12_says_the_same "pnpm-12",
    }
    tests_of! {
        verifies_beside_a_mirror: npm_12_beside_a_mirror "npm-12", pnpm_12_beside_a_mirror "pnpm-12",
    }
}

mod older {
    tests_of! {
        verifies: npm_8_verifies "npm-8", npm_9_verifies "npm-9", npm_10_verifies "npm-10",
        npm_11_verifies "npm-11", pnpm_11_verifies "pnpm-11",
    }
    tests_of! {
        says_the_same: npm_8_says_the_same "npm-8", npm_9_says_the_same "npm-9",
    }
}
