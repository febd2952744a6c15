//! An upstream that hangs, cuts, lies and falls over: each has a bounded, clean answer, nothing
//! wrong is kept, and the next request finds everything in order again.

use std::time::Duration;

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Package, Registry, Upstream};

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
    let folder = registry.data().join("cache/tarballs");
    let folders = std::fs::read_dir(folder).into_iter().flatten();
    folders
        .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum()
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
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let registry = proxy(&upstream).await;
    let good = registry.get("/lib").await.assert(200);
    for status in [500, 502, 503, 403, 429, 418, 301] {
        upstream.fails("/lib", status);
        let stale = registry.get("/lib").await.assert(200);
        assert_eq!(stale.body, good.body, "{status}");
        upstream.fails("/fresh", status);
        let fresh = registry.get("/fresh").await;
        assert!(fresh.status.is_server_error(), "{status}: {}", fresh.status);
        assert!(
            fresh.json()["code"]
                .as_str()
                .unwrap()
                .starts_with("UPSTREAM_")
        );
    }
    upstream.has(&[&Package::new("fresh", "1.0.0")]);
    registry.get("/fresh").await.assert(200);
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
    assert_eq!(kept(&registry), 1);
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
    assert!(refused.header("retry-after").is_some());
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
