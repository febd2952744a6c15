//! Reading through an upstream: what is asked, what is kept, what is believed.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use reqwest::Method;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{
    Answer, Package, Registry, Upstream,
    forward_proxy::Door,
    registry::{Start, with_json},
    tls::{Authority, proxy_before},
    upstream::path_of,
};

async fn proxy(upstream: &Upstream) -> Registry {
    Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await
}

#[tokio::test]
async fn a_package_of_upstream_is_served_and_kept() {
    let upstream = Upstream::start().await;
    let package = Package::new("@up/lib", "1.0.0");
    upstream.has(&[&package]);
    let registry = proxy(&upstream).await;
    let document = registry.get("/@up/lib").await.assert(200);
    assert_eq!(document.header("cache-control"), Some("public, max-age=60"));
    let version = &document.json()["versions"]["1.0.0"];
    assert_eq!(
        version["dist"]["tarball"],
        format!("{}/@up/lib/-/lib-1.0.0.tgz", registry.url)
    );
    for _ in 0..2 {
        let bytes = registry.tarball(&package).await.assert(200);
        assert_eq!(bytes.body, package.tarball);
        registry.get("/@up/lib").await.assert(200);
    }
    assert_eq!(upstream.asked("/@up%2flib"), 1);
    assert_eq!(upstream.asked("/@up/lib/-/lib-1.0.0.tgz"), 1);
    // And without upstream, after a restart, it is all still there.
    upstream.stop().await;
    let folder = registry.stop().await;
    let file = "uplinks:\n  default:\n    url: http://127.0.0.1:9\n    maxage: 0\n";
    let registry = Registry::with(Start {
        file,
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let stale = registry.get("/@up/lib").await.assert(200);
    assert!(stale.header("warning").unwrap().starts_with("110"));
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    registry.get("/never-seen").await.assert(503);
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_question() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 3_000_000);
    let (document, gate) = (upstream.document(&[&package]), Arc::new(Notify::new()));
    let body = serde_json::to_vec(&document).unwrap();
    let held = Arc::clone(&gate);
    upstream.plays("/lib", move |_| {
        let (body, held) = (body.clone(), Arc::clone(&held));
        async move {
            held.notified().await;
            axum::response::IntoResponse::into_response(body)
        }
    });
    upstream.has_tarball(&package, package.tarball.clone());
    let registry = Arc::new(proxy(&upstream).await);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let registry = Arc::clone(&registry);
        readers.spawn(async move { registry.get("/lib").await.status });
    }
    while upstream.asked("/lib") == 0 {
        tokio::task::yield_now().await;
    }
    gate.notify_waiters();
    gate.notify_one();
    while let Some(status) = readers.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(upstream.asked("/lib"), 1);
    let mut downloads = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (registry, package) = (Arc::clone(&registry), package.clone());
        downloads.spawn(async move {
            registry.tarball(&package).await.assert(200).body == package.tarball
        });
    }
    while let Some(is_right) = downloads.join_next().await {
        assert!(is_right.unwrap());
    }
    assert_eq!(upstream.asked("/lib/-/lib-1.0.0.tgz"), 1);
}

