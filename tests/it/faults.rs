//! An upstream that hangs, cuts, lies and falls over: each has a bounded, clean answer, nothing
//! wrong is kept, and the next request finds everything in order again.

use std::{path::Path, time::Duration};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Package, Registry, Upstream,
    registry::{Start, with_json},
};

/// Short patience, and a breaker that these tests do not reach.
async fn proxy(upstream: &Upstream) -> Registry {
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    timeout: 300ms\n    maxage: 0s\n    max_fails: 1000\n",
        upstream.url
    );
    Registry::with_file(&file).await
}

/// The number of files in the cache of tarballs.
fn kept(registry: &Registry) -> usize {
    files_of_tarballs(&registry.data())
}

fn files_of_tarballs(data: &Path) -> usize {
    let folder = data.join("cache/packages");
    let folders = std::fs::read_dir(folder).into_iter().flatten();
    folders
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .filter(|file| file.as_ref().unwrap().path().extension().unwrap() == "tgz")
        .count()
}

#[tokio::test]
async fn an_upstream_that_hangs() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.plays("/lib", |_| std::future::pending());
    let registry = proxy(&upstream).await;
    let answer = registry.get("/lib").await.assert(504);
    assert_eq!(answer.json()["code"], "UPSTREAM_TIMEOUT");
    upstream.has(&[&package]);
    registry.get("/lib").await.assert(200);
    let path = "/lib/-/lib-1.0.0.tgz";
    upstream.plays(path, |_| std::future::pending());
    registry.get(path).await.assert(504);
    upstream.has(&[&package]);
    assert_eq!(registry.get(path).await.assert(200).body, package.tarball);
    // A document that is here already is served, and says that it may be old.
    upstream.plays("/lib", |_| std::future::pending());
    let stale = registry.get("/lib").await.assert(200);
    assert!(stale.header("warning").is_some());
}

#[tokio::test]
async fn an_upstream_that_answers_with_errors() {
    for status in [500, 502, 503, 403, 429, 418, 301] {
        let upstream = Upstream::start().await;
        upstream.has(&[&Package::new("lib", "1.0.0")]);
        let registry = proxy(&upstream).await;
        let good = registry.get("/lib").await.assert(200);
        upstream.fails("/lib", status);
        let before = upstream.asked("/lib");
        let stale = registry.get("/lib").await.assert(200);
        assert!(upstream.asked("/lib") > before, "{status}");
        assert!(stale.header("warning").is_some(), "{status}");
        assert_eq!(stale.body, good.body, "{status}");
        upstream.fails("/fresh", status);
        let fresh = registry.get("/fresh").await;
        assert!(fresh.status.is_server_error(), "{status}: {}", fresh.status);
        let code = fresh.json()["code"].clone();
        assert!(code.as_str().unwrap().starts_with("UPSTREAM_"), "{code}");
        upstream.has(&[&Package::new("fresh", "1.0.0")]);
        registry.get("/fresh").await.assert(200);
    }
}

#[tokio::test]
async fn one_document_that_fails_leaves_the_others_current() {
    let upstream = Upstream::start().await;
    let (bad, good) = (Package::new("bad", "1.0.0"), Package::new("good", "1.0.0"));
    upstream.has(&[&bad]);
    upstream.has(&[&good]);
    let registry = proxy(&upstream).await;
    registry.get("/bad").await.assert(200);
    registry.get("/good").await.assert(200);
    upstream.fails("/bad", 500);
    upstream.has(&[&good, &Package::new("good", "2.0.0")]);
    let stale = registry.get("/bad").await.assert(200);
    assert!(stale.header("warning").is_some());
    let asked = upstream.asked("/bad");
    registry.get("/bad").await.assert(200);
    assert_eq!(upstream.asked("/bad"), asked, "it is spared for a while");
    let current = registry.get("/good").await.assert(200);
    assert_eq!(current.header("warning"), None);
    assert!(current.json()["versions"]["2.0.0"].is_object());
}

