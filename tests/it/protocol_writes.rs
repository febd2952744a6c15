//! What clients of all kinds rely on when they write, beyond what one of them happens to check.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    reading::{ABBREVIATED, get_with},
    support::{Answer, Package, Registry, Upstream, User, publish_body},
};

/// One registry with `@acme/app` of its own, and `lib` of its upstream.
async fn registry() -> (Registry, Upstream, User) {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "0.9.0"), Package::new("lib", "1.0.0"));
    upstream.has(&[&one, &two]);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let alice = registry.user("alice").await;
    for version in ["1.0.0", "1.1.0"] {
        let package = Package::new("@acme/app", version);
        registry.publish(&alice, &package).await.assert(201);
    }
    (registry, upstream, alice)
}

async fn for_writing(registry: &Registry, user: &User, path: &str) -> Answer {
    let request = registry.request(Method::GET, &format!("{path}?write=true"));
    let request = request
        .bearer_auth(&user.token)
        .header("accept", ABBREVIATED);
    registry.send(request).await.assert(200)
}

#[tokio::test]
pub(crate) async fn older_clients_merge_their_version_into_what_is_there() {
    let (registry, _upstream, alice) = registry().await;
    let before = registry.get("/@acme/app").await.json();
    let mut merged = for_writing(&registry, &alice, "/@acme%2fapp").await.json();
    let package = Package::new("@acme/app", "1.2.0");
    let own = publish_body(&package, "next");
    merged["versions"]["1.2.0"] = own["versions"]["1.2.0"].clone();
    merged["dist-tags"]["next"] = json!("1.2.0");
    // Copies of old versions count for nothing, whatever a client made of them.
    merged["versions"]["1.0.0"]["dist"]["shasum"] = json!("0".repeat(40));
    merged["versions"]["1.1.0"]["description"] = json!("not so");
    merged["dist-tags"]["latest"] = json!("1.0.0");
    for (key, attachment) in own["_attachments"].as_object().unwrap() {
        merged["_attachments"][key] = attachment.clone();
    }
    registry
        .put(&alice, "/@acme%2fapp", &merged)
        .await
        .assert(201);
    let after = registry.get("/@acme/app").await.json();
    for version in ["1.0.0", "1.1.0"] {
        assert_eq!(after["versions"][version], before["versions"][version]);
    }
    assert_eq!(after["versions"].as_object().unwrap().len(), 3);
    assert_eq!(
        after["dist-tags"],
        json!({ "latest": "1.1.0", "next": "1.2.0" })
    );
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    // The same document again is a conflict, as any second publish is.
    registry
        .put(&alice, "/@acme%2fapp", &merged)
        .await
        .assert(409);
}

#[tokio::test]
pub(crate) async fn what_is_stored_of_a_version_is_ours() {
    let (registry, _upstream, alice) = registry().await;
    let package = Package::new("@acme/leaky", "1.0.0");
    let mut body = publish_body(&package, "latest");
    let version = &mut body["versions"]["1.0.0"];
    // What pnpm, bun and npm leave in it.
    for leak in ["_resolved", "_from", "_integrity", "integrity", "shasum"] {
        version[leak] = json!("/home/alice/secret/leaky-1.0.0.tgz");
    }
    version["_npmUser"] = json!({ "name": "root", "trustedPublisher": { "id": "github" } });
    version["_id"] = json!("other@9.9.9");
    version["readme"] = json!("# Leaky");
    version["dist"] = json!({
        "tarball": "http://evil.example/@acme/leaky/-/@acme/leaky-1.0.0.tgz",
        "signatures": [{ "keyid": "SHA256:mine", "sig": "forged" }],
        "attestations": { "url": "http://evil.example/", "provenance": { "predicateType": "x" } },
        "npm-signature": "forged",
    });
    registry
        .put(&alice, "/@acme%2fleaky", &body)
        .await
        .assert(201);
    for accept in ["application/json", ABBREVIATED] {
        let document = get_with(&registry, "/@acme/leaky", &[("accept", accept)]).await;
        let text = String::from_utf8(document.assert(200).body).unwrap();
        for leaked in [
            "secret",
            "evil.example",
            "forged",
            "trustedPublisher",
            "other@9.9.9",
        ] {
            assert!(!text.contains(leaked), "{leaked}: {text}");
        }
        let document: Value = serde_json::from_str(&text).unwrap();
        let version = &document["versions"]["1.0.0"];
        let dist = &version["dist"];
        assert_eq!(dist["integrity"], package.integrity());
        assert_eq!(dist["shasum"], package.shasum());
        let tarball = format!("{}/@acme/leaky/-/leaky-1.0.0.tgz", registry.url);
        assert_eq!(dist["tarball"], tarball);
        let keys: BTreeSet<&String> = version.as_object().unwrap().keys().collect();
        for leak in [
            "_resolved",
            "_from",
            "_integrity",
            "integrity",
            "shasum",
            "readme",
        ] {
            assert!(!keys.contains(&leak.to_owned()), "{leak}");
        }
    }
}

