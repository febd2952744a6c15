//! Signatures and attestations: who signs, which keys are published, and what it costs readers.

#[cfg(feature = "test-clients")]
mod clients;

use std::{fs, path::Path, sync::Arc};

use axum::response::IntoResponse as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustaccio::storage::{FileKeys, Secrets, SigningKeys};
use serde_json::{Value, json};
use sha2::Digest as _;
use tempfile::TempDir;

use crate::{
    reading::get_with,
    support::{Package, Registry, Upstream, process::Process, publish_body, registry::Start},
};

pub(crate) const KEYS: &str = "/-/npm/v1/keys";

/// Somebody else who signs packages.
pub(crate) struct Signer {
    keys: SigningKeys,
    _folder: TempDir,
}

impl Signer {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kept = FileKeys::new(folder.path().to_owned());
        let secrets = Secrets::open(&kept, None).await;
        let keys = SigningKeys::open(&kept, &secrets.unwrap()).await;
        Self {
            keys: keys.unwrap(),
            _folder: folder,
        }
    }

    fn keyid(&self) -> String {
        self.keys.keyid().to_string()
    }

    /// The document that has its keys.
    fn document(&self) -> Value {
        json!({ "keys": self.keys.public() })
    }

    fn signature(&self, package: &Package) -> Value {
        let Package { name, version, .. } = package;
        let message = format!("{name}@{version}:{}", package.integrity());
        json!({ "keyid": self.keys.keyid().to_string(), "sig": self.keys.sign(&message) })
    }

    /// Serves these versions of one package at `upstream`, signed.
    pub(crate) fn stocks(&self, upstream: &Upstream, package: &Package) {
        upstream.has(&[package]);
        let mut document = upstream.document(&[package]);
        let version = &mut document["versions"][&package.version];
        version["dist"]["signatures"] = json!([self.signature(package)]);
        upstream.answers(&crate::support::upstream::path_of(&package.name), &document);
    }
}

fn file_of(upstreams: &[(&str, &Upstream)]) -> String {
    let mut file = "uplinks:\n".to_owned();
    for (name, upstream) in upstreams {
        file += &format!("  {name}:\n    url: {}\n", upstream.url);
    }
    file
}

async fn proxy(upstream: &Upstream) -> Registry {
    Registry::with_file(&file_of(&[("default", upstream)])).await
}

/// The ids of the published keys, sorted.
async fn keyids(registry: &Registry) -> Vec<String> {
    let keys = registry.get(KEYS).await.assert(200).json();
    let keys = keys["keys"].as_array().unwrap().iter();
    let mut keyids: Vec<String> = keys
        .map(|key| key["keyid"].as_str().unwrap().to_owned())
        .collect();
    keyids.sort();
    keyids
}