#[tokio::test]
async fn other_questions_that_fail_leave_packages_alone() {
    let upstream = Upstream::start().await;
    let lib = Package::new("lib", "1.0.0");
    upstream.has(&[&lib]);
    let sides = [
        "/-/npm/v1/security/advisories/bulk",
        "/-/npm/v1/security/audits/quick",
        "/-/npm/v1/keys",
        "/-/v1/search",
        "/-/npm/v1/attestations/lib@1.0.0",
    ];
    for side in sides {
        upstream.fails(side, 500);
    }
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    fail_timeout: 1h\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    for _ in 0..4 {
        let audit = registry.request(Method::POST, sides[0]);
        let audit = with_json(audit, &json!({ "lib": ["1.0.0"] }));
        registry.send(audit).await;
        for side in [sides[2], "/-/v1/search?text=x", sides[4]] {
            registry.get(side).await;
        }
    }
    assert!(upstream.asked(sides[0]) > 0 && upstream.asked(sides[3]) > 0);
    assert_eq!(registry.tarball(&lib).await.assert(200).body, lib.tarball);
    // Nor does their good health make packages whole.
    for name in ["/p0", "/p1", "/p2"] {
        upstream.fails(name, 500);
    }
    registry.get("/p0").await.assert(502);
    registry.get("/p1").await.assert(502);
    upstream.forgets(sides[4]);
    registry.get(sides[4]).await;
    registry.get("/p2").await.assert(503);
    assert_eq!(upstream.asked("/p2"), 0);
}

#[tokio::test]
async fn an_upstream_that_wants_to_be_left_alone() {
    let upstream = Upstream::start().await;
    upstream.plays("/lib", |_| async {
        (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")]).into_response()
    });
    let registry = proxy(&upstream).await;
    let answer = registry.get("/lib").await.assert(503);
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(upstream.asked("/lib"), 1);
}

#[tokio::test]
async fn documents_that_are_none() {
    let upstream = Upstream::start().await;
    let registry = proxy(&upstream).await;
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("html", b"<html>captive portal</html>".to_vec()),
        ("empty", Vec::new()),
        ("list", b"[]".to_vec()),
        ("cut", br#"{"name":"lib","versions":{"1.0.0":{"#.to_vec()),
        ("other", br#"{"name":"other","versions":{}}"#.to_vec()),
        (
            "deep",
            format!("{{\"name\":\"lib\",\"a\":{}", "[".repeat(200_000)).into_bytes(),
        ),
    ];
    for (what, body) in bodies {
        upstream.plays("/lib", move |_| {
            let body = body.clone();
            async move { body.into_response() }
        });
        let answer = registry.get("/lib").await;
        assert_eq!(answer.status, 502, "{what}");
    }
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    registry.get("/lib").await.assert(200);
}

#[tokio::test]
async fn a_document_without_end() {
    let upstream = Upstream::start().await;
    upstream.plays("/lib", |_| async {
        let start = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"name\":\""))]);
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let endless = stream::repeat_with(move || Ok(piece.clone()));
        Body::from_stream(start.chain(endless)).into_response()
    });
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(502);
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    registry.get("/lib").await.assert(200);
}

#[tokio::test]
async fn a_tarball_that_is_not_what_was_promised() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 2_000_000);
    upstream.has(&[&package]);
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(200);
    let mut corrupted = package.tarball.clone();
    let middle = corrupted.len() / 2;
    corrupted[middle] ^= 1;
    let other = Package::with("lib", "1.0.0", &json!({}), &[("evil.js", b"1")]);
    for bytes in [
        corrupted,
        package.tarball[..middle].to_vec(),
        other.tarball.clone(),
        Vec::new(),
    ] {
        upstream.has_tarball(&package, bytes);
        let path = format!("{}/lib/-/lib-1.0.0.tgz", registry.url);
        let response = registry.client.get(path).send().await.unwrap();
        let status = response.status();
        // The answer may have begun before the end was known to be wrong; then it is cut, and
        // nobody takes it for whole.
        let body = response.bytes().await;
        assert!(body.is_err() || status == 502, "{status}");
        assert_eq!(kept(&registry), 0);
    }
    upstream.has(&[&package]);
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    let folder = registry.stop().await;
    let cached = files_of_tarballs(&folder.path().join("data"));
    assert_eq!(cached, 1);
}