#[tokio::test]
pub(crate) async fn editors_see_what_they_edit() {
    let (registry, _upstream, alice) = registry().await;
    let first = for_writing(&registry, &alice, "/@acme%2fapp").await;
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    let document = first.json();
    assert_eq!(document["_id"], "@acme/app");
    let ask = async |etag: &str| {
        let request = registry.request(Method::GET, "/@acme%2fapp?write=true");
        let request = request
            .bearer_auth(&alice.token)
            .header("if-none-match", etag);
        registry.send(request).await
    };
    let etag = first.header("etag").unwrap();
    ask(etag).await.assert(304);
    let star = json!({ "_id": "@acme/app", "_rev": document["_rev"], "users": { "alice": true } });
    registry
        .put(&alice, "/@acme%2fapp", &star)
        .await
        .assert(201);
    let changed = ask(etag).await.assert(200);
    assert_ne!(changed.json()["_rev"], document["_rev"]);
    assert_ne!(changed.header("etag"), Some(etag));
    // Who edits owners reads the ordinary document.
    assert_eq!(
        registry.get("/@acme/app").await.json()["_rev"],
        changed.json()["_rev"]
    );
}

#[tokio::test]
pub(crate) async fn a_deprecation_shows_and_goes_in_the_abbreviated_form_too() {
    let (registry, _upstream, alice) = registry().await;
    let short = async || {
        let answer = get_with(&registry, "/@acme/app", &[("accept", ABBREVIATED)]).await;
        answer.assert(200).json()["versions"].clone()
    };
    let before = short().await;
    for text in ["use another", ""] {
        let mut document = for_writing(&registry, &alice, "/@acme%2fapp").await.json();
        document["versions"]["1.0.0"]["deprecated"] = json!(text);
        registry
            .put(&alice, "/@acme%2fapp", &document)
            .await
            .assert(201);
        let mut expected = before.clone();
        if !text.is_empty() {
            expected["1.0.0"]["deprecated"] = json!(text);
        }
        assert_eq!(short().await, expected);
    }
}