/// The ids of the keys that a version is signed with, for somebody who checks that.
async fn signers(registry: &Registry, name: &str, version: &str) -> Vec<String> {
    let path = format!("/{name}");
    let audit = [("npm-command", "audit")];
    let document = get_with(registry, &path, &audit).await.assert(200).json();
    let signatures = &document["versions"][version]["dist"]["signatures"];
    let signatures = signatures.as_array().into_iter().flatten();
    signatures
        .map(|signature| signature["keyid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
pub(crate) async fn readers_do_not_wait_for_keys() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    upstream.has(&[&Package::new("other", "1.0.0")]);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    upstream.plays(KEYS, move |_| {
        let held = Arc::clone(&held);
        async move {
            let _passed = held.acquire().await.unwrap();
            json!({ "keys": [] }).to_string().into_response()
        }
    });
    let registry = proxy(&upstream).await;
    // All of these come while the answer is held back.
    for path in ["/lib", "/other", "/lib/1.0.0", "/other"] {
        registry.get(path).await.assert(200);
    }
    assert!(signers(&registry, "other", "1.0.0").await.is_empty());
    assert!(signers(&registry, "lib", "1.0.0").await.is_empty());
    assert_eq!(upstream.asked(KEYS), 1);
    gate.add_permits(100);
    let ours = keyids(&registry).await;
    assert_eq!(ours.len(), 1);
    assert_eq!(signers(&registry, "lib", "1.0.0").await, ours);
    assert_eq!(signers(&registry, "other", "1.0.0").await, ours);
    assert_eq!((upstream.asked(KEYS), upstream.asked("/lib")), (1, 1));
}

#[tokio::test]
pub(crate) async fn an_uplink_whose_keys_cannot_be_had_is_not_asked_by_every_reader() {
    for status in [401, 403, 404, 500, 503] {
        let upstream = Upstream::start().await;
        upstream.has(&[&Package::new("lib", "1.0.0")]);
        upstream.fails(KEYS, status);
        let registry = proxy(&upstream).await;
        let ours = keyids(&registry).await;
        let asked = upstream.asked(KEYS);
        for _ in 0..5 {
            registry.get("/lib").await.assert(200);
            registry.get("/lib/1.0.0").await.assert(200);
            assert_eq!(keyids(&registry).await, ours, "{status}");
        }
        assert_eq!(upstream.asked(KEYS), asked, "{status}");
        assert_eq!(upstream.asked("/lib"), 1, "{status}");
        // Who refuses to show keys has none; of who fails nobody knows.
        let is_signed = !signers(&registry, "lib", "1.0.0").await.is_empty();
        assert_eq!(is_signed, status < 500, "{status}");
    }
}

#[tokio::test]
pub(crate) async fn the_keys_are_ours_and_those_of_all_uplinks() {
    let (signing, keyless) = (Upstream::start().await, Upstream::start().await);
    let signer = Signer::new().await;
    signing.answers(KEYS, &signer.document());
    let signed = Package::new("signed", "1.0.0");
    signer.stocks(&signing, &signed);
    signing.has(&[&Package::new("forgotten", "1.0.0")]);
    keyless.has(&[&Package::new("@keyless/lib", "1.0.0")]);
    let file = file_of(&[("default", &signing), ("other", &keyless)])
        + "packages:\n  '@keyless/*':\n    access: $all\n    proxy: other\n  '**':\n    access: $all\n    publish: $authenticated\n    proxy: default\n";
    let registry = Registry::with_file(&file).await;
    let alice = registry.user("alice").await;
    let local = Package::new("local", "1.0.0");
    registry.publish(&alice, &local).await.assert(201);
    let ours = signers(&registry, "local", "1.0.0").await;
    assert_eq!(ours.len(), 1);
    assert_eq!(signers(&registry, "@keyless%2flib", "1.0.0").await, ours);
    assert_eq!(
        signers(&registry, "signed", "1.0.0").await,
        [signer.keyid()]
    );
    // Clients shall hear that this uplink has not signed it.
    assert!(signers(&registry, "forgotten", "1.0.0").await.is_empty());
    let mut all = vec![signer.keyid(), ours[0].clone()];
    all.sort();
    assert_eq!(keyids(&registry).await, all);
}

#[tokio::test]
pub(crate) async fn keys_outlive_the_uplink_that_had_them() {
    let upstream = Upstream::start().await;
    let signer = Signer::new().await;
    upstream.answers(KEYS, &signer.document());
    signer.stocks(&upstream, &Package::new("lib", "1.0.0"));
    let file = file_of(&[("default", &upstream)]);
    let registry = Registry::with_file(&file).await;
    registry.get("/lib").await.assert(200);
    let before = keyids(&registry).await;
    assert!(before.contains(&signer.keyid()));
    let folder = registry.stop().await;
    age(&folder.path().join("data/cache"));
    // Old ones serve; that they cannot be had is found out behind them.
    upstream.fails(KEYS, 403);
    let registry = Registry::with(Start {
        file: &file,
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    for _ in 0..5 {
        assert_eq!(keyids(&registry).await, before);
    }
    let folder = registry.stop().await;
    assert_eq!(upstream.asked(KEYS), 2);
    upstream.stop().await;
    let registry = Registry::with(Start {
        file: &file,
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    assert_eq!(keyids(&registry).await, before);
    assert_eq!(signers(&registry, "lib", "1.0.0").await, [signer.keyid()]);
}

/// Makes everything below `folder` look as if it had been fetched long ago.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let whole = fs::read_to_string(&path).unwrap();
            let (head, body) = whole.split_once('\n').unwrap();
            let mut head: Value = serde_json::from_str(head).unwrap();
            head["fetched_at"] = json!("2020-01-01T00:00:00.000Z");
            fs::write(&path, format!("{head}\n{body}")).unwrap();
        }
    }
}

#[tokio::test]
pub(crate) async fn what_a_mirror_without_keys_passes_on_stays_as_it_is() {
    for (status, caching) in [
        (404, "public, max-age=300"),
        (403, "public, max-age=300"),
        (500, "no-store"),
    ] {
        let mirror = Upstream::start().await;
        let signer = Signer::new().await;
        let lib = Package::new("lib", "1.0.0");
        signer.stocks(&mirror, &lib);
        mirror.fails(KEYS, status);
        let registry = proxy(&mirror).await;
        let alice = registry.user("alice").await;
        let local = Package::new("local", "1.0.0");
        registry.publish(&alice, &local).await.assert(201);
        for path in ["/lib", "/lib/1.0.0"] {
            let shown = registry.get(path).await.assert(200).json();
            let whole = &shown["versions"]["1.0.0"]["dist"]["signatures"];
            let one = &shown["dist"]["signatures"];
            let shown = if whole.is_null() { one } else { whole };
            assert_eq!(*shown, json!([signer.signature(&lib)]), "{status} {path}");
        }
        // What was published here can be verified all the same.
        assert_eq!(
            keyids(&registry).await,
            signers(&registry, "local", "1.0.0").await
        );
        let keys = registry.get(KEYS).await;
        assert_eq!(keys.header("cache-control"), Some(caching), "{status}");
        // A mirror that learns the keys is believed at the next start at the latest.
        let folder = registry.stop().await;
        mirror.answers(KEYS, &signer.document());
        let file = file_of(&[("default", &mirror)]);
        let registry = Registry::with(Start {
            file: &file,
            folder: Some(folder),
            ..Start::default()
        })
        .await;
        assert!(keyids(&registry).await.contains(&signer.keyid()));
    }
}

fn signing_key(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (String, bool) {
    let output = Process::command(data, variables)
        .arg("signing-key")
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

#[tokio::test]
pub(crate) async fn a_key_that_was_replaced_stays_among_the_keys() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let old = Package::new("old", "1.0.0");
    registry.publish(&alice, &old).await.assert(201);
    let first = signers(&registry, "old", "1.0.0").await;
    let folder = registry.stop().await;
    let (text, is_ok) = signing_key(&folder.path().join("data"), &["rotate"], &[]);
    assert!(is_ok, "{text}");
    let (listed, is_ok) = signing_key(&folder.path().join("data"), &["list"], &[]);
    assert!(is_ok && listed == text, "{listed}{text}");
    assert!(
        text.contains("  expired  20") && text.contains("  signs"),
        "{text}"
    );
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let new = Package::new("new", "1.0.0");
    registry.publish(&alice, &new).await.assert(201);
    let second = signers(&registry, "new", "1.0.0").await;
    assert_ne!(first, second);
    assert_eq!(signers(&registry, "old", "1.0.0").await, first);
    let keys = registry.get(KEYS).await.assert(200).json();
    let of = |keyid: &String| {
        let mut keys = keys["keys"].as_array().unwrap().iter();
        keys.find(|key| key["keyid"] == *keyid).unwrap()
    };
    assert!(of(&first[0])["expires"].as_str().unwrap().ends_with('Z'));
    assert!(of(&second[0])["expires"].is_null());
}

#[test]
fn the_command_line_spoils_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (text, is_ok) = signing_key(&data, &["list"], &[]);
    assert!(is_ok && text.starts_with("there is no key yet"), "{text}");
    assert!(!data.exists(), "listing only reads");
    let given = [("RUSTACCIO_SECRET_KEY", "a key that only the server knows")];
    drop(Process::start(&data, &given));
    let before = fs::read(data.join("signing-keys.json")).unwrap();
    for variables in [&[][..], &[("RUSTACCIO_SECRET_KEY", "another")]] {
        let (text, is_ok) = signing_key(&data, &["rotate"], variables);
        assert!(!is_ok && text.contains("RUSTACCIO_SECRET_KEY"), "{text}");
        assert!(!data.join("secret.key").exists());
        assert_eq!(fs::read(data.join("signing-keys.json")).unwrap(), before);
    }
    let (text, is_ok) = signing_key(&data, &["rotate"], &given);
    assert!(is_ok, "{text}");
    drop(Process::start(&data, &given));
}

#[test]
fn files_with_secrets_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(Process::start(&data, &[]));
    let files = ["secret.key", "signing-keys.json"].map(|file| data.join(file));
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    drop(Process::start(&data, &[]));
    for file in &files {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
}

/// The bundle that a build service signs for this package, as far as registries look at it.
fn bundle(package: &Package) -> Value {
    let name = package.name.replace('@', "%40");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": format!("pkg:npm/{name}@{}", package.version),
            "digest": { "sha512": hex::encode(sha2::Sha512::digest(&package.tarball)) },
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    });
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {},
        "dsseEnvelope": {
            "payload": STANDARD.encode(statement.to_string()),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{ "sig": "x" }],
        },
    })
}