#[tokio::test]
async fn a_tarball_that_breaks_off() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 1_000_000);
    upstream.has(&[&package]);
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(200);
    let bytes = Bytes::from(package.tarball.clone());
    upstream.plays("/lib/-/lib-1.0.0.tgz", move |_| {
        let bytes = bytes.clone();
        async move {
            let length = bytes.len();
            let start = stream::iter([Ok(bytes.slice(..length / 2))]);
            let reset = stream::iter([Err(std::io::Error::other("reset"))]);
            let headers = [(header::CONTENT_LENGTH, length.to_string())];
            (headers, Body::from_stream(start.chain(reset))).into_response()
        }
    });
    let path = format!("{}/lib/-/lib-1.0.0.tgz", registry.url);
    let response = registry.client.get(&path).send().await.unwrap();
    assert!(response.status() == 502 || response.bytes().await.is_err());
    assert_eq!(kept(&registry), 0);
    upstream.has(&[&package]);
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

#[tokio::test]
async fn a_tarball_without_end() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let path = "/lib/-/lib-1.0.0.tgz";
    upstream.plays(path, |_| async {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
        Body::from_stream(endless).into_response()
    });
    let variables = vec![("RUSTACCIO_UPSTREAM", upstream.url.clone())];
    let registry = Registry::with(Start {
        variables,
        tune: Some(|config| {
            for (_, uplink) in &mut config.uplinks.uplinks {
                uplink.max_tarball = 1 << 20;
            }
        }),
        ..Start::default()
    })
    .await;
    let url = format!("{}{path}", registry.url);
    let response = registry.client.get(&url).send().await.unwrap();
    assert!(response.status() == 502 || response.bytes().await.is_err());
    assert_eq!(kept(&registry), 0);
    let left = std::fs::read_dir(registry.data().join("tmp")).unwrap();
    assert_eq!(left.count(), 0);
    // One that says how long it is is not begun.
    let long = vec![0; (1 << 20) + 1];
    upstream.has_tarball(&package, long);
    registry.get(path).await.assert(502);
    upstream.has(&[&package]);
    assert_eq!(registry.get(path).await.assert(200).body, package.tarball);
}

#[tokio::test]
async fn answers_that_stop_in_the_middle() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 1_000_000);
    let registry = proxy(&upstream).await;
    let half = |whole: &[u8], resets: bool| {
        let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
        move |_| {
            let start = stream::iter([Ok(half.clone())]);
            let rest = if resets {
                stream::iter([Err(std::io::Error::other("reset"))]).boxed()
            } else {
                stream::pending().boxed()
            };
            async move { Body::from_stream(start.chain(rest)).into_response() }
        }
    };
    let document = upstream.document(&[&package]).to_string();
    for (resets, status) in [(true, 503), (false, 504)] {
        upstream.plays("/lib", half(document.as_bytes(), resets));
        registry.get("/lib").await.assert(status);
    }
    upstream.has(&[&package]);
    let good = registry.get("/lib").await.assert(200);
    let path = "/lib/-/lib-1.0.0.tgz";
    for resets in [true, false] {
        upstream.plays(path, half(&package.tarball, resets));
        let url = format!("{}{path}", registry.url);
        let response = registry.client.get(&url).send().await.unwrap();
        assert!(response.status().is_server_error() || response.bytes().await.is_err());
        assert_eq!(kept(&registry), 0);
    }
    // And what is here already stays what it was.
    upstream.plays("/lib", half(document.as_bytes(), true));
    let stale = registry.get("/lib").await.assert(200);
    assert!(stale.header("warning").is_some());
    assert_eq!(stale.body, good.body);
    upstream.has(&[&package]);
    assert_eq!(registry.get(path).await.assert(200).body, package.tarball);
}