#[tokio::test]
pub(crate) async fn what_comes_from_upstream_is_changed_there() {
    let (registry, _upstream, alice) = registry().await;
    let tags = registry.get("/-/package/lib/dist-tags").await.assert(200);
    assert_eq!(tags.json(), json!({ "latest": "1.0.0" }));
    let document = for_writing(&registry, &alice, "/lib").await.json();
    let mut deprecated = document.clone();
    deprecated["versions"]["1.0.0"]["deprecated"] = json!("mine now");
    let mut fewer = document.clone();
    fewer["versions"].as_object_mut().unwrap().remove("0.9.0");
    let owners = json!({ "_id": "lib", "maintainers": [{ "name": "alice", "email": "" }] });
    let star = json!({ "_id": "lib", "users": { "alice": true } });
    let (version, tags) = (json!("1.0.0"), json!({ "latest": "1.0.0" }));
    let nothing = json!(null);
    for (method, path, body) in [
        (Method::PUT, "/lib", &deprecated),
        (Method::PUT, "/lib/-rev/1-a", &fewer),
        (Method::PUT, "/lib/-rev/1-a", &owners),
        (Method::PUT, "/lib", &star),
        (Method::PUT, "/-/package/lib/dist-tags/next", &version),
        (Method::PUT, "/-/package/lib/dist-tags", &tags),
        (Method::DELETE, "/-/package/lib/dist-tags/latest", &nothing),
        (Method::DELETE, "/lib/-rev/1-a", &nothing),
        (Method::DELETE, "/lib/-/lib-1.0.0.tgz/-rev/1-a", &nothing),
    ] {
        let what = format!("{method} {path}");
        let answer = registry.send_json(Some(&alice), method, path, body).await;
        assert_eq!(answer.status, 403, "{what}");
        assert_eq!(
            answer.error(),
            "`lib` is not hosted here but comes from upstream, where alone it can be changed"
        );
    }
    let document = json!({ "_id": "missing", "versions": {} });
    let missing = registry
        .put(&alice, "/missing", &document)
        .await
        .assert(400);
    assert_eq!(missing.error(), "unsupported registry call");
    let folder = registry.data().join("tarballs/lib");
    assert!(!folder.exists());
}

#[tokio::test]
pub(crate) async fn a_name_that_was_ours_is_not_looked_for_upstream() {
    let (registry, upstream, alice) = registry().await;
    registry
        .delete(&alice, "/@acme%2fapp/-rev/x")
        .await
        .assert(201);
    let asked = upstream.asked("/@acme%2fapp");
    let star = json!({ "_id": "@acme/app", "users": { "alice": true } });
    registry
        .put(&alice, "/@acme%2fapp", &star)
        .await
        .assert(404);
    registry
        .delete(&alice, "/@acme%2fapp/-rev/x")
        .await
        .assert(404);
    assert_eq!(upstream.asked("/@acme%2fapp"), asked);
}

#[tokio::test]
pub(crate) async fn new_names_are_not_those_of_nodes_own_modules() {
    let (registry, upstream, alice) = registry().await;
    for name in ["http", "fs", "worker_threads"] {
        let refused = registry.publish(&alice, &Package::new(name, "1.0.0")).await;
        let error = refused.assert(400).error();
        assert!(
            error.starts_with(&format!("invalid package name `{name}`")),
            "{error}"
        );
        registry.get(&format!("/{name}")).await.assert(404);
    }
    registry
        .publish(&alice, &Package::new("@acme/http", "1.0.0"))
        .await
        .assert(201);
    // Older than the rule: read, and patched as any other.
    upstream.has(&[&Package::new("events", "3.0.0")]);
    registry.get("/events").await.assert(200);
    registry
        .publish(&alice, &Package::new("events", "3.0.1"))
        .await
        .assert(201);
    // Without an upstream, somebody has to bring it from there.
    let alone = Registry::alone().await;
    let bob = alone.user("bob").await;
    alone
        .publish(&bob, &Package::new("events", "3.0.0"))
        .await
        .assert(201);
}

#[tokio::test]
pub(crate) async fn build_metadata_makes_no_other_version() {
    let (registry, upstream, alice) = registry().await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0+one"))
        .await
        .assert(201);
    for version in ["1.0.0", "1.0.0+two"] {
        let refused = registry
            .publish(&alice, &Package::new("app", version))
            .await;
        let error = refused.assert(409).error();
        assert!(
            error.ends_with("previously published versions: 1.0.0+one."),
            "{error}"
        );
    }
    for version in ["1.0.0-rc.1+one", "1.0.1+one"] {
        registry
            .publish(&alice, &Package::new("app", version))
            .await
            .assert(201);
    }
    let versions = registry.get("/app").await.json()["versions"].clone();
    assert_eq!(versions.as_object().unwrap().len(), 3);
    upstream.has(&[&Package::new("patched", "1.0.0")]);
    let patched = Package::new("patched", "1.0.0+ours");
    registry.publish(&alice, &patched).await.assert(409);
}