fn with_bundle(package: &Package, bundle: &Value) -> Value {
    let mut body = publish_body(package, "latest");
    let file = format!("{}-{}.sigstore", package.name, package.version);
    let data = bundle.to_string();
    body["_attachments"][file] = json!({
        "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "length": data.len(),
        "data": data,
    });
    body
}

#[tokio::test]
pub(crate) async fn provenance_is_kept_and_served() {
    let registry = Registry::start(&[("RUSTACCIO_URL_PREFIX", "/npm")]).await;
    let alice = registry.user("alice").await;
    let package = Package::new("@acme/built", "1.0.0");
    let path = "/@acme%2fbuilt";
    let foreign = bundle(&Package::new("@acme/built", "1.0.1"));
    let body = with_bundle(&package, &foreign);
    let refused = registry.put(&alice, path, &body).await.assert(422).error();
    assert!(refused.contains("provenance"), "{refused}");
    let bundle = bundle(&package);
    let body = with_bundle(&package, &bundle);
    registry.put(&alice, path, &body).await.assert(201);
    let document = registry.get(path).await.assert(200).json();
    let address = format!("{}/-/npm/v1/attestations/@acme%2fbuilt@1.0.0", registry.url);
    assert_eq!(
        document["versions"]["1.0.0"]["dist"]["attestations"],
        json!({
            "url": address,
            "provenance": { "predicateType": "https://slsa.dev/provenance/v1" },
        })
    );
    let served = registry.client.get(address).send().await.unwrap();
    assert_eq!(served.status(), 200);
    let served: Value = serde_json::from_slice(&served.bytes().await.unwrap()).unwrap();
    assert_eq!(
        served,
        json!({ "attestations": [{ "predicateType": "https://slsa.dev/provenance/v1", "bundle": bundle }] })
    );
    let plain = Package::new("@acme/built", "1.1.0");
    registry.publish(&alice, &plain).await.assert(201);
    let none = registry.get("/-/npm/v1/attestations/@acme%2fbuilt@1.1.0");
    none.await.assert(404).error();
}