#[tokio::test]
async fn a_storage_failure_is_never_not_found() {
    let upstream = Upstream::start().await;
    let registry = proxy(&upstream).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    // Whoever falls through to upstream would find this.
    upstream.has(&[&Package::new("app", "6.6.6")]);
    let asked = upstream.asked("/app");
    let folder = registry.data().join("tarballs/app");
    let (manifest, blob) = (folder.join("package.json"), folder.join("app-1.0.0.tgz"));
    let paths = [
        "/app",
        "/app/1.0.0",
        "/app/latest",
        "/app/-/app-1.0.0.tgz",
        "/-/package/app/dist-tags",
    ];
    let fail = async |paths: &[&str], what: &str| {
        for path in paths {
            let answer = registry.get(path).await;
            assert_eq!(answer.status, 503, "{what}: {path}");
            assert_eq!(answer.json()["code"], "STORAGE_UNAVAILABLE");
            let head = registry.send(registry.request(Method::HEAD, path)).await;
            assert_eq!(head.status, 503, "{what}: HEAD {path}");
        }
    };
    let good = std::fs::read(&manifest).unwrap();
    for rubbish in [&b"{\"name\":\"app\",\"vers"[..], b"", b"[]", b"\0\0\0\0"] {
        std::fs::write(&manifest, rubbish).unwrap();
        fail(&paths, "rubbish").await;
    }
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    fail(&paths, "a folder in the place of the manifest").await;
    std::fs::remove_dir(&manifest).unwrap();
    std::fs::write(&manifest, &good).unwrap();
    registry.get("/app").await.assert(200);
    let bytes = std::fs::read(&blob).unwrap();
    std::fs::remove_file(&blob).unwrap();
    registry.get("/app").await.assert(200);
    fail(&["/app/-/app-1.0.0.tgz"], "no blob").await;
    std::fs::write(&blob, bytes).unwrap();
    let aside = registry.data().join("aside");
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, b"no folder").unwrap();
    fail(&paths, "a file in the place of the folder").await;
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    assert_eq!(upstream.asked("/app"), asked);
}

#[tokio::test]
async fn redirects_are_followed_only_so_far_and_only_outwards() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    let to = |address: String| {
        move |_| {
            let address = address.clone();
            async move { (StatusCode::FOUND, [(header::LOCATION, address)]).into_response() }
        }
    };
    upstream.has(&[&package]);
    let registry = proxy(&upstream).await;
    upstream.plays("/loop", to(format!("{}/loop", upstream.url)));
    registry.get("/loop").await.assert(502);
    upstream.plays("/moved", to(format!("{}/lib", upstream.url)));
    // A document of another name is none.
    registry.get("/moved").await.assert(502);
    for target in [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/x",
        "http://[::1]:1/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "http://localhost:1/",
    ] {
        upstream.plays("/inward", to(target.to_owned()));
        let answer = registry.get("/inward").await;
        assert_eq!(answer.status, 502, "{target}");
        assert!(
            !answer.error().contains("169.254"),
            "tells where it was led"
        );
    }
}

#[tokio::test]
async fn tarballs_at_private_addresses_are_not_fetched() {
    let (upstream, inside) = (Upstream::start().await, Upstream::start().await);
    let package = Package::new("lib", "1.0.0");
    let bytes = package.tarball.clone();
    inside.plays("/secret.tgz", move |_| {
        let bytes = bytes.clone();
        async move { bytes.into_response() }
    });
    let registry = proxy(&upstream).await;
    for address in [
        format!("{}/secret.tgz", inside.url),
        "http://192.168.0.1/x.tgz".to_owned(),
        "ftp://x.example/x.tgz".to_owned(),
    ] {
        let mut document = upstream.document(&[&package]);
        document["versions"]["1.0.0"]["dist"]["tarball"] = json!(address);
        upstream.answers("/lib", &document);
        registry.get("/lib").await.assert(200);
        let file = address.rsplit('/').next().unwrap().to_owned();
        let answer = registry.get(&format!("/lib/-/{file}")).await;
        assert_eq!(answer.status, 502, "{address}");
    }
    assert_eq!(inside.asked("/secret.tgz"), 0);
}

#[tokio::test]
async fn a_document_without_integrity_gives_no_tarball() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let mut document = upstream.document(&[&package]);
    let dist = document["versions"]["1.0.0"]["dist"]
        .as_object_mut()
        .unwrap();
    dist.remove("integrity");
    let shasum = dist.remove("shasum").unwrap();
    upstream.answers("/lib", &document);
    let registry = proxy(&upstream).await;
    registry.tarball(&package).await.assert(502);
    document["versions"]["1.0.0"]["dist"]["shasum"] = shasum;
    upstream.answers("/lib", &document);
    registry.get("/lib").await.assert(200);
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