#[tokio::test]
pub(crate) async fn all_dist_tags_are_set_at_once() {
    let (registry, _upstream, alice) = registry().await;
    let path = "/-/package/@acme%2fapp/dist-tags";
    let send = async |method: Method, tags: Value| {
        registry.send_json(Some(&alice), method, path, &tags).await
    };
    let set = send(Method::POST, json!({ "next": "1.1.0", "old": "1.0.0" })).await;
    assert_eq!(set.assert(201).json(), json!({ "ok": "package tagged" }));
    let shown = registry.get(path).await.json();
    assert_eq!(
        shown,
        json!({ "latest": "1.1.0", "next": "1.1.0", "old": "1.0.0" })
    );
    // All or nothing.
    send(Method::POST, json!({ "next": "1.0.0", "other": "9.9.9" }))
        .await
        .assert(404);
    send(Method::PUT, json!({ "1.x": "1.0.0" }))
        .await
        .assert(400);
    send(Method::PUT, json!(["latest"])).await.assert(400);
    assert_eq!(registry.get(path).await.json(), shown);
    send(Method::PUT, json!({ "stable": "1.0.0", "latest": "1.0.0" }))
        .await
        .assert(201);
    let shown = registry.get(path).await.json();
    assert_eq!(shown, json!({ "stable": "1.0.0", "latest": "1.0.0" }));
    // There is always a `latest`.
    send(Method::PUT, json!({ "stable": "1.0.0" }))
        .await
        .assert(201);
    assert_eq!(registry.get(path).await.json()["latest"], "1.1.0");
    let anonymous = registry
        .send_json(None, Method::PUT, path, &json!({}))
        .await;
    anonymous.assert(401);
}

/// The document of a publish whose tarball has `length` bytes that do not count.
fn heavy(name: &str, length: usize) -> String {
    let mut body = publish_body(&Package::new(name, "1.0.0"), "latest");
    for attachment in body["_attachments"].as_object_mut().unwrap().values_mut() {
        attachment["data"] = json!(STANDARD.encode(vec![0; length]));
        attachment["length"] = json!(length);
    }
    body.to_string()
}

/// Sends a whole request before it looks at the answer, as clients do; the answer, and whether the
/// connection took another request afterwards.
async fn sent_to_the_end(
    registry: &Registry,
    user: Option<&User>,
    body: &str,
) -> (u16, Value, bool) {
    let address = registry.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!(
        "PUT /heavy HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
        body.len()
    );
    if let Some(user) = user {
        head.push_str(&format!("authorization: Bearer {}\r\n", user.token));
    }
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let next = b"GET /-/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(next).await.unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    let (head, rest) = answers.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let (body, next) = rest.split_at(length.unwrap().parse().unwrap());
    (
        status,
        serde_json::from_str(body).unwrap(),
        next.starts_with("HTTP/1.1 200"),
    )
}

#[tokio::test]
pub(crate) async fn a_refused_body_is_read_before_the_answer() {
    let rules = "max_body_size: 1mb\npackages:\n  '**':\n    access: alice\n    publish: alice\n";
    let registry = Registry::with_file(rules).await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let body = heavy("heavy", 12_000_000);
    for (user, status, code) in [
        (Some(&alice), 413, "PAYLOAD_TOO_LARGE"),
        (Some(&bob), 403, "AUTH_FORBIDDEN"),
        (None, 401, "POLICY_DENIED"),
    ] {
        let (found, answer, is_usable) = sent_to_the_end(&registry, user, &body).await;
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)));
        assert!(is_usable, "{code}");
    }
}

#[tokio::test]
pub(crate) async fn a_body_that_is_not_sent_yet_is_not_waited_for() {
    let registry = Registry::alone().await;
    let address = registry.url.trim_start_matches("http://");
    // Far too large to be read for nothing, and one that waits to be asked for.
    for headers in [
        "content-length: 99999999999",
        "content-length: 1000\r\nexpect: 100-continue",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("PUT /app HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{headers}: {answer}");
        assert!(
            answer.contains("connection: close\r\n"),
            "{headers}: {answer}"
        );
    }
}