#[tokio::test]
pub(crate) async fn attestations_of_upstream_pass_through() {
    let upstream = Upstream::start().await;
    let package = Package::new("@up/built", "1.0.0");
    upstream.has(&[&package]);
    let mut document = upstream.document(&[&package]);
    document["versions"]["1.0.0"]["dist"]["attestations"] = json!({
        "url": format!("{}/-/npm/v1/attestations/@up%2fbuilt@1.0.0", upstream.url),
        "provenance": { "predicateType": "https://slsa.dev/provenance/v1" },
    });
    upstream.answers("/@up%2fbuilt", &document);
    let theirs =
        json!({ "attestations": [{ "predicateType": "x", "bundle": { "\u{e9}": 1.50 } }] });
    let path = "/-/npm/v1/attestations/@up%2fbuilt@1.0.0";
    upstream.answers(path, &theirs);
    let registry = Registry::with(Start {
        file: &file_of(&[("default", &upstream)]),
        variables: vec![("RUSTACCIO_URL_PREFIX", "/npm".to_owned())],
        ..Start::default()
    })
    .await;
    let shown = registry.get("/@up%2fbuilt").await.assert(200).json();
    let attestations = &shown["versions"]["1.0.0"]["dist"]["attestations"];
    assert_eq!(attestations["url"], format!("{}{path}", registry.url));
    for spelling in [path, "/-/npm/v1/attestations/@up/built@1.0.0"] {
        let served = registry.get(spelling).await.assert(200);
        assert_eq!(served.body, theirs.to_string().into_bytes());
        assert_eq!(served.header("content-type"), Some("application/json"));
    }
    assert_eq!(upstream.asked(path), 1);
    for missing in ["@up%2fbuilt@2.0.0", "nothing@1.0.0"] {
        let path = format!("/-/npm/v1/attestations/{missing}");
        registry.get(&path).await.assert(404).error();
    }
}

#[tokio::test]
pub(crate) async fn attestations_do_not_tell_what_is_restricted() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("@acme/secret", "1.0.0");
    let bundle = bundle(&package);
    let path = "/@acme%2fsecret";
    let body = with_bundle(&package, &bundle);
    registry.put(&alice, path, &body).await.assert(201);
    let access = json!({ "access": "restricted" });
    let restricted = registry
        .send_json(
            Some(&alice),
            reqwest::Method::POST,
            "/-/package/@acme%2fsecret/access",
            &access,
        )
        .await;
    assert!(restricted.status.is_success());
    let path = |name: &str| format!("/-/npm/v1/attestations/@acme%2f{name}@1.0.0");
    registry.get_as(&alice, &path("secret")).await.assert(200);
    let restricted = registry.get(&path("secret")).await.assert(404).error();
    let missing = registry.get(&path("nothing")).await.assert(404).error();
    assert_eq!(
        restricted.replace("secret", ""),
        missing.replace("nothing", "")
    );
}