#[tokio::test]
async fn bytes_of_a_version_that_change_upstream() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let registry = proxy(&upstream).await;
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    let other = Package::with("lib", "1.0.0", &json!({}), &[("other.js", b"2")]);
    upstream.has(&[&other]);
    // Whatever document a client has seen, the bytes are those that it promises.
    let document = registry.get("/lib").await.assert(200).json();
    let integrity = document["versions"]["1.0.0"]["dist"]["integrity"].clone();
    assert_eq!(integrity, other.integrity());
    assert_eq!(
        registry.tarball(&other).await.assert(200).body,
        other.tarball
    );
}

#[tokio::test]
async fn an_uplink_that_fails_too_often_is_left_alone() {
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..10).map(|number| format!("/p{number}")).collect();
    for name in &names {
        upstream.fails(name, 500);
    }
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    max_fails: 2\n    fail_timeout: 1h\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    for name in &names {
        assert!(registry.get(name).await.status.is_server_error());
    }
    let asked: usize = names.iter().map(|name| upstream.asked(name)).sum();
    assert!(asked <= 6, "asked {asked} times");
    let refused = registry.get("/p1").await.assert(503);
    // Some clients wait for as long as they are told.
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_nobodys_download() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 4_000_000);
    upstream.has(&[&package]);
    let (step, stepped) = tokio::sync::mpsc::unbounded_channel::<()>();
    let stepped = std::sync::Arc::new(tokio::sync::Mutex::new(stepped));
    let bytes = Bytes::from(package.tarball.clone());
    upstream.plays("/lib/-/lib-1.0.0.tgz", move |_| {
        let (bytes, stepped) = (bytes.clone(), stepped.clone());
        async move {
            let length = bytes.len();
            let pieces = stream::unfold(0, move |at| {
                let (bytes, stepped) = (bytes.clone(), stepped.clone());
                async move {
                    if at > 0 && at < length {
                        stepped.lock().await.recv().await;
                    }
                    let end = (at + 1_000_000).min(length);
                    (at < length).then(|| (Ok::<_, std::io::Error>(bytes.slice(at..end)), end))
                }
            });
            let headers = [(header::CONTENT_LENGTH, length.to_string())];
            (headers, Body::from_stream(pieces)).into_response()
        }
    });
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    timeout: 30s\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    registry.get("/lib").await.assert(200);
    let url = format!("{}/lib/-/lib-1.0.0.tgz", registry.url);
    let (first, second) = tokio::join!(
        registry.client.get(&url).send(),
        registry.client.get(&url).send()
    );
    drop(first.unwrap());
    for _ in 0..8 {
        step.send(()).unwrap();
    }
    assert_eq!(second.unwrap().bytes().await.unwrap(), package.tarball);
    assert_eq!(upstream.asked("/lib/-/lib-1.0.0.tgz"), 1);
    let again = tokio::time::timeout(Duration::from_secs(20), registry.tarball(&package)).await;
    assert_eq!(again.unwrap().assert(200).body, package.tarball);
}

#[tokio::test]
async fn fields_of_upstream_pass_through() {
    let upstream = Upstream::start().await;
    let fields = json!({ "libc": ["musl"], "_npmUser": { "name": "them", "trustedPublisher": { "id": "github" } }, "odd": { "1": [1.0, "\u{e9}"] } });
    let package = Package::with("lib", "1.0.0", &fields, &[]);
    let mut document = upstream.document(&[&package]);
    let dist = &mut document["versions"]["1.0.0"]["dist"];
    dist["signatures"] = json!([{ "keyid": "SHA256:x", "sig": "y" }]);
    dist["attestations"] = json!({ "url": "https://x.example/a" });
    document["something"] = json!({ "new": true });
    upstream.answers("/lib", &document);
    let registry = proxy(&upstream).await;
    let shown: Value = registry.get("/lib").await.assert(200).json();
    document["versions"]["1.0.0"]["dist"]["tarball"] =
        json!(format!("{}/lib/-/lib-1.0.0.tgz", registry.url));
    assert_eq!(shown, document);
}