#[tokio::test]
async fn an_old_document_is_asked_about_and_not_fetched_again() {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0"));
    upstream.has(&[&one]);
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    maxage: 0s\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    let first = registry.get("/lib").await.assert(200);
    let second = registry.get("/lib").await.assert(200);
    assert_eq!(first.body, second.body);
    let mut seen = upstream.seen();
    seen.retain(|(path, _)| path == "/lib");
    assert_eq!(seen.len(), 2);
    assert!(seen[1].1.contains_key("if-none-match"));
    let agent = seen[0].1["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("rustaccio/"), "{agent}");
    upstream.has(&[&one, &two]);
    assert_eq!(registry.get("/lib/latest").await.json()["version"], "2.0.0");
    // What upstream withdraws disappears here too.
    upstream.has(&[&one]);
    registry.get("/lib/2.0.0").await.assert(404);
    upstream.forgets("/lib");
    registry.get("/lib").await.assert(404);
}

#[tokio::test]
async fn what_is_not_there_is_remembered_briefly() {
    let upstream = Upstream::start().await;
    let registry = proxy(&upstream).await;
    for _ in 0..3 {
        registry.get("/nothing").await.assert(404);
    }
    assert_eq!(upstream.asked("/nothing"), 1);
    upstream.fails("/gone", 410);
    registry.get("/gone").await.assert(404);
}

#[tokio::test]
async fn a_name_born_here_is_never_asked_for_again() {
    let upstream = Upstream::start().await;
    let registry = proxy(&upstream).await;
    let alice = registry.user("alice").await;
    let ours = Package::new("ours", "1.0.0");
    registry.publish(&alice, &ours).await.assert(201);
    let evil = Package::new("ours", "99.0.0");
    upstream.has(&[&evil]);
    let before = upstream.asked("/ours");
    let document = registry.get("/ours").await.assert(200).json();
    assert_eq!(document["versions"].as_object().unwrap().len(), 1);
    registry.tarball(&evil).await.assert(404);
    registry.delete(&alice, "/ours/-rev/x").await.assert(201);
    registry.get("/ours").await.assert(404);
    assert_eq!(upstream.asked("/ours"), before);
}

#[tokio::test]
async fn a_patch_of_a_public_package_stands_above_it() {
    let upstream = Upstream::start().await;
    let theirs = [Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0")];
    upstream.has(&[&theirs[0], &theirs[1]]);
    let registry = proxy(&upstream).await;
    let alice = registry.user("alice").await;
    let patch = Package::new("lib", "1.0.1-acme.1");
    registry
        .publish_as(&alice, &patch, "acme")
        .await
        .assert(201);
    let document = registry.get("/lib").await.json();
    assert_eq!(document["versions"].as_object().unwrap().len(), 3);
    assert_eq!(
        document["dist-tags"],
        json!({ "latest": "2.0.0", "acme": "1.0.1-acme.1" })
    );
    assert_eq!(registry.tarball(&patch).await.body, patch.tarball);
    assert_eq!(registry.tarball(&theirs[0]).await.body, theirs[0].tarball);
    let taken = Package::with("lib", "2.0.0", &json!({}), &[("x", b"y")]);
    registry.publish(&alice, &taken).await.assert(409);
    // What is to be written is ours alone.
    let ours = registry.get_as(&alice, "/lib?write=true").await.json();
    assert_eq!(ours["versions"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_name_waits_until_upstream_can_be_asked() {
    let upstream = Upstream::start().await;
    upstream.fails("/fresh", 500);
    let registry = proxy(&upstream).await;
    let alice = registry.user("alice").await;
    let package = Package::new("fresh", "1.0.0");
    registry.publish(&alice, &package).await.assert(503);
    let allowed = Registry::start(&[
        ("RUSTACCIO_UPSTREAM", &upstream.url),
        ("RUSTACCIO_PUBLISH_ALLOW_OFFLINE", "true"),
    ])
    .await;
    let alice = allowed.user("alice").await;
    allowed.publish(&alice, &package).await.assert(201);
}

#[tokio::test]
async fn uplinks_are_asked_in_order_and_a_failure_ends_the_search() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let (here, there) = (
        Package::new("here", "1.0.0"),
        Package::new("there", "1.0.0"),
    );
    first.has(&[&here]);
    second.has(&[&there]);
    second.has(&[&Package::new("broken", "6.6.6")]);
    first.fails("/broken", 500);
    let file = format!(
        "uplinks:\n  one:\n    url: {}\n  two:\n    url: {}\npackages:\n  'private-*':\n    access: $all\n  '**':\n    access: $all\n    proxy: one two\n",
        first.url, second.url
    );
    let registry = Registry::with_file(&file).await;
    registry.get("/here").await.assert(200);
    assert_eq!(second.asked("/here"), 0);
    registry.get("/there").await.assert(200);
    assert_eq!(registry.tarball(&there).await.body, there.tarball);
    let refused = registry.get("/broken").await;
    assert!(refused.status.is_server_error());
    assert_eq!(second.asked("/broken"), 0);
    first.has(&[&Package::new("private-x", "1.0.0")]);
    registry.get("/private-x").await.assert(404);
    assert_eq!(first.asked("/private-x"), 0);
}

#[tokio::test]
async fn credentials_go_to_the_uplink_alone() {
    let (upstream, elsewhere) = (Upstream::start().await, Upstream::start().await);
    let package = Package::new("lib", "1.0.0");
    let mut document = upstream.document(&[&package]);
    let address = format!("{}/files/lib-1.0.0.tgz", elsewhere.url);
    document["versions"]["1.0.0"]["dist"]["tarball"] = json!(address);
    upstream.answers("/lib", &document);
    let bytes = package.tarball.clone();
    elsewhere.plays("/files/lib-1.0.0.tgz", move |_| {
        let bytes = bytes.clone();
        async move { axum::response::IntoResponse::into_response(bytes) }
    });
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    auth:\n      type: bearer\n      token: s3cret\n    headers:\n      x-extra: 'yes'\n  cdn:\n    url: {}\n",
        upstream.url, elsewhere.url
    );
    let registry = Registry::with_file(&file).await;
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    let (_, asked) = &upstream.seen()[0];
    assert_eq!(asked["authorization"], "Bearer s3cret");
    assert_eq!(asked["x-extra"], "yes");
    let (_, asked) = &elsewhere.seen()[0];
    assert!(!asked.contains_key("authorization") && !asked.contains_key("x-extra"));
}

/// Clients are never sent elsewhere: we go there ourselves, without anybody's credentials.
#[tokio::test]
async fn a_redirect_ends_here_and_takes_no_credentials_along() {
    let (upstream, elsewhere) = (Upstream::start().await, Upstream::start().await);
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let target = format!("{}/signed/lib.tgz?signature=x", elsewhere.url);
    upstream.plays("/lib/-/lib-1.0.0.tgz", move |_| {
        let target = target.clone();
        async move { (StatusCode::FOUND, [(header::LOCATION, target)]).into_response() }
    });
    let bytes = package.tarball.clone();
    elsewhere.plays("/signed/lib.tgz", move |_| {
        let bytes = bytes.clone();
        async move { bytes.into_response() }
    });
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    auth:\n      type: bearer\n      token: s3cret\n    headers:\n      cookie: s3cret\n  cdn:\n    url: {}\n",
        upstream.url, elsewhere.url
    );
    let registry = Registry::with_file(&file).await;
    let alice = registry.user("alice").await;
    let answer = registry.get_as(&alice, "/lib/-/lib-1.0.0.tgz").await;
    assert_eq!(answer.assert(200).body, package.tarball);
    let asked = [upstream.seen(), elsewhere.seen()].map(|seen| format!("{seen:?}"));
    assert!(asked[0].contains("s3cret") && asked[1].contains("/signed/lib.tgz"));
    for secret in ["s3cret", "authorization", "cookie", &alice.token] {
        assert!(!asked[1].contains(secret), "{secret}: {}", asked[1]);
    }
    assert!(!asked[0].contains(&alice.token));
}

#[tokio::test]
async fn upstream_errors_have_their_kinds() {
    let upstream = Upstream::start().await;
    let registry = proxy(&upstream).await;
    for (status, expected) in [(500, 502), (503, 503), (403, 502), (429, 503)] {
        let name = format!("s{status}");
        upstream.fails(&path_of(&name), status);
        let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
        let registry = Registry::with_file(&file).await;
        let answer = registry.get(&format!("/{name}")).await;
        assert_eq!(answer.status.as_u16(), expected, "{status}");
        assert_ne!(answer.status, StatusCode::NOT_FOUND);
    }
    registry.get("/-/ping").await.assert(200);
}

#[tokio::test]
async fn certificates_are_checked_as_the_uplink_says() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let secure = proxy_before(&upstream.url, &authority).await;
    let package = Package::new("lib", "1.0.0");
    let mut document = upstream.document(&[&package]);
    let address = format!("{}/lib/-/lib-1.0.0.tgz", secure.url);
    document["versions"]["1.0.0"]["dist"]["tarball"] = json!(address);
    upstream.answers("/lib", &document);
    upstream.has_tarball(&package, package.tarball.clone());
    let file = |more: &str| {
        let url = &secure.url;
        format!("uplinks:\n  default:\n    url: {url}\n    max_fails: 0\n{more}")
    };
    let registry = Registry::with_file(&file("")).await;
    registry.get("/lib").await.assert(503);
    let others = Authority::new();
    let ca = |authority: &Authority| format!("    ca: {}\n", authority.file().display());
    let registry = Registry::with_file(&file(&ca(&others))).await;
    registry.get("/lib").await.assert(503);
    for more in [ca(&authority), "    strict_ssl: false\n".to_owned()] {
        let registry = Registry::with_file(&file(&more)).await;
        let bytes = registry.tarball(&package).await.assert(200).body;
        assert_eq!(bytes, package.tarball, "{more}");
    }
}

#[tokio::test]
async fn a_rule_may_overrule_where_a_name_was_born() {
    let upstream = Upstream::start().await;
    let theirs = Package::new("lib", "1.0.0");
    upstream.has(&[&theirs]);
    let file = |merge: &str| {
        format!(
            "uplinks:\n  default:\n    url: {}\npackages:\n  '**':\n    access: $all\n    \
             publish: $authenticated\n    proxy: default\n{merge}",
            upstream.url
        )
    };
    let versions = |answer: Answer| {
        let document = answer.assert(200).json();
        document["versions"].as_object().unwrap().len()
    };
    let registry = Registry::with_file(&file("")).await;
    let alice = registry.user("alice").await;
    let (ours, patch) = (Package::new("ours", "1.0.0"), Package::new("lib", "2.0.0"));
    registry.publish(&alice, &ours).await.assert(201);
    registry.publish(&alice, &patch).await.assert(201);
    let later = Package::new("ours", "9.0.0");
    upstream.has(&[&later]);
    let mut folder = registry.stop().await;
    for (merge, of_ours, of_lib) in [
        ("", 1, 2),
        ("    merge: true\n", 2, 2),
        ("    merge: false\n", 1, 1),
    ] {
        let registry = Registry::with(Start {
            file: &file(merge),
            folder: Some(folder),
            ..Start::default()
        })
        .await;
        assert_eq!(versions(registry.get("/ours").await), of_ours, "{merge}");
        assert_eq!(versions(registry.get("/lib").await), of_lib, "{merge}");
        let status = registry.tarball(&later).await.status;
        assert_eq!(status, if of_ours == 2 { 200 } else { 404 }, "{merge}");
        folder = registry.stop().await;
    }
}

#[tokio::test]
async fn the_built_in_uplink_has_its_patience_from_variables() {
    let upstream = Upstream::start().await;
    upstream.plays("/lib", |_| std::future::pending());
    let registry = Registry::start(&[
        ("RUSTACCIO_UPSTREAM", &upstream.url),
        ("RUSTACCIO_UPSTREAM_TIMEOUT_SECS", "1"),
    ])
    .await;
    registry.get("/lib").await.assert(504);
    assert_eq!(upstream.asked("/lib"), 1);
}

#[tokio::test]
async fn a_registry_that_leads_back_to_itself_says_so() {
    // Straight back, and by way of another one.
    let (own, there) = (Door::new().await, Door::new().await);
    let of = |url: &str| format!("uplinks:\n  default:\n    url: {url}\n    timeout: 60s\n");
    let lonely = Registry::with_file(&of(&own.url)).await;
    own.lead_to(&lonely.url);
    let one = Registry::with_file(&of(&there.url)).await;
    let two = Registry::with_file(&of(&one.url)).await;
    there.lead_to(&two.url);
    for registry in [&lonely, &one, &two] {
        let answer = registry.get("/lib").await.assert(508);
        let text = answer.error();
        assert!(text.contains("leads back"), "{text}");
        registry.get("/lib/-/lib-1.0.0.tgz").await.assert(508);
        let path = "/-/npm/v1/security/advisories/bulk";
        let audit = registry.request(Method::POST, path);
        let audit = with_json(audit, &json!({ "lib": ["1.0.0"] }));
        registry.send(audit).await.assert(508);
    }
    // Two in a row are no circle.
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let near = Registry::with_file(&of(&upstream.url)).await;
    let far = Registry::with_file(&of(&near.url)).await;
    assert_eq!(
        far.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

#[tokio::test]
async fn forged_hops_spoil_nobody_elses_answer() {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0"));
    let forged = "0123456789abcdef";
    // A registry that has this name: whoever says to have come through it goes round in circles.
    let guarded = |path: &str, answer: Vec<u8>| {
        upstream.plays(path, move |headers| {
            let hops = headers.get("x-rustaccio-hops");
            let is_circle = hops.is_some_and(|hops| hops.to_str().unwrap().contains(forged));
            let answer = answer.clone();
            async move {
                if is_circle {
                    return axum::response::IntoResponse::into_response(StatusCode::LOOP_DETECTED);
                }
                axum::response::IntoResponse::into_response(answer)
            }
        });
    };
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    maxage: 0s\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    let forging = async |path: &str| {
        let request = registry.request(Method::GET, path);
        registry
            .send(request.header("x-rustaccio-hops", forged))
            .await
    };
    let tarball = "/lib/-/lib-1.0.0.tgz";
    let document = |packages: &[&Package]| upstream.document(packages).to_string().into_bytes();
    guarded("/lib", document(&[&one]));
    guarded(tarball, one.tarball.clone());
    forging("/lib").await.assert(508);
    registry.get("/lib").await.assert(200);
    forging(tarball).await.assert(508);
    registry.get(tarball).await.assert(200);
    // Nor does an old document stay old for everybody.
    guarded("/lib", document(&[&one, &two]));
    let stale = forging("/lib").await.assert(200);
    assert!(stale.header("warning").is_some());
    let current = registry.get("/lib").await.assert(200);
    assert_eq!(current.header("warning"), None);
    assert!(current.json()["versions"]["2.0.0"].is_object());
    let attestations = "/-/npm/v1/attestations/lib@1.0.0";
    guarded(attestations, br#"{"attestations":[]}"#.to_vec());
    forging(attestations).await.assert(508);
    registry.get(attestations).await.assert(200);
}

#[tokio::test]
async fn an_upstream_that_hangs_lets_one_reader_wait_and_not_each() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    timeout: 10m\n    maxage: 0s\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    registry.get("/lib").await.assert(200);
    upstream.plays("/lib", |_| std::future::pending());
    let reading = async {
        for _ in 0..20 {
            let stale = registry.get("/lib").await.assert(200);
            assert!(stale.header("warning").is_some());
        }
    };
    // All of them together wait for about as long as one.
    let done = tokio::time::timeout(Duration::from_secs(30), reading).await;
    done.expect("each of them waits");
    assert_eq!(upstream.asked("/lib"), 2);
}

#[tokio::test]
async fn tarballs_that_break_off_count_as_failures() {
    let upstream = Upstream::start().await;
    let packages = ["p0", "p1", "p2"].map(|name| Package::heavy(name, "1.0.0", 300_000));
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    max_fails: 2\n    fail_timeout: 1h\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    let path = |package: &Package| format!("/{}/-/{}", package.name, package.file());
    for package in &packages {
        upstream.has(&[package]);
        let document = format!("/{}", package.name);
        registry.get(&document).await.assert(200);
        let bytes = Bytes::from(package.tarball.clone());
        upstream.plays(&path(package), move |_| {
            let half = bytes.slice(..bytes.len() / 2);
            let reset = Err(std::io::Error::other("reset"));
            let body = Body::from_stream(stream::iter([Ok(half), reset]));
            let headers = [(header::CONTENT_LENGTH, bytes.len().to_string())];
            async move { (headers, body).into_response() }
        });
    }
    for package in &packages[..2] {
        let url = format!("{}{}", registry.url, path(package));
        let response = registry.client.get(url).send().await.unwrap();
        assert!(response.status().is_server_error() || response.bytes().await.is_err());
    }
    let refused = registry.tarball(&packages[2]).await.assert(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(upstream.asked(&path(&packages[2])), 0);
}