#[cfg(feature = "test-clients")]
mod clients {
    use std::fs;

    use super::*;
    use crate::support::client::Client;

    /// What a client prints that publishes 8 MB where 1 MB is the limit, or where it may not.
    fn refused(name: &str, url: &str, token: &str) -> String {
        let client = Client::new(name);
        client.configure(
            ".npmrc",
            &format!("registry={url}/\nfetch-retries=0\nupdate-notifier=false\n"),
        );
        client.sign_in_with(url, token);
        let host = url.split_once("//").unwrap().1;
        let port = host.rsplit_once(':').unwrap().1;
        client.configure(
            ".yarnrc.yml",
            &format!("npmRegistryServer: \"{url}\"\nnpmAuthToken: \"{token}\"\nunsafeHttpWhitelist: [\"127.0.0.1\", \"127.0.0.1:{port}\"]\nenableTelemetry: false\n"),
        );
        let manifest = json!({ "name": "heavy", "version": "1.0.0", "license": "MIT" });
        let folder = client.project("heavy", &manifest);
        let package = Package::heavy("heavy", "1.0.0", 8_000_000);
        fs::write(folder.join("heavy.bin"), package.tarball).unwrap();
        fs::write(folder.join("yarn.lock"), "").unwrap();
        let arguments: &[&str] = match name {
            "yarn-4" => &["npm", "publish"],
            "pnpm-12" => &["publish", "--no-git-checks"],
            _ => &["publish"],
        };
        if name == "yarn-4" {
            client.run_in(&folder, &["install"]);
        }
        client.fails_in(&folder, arguments)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clients_say_why_a_large_publish_is_refused() {
        let rules =
            "max_body_size: 1mb\npackages:\n  '**':\n    access: alice\n    publish: alice\n";
        let registry = Registry::with_file(rules).await;
        let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
        let url = registry.url.clone();
        tokio::task::spawn_blocking(move || {
            for name in ["npm-12", "pnpm-12", "yarn-4", "bun-1"] {
                let text = refused(name, &url, &alice.token);
                assert!(text.contains("request entity too large"), "{name}: {text}");
                let text = refused(name, &url, &bob.token);
                // npm reads before it publishes.
                let reason = "user bob is not allowed to";
                assert!(text.contains(reason), "{name}: {text}");
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn older_npm_reads_again_after_a_conflict() {
        let (registry, _upstream, alice) = registry().await;
        let url = registry.url.clone();
        tokio::task::spawn_blocking(move || {
            for name in ["npm-6", "npm-9"] {
                let npm = Client::new(name);
                npm.configure(
                    ".npmrc",
                    &format!("registry={url}/\nfetch-retries=0\nupdate-notifier=false\n"),
                );
                npm.sign_in_with(&url, &alice.token);
                let manifest = json!({ "name": "@acme/app", "version": "1.0.0" });
                let folder = npm.project("app", &manifest);
                let text = npm.fails_in(&folder, &["publish"]);
                assert!(text.contains("EPUBLISHCONFLICT"), "{name}: {text}");
            }
        })
        .await
        .unwrap();
        let versions = registry.get("/@acme/app").await.json()["versions"].clone();
        assert_eq!(versions.as_object().unwrap().len(), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_says_where_a_package_is_changed() {
        let (registry, _upstream, alice) = registry().await;
        let url = registry.url.clone();
        tokio::task::spawn_blocking(move || {
            let npm = Client::npm(&url);
            npm.sign_in_with(&url, &alice.token);
            for arguments in [
                &["deprecate", "lib@1.0.0", "old"][..],
                &["dist-tag", "add", "lib@1.0.0", "next"],
                &["unpublish", "lib@1.0.0"],
            ] {
                let text = npm.fails_in(npm.home(), arguments);
                let reason = "`lib` is not hosted here but comes from upstream";
                assert!(text.contains(reason), "{arguments:?}: {text}");
                assert!(text.contains("E403"), "{arguments:?}: {text}");
            }
        })
        .await
        .unwrap();
    }
}
