//! Sources that lie, hang up and send elsewhere; and commands that are wrong.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::response::IntoResponse as _;
use http::{StatusCode, header};

use super::{Here, tarball_path};
use crate::support::{Package, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_with_the_source() {
    let (source, other) = (Upstream::start().await, Upstream::start().await);
    let (moved, sent) = (
        Package::new("moved", "1.0.0"),
        Package::new("sent", "1.0.0"),
    );
    for package in [&moved, &sent] {
        source.has(&[package]);
        other.has_tarball(package, package.tarball.clone());
    }
    // The document of one names another origin, the tarball of the other is somewhere else by now.
    let mut document = source.document(&[&moved]);
    let elsewhere = format!("{}{}", other.url, tarball_path(&moved));
    document["versions"]["1.0.0"]["dist"]["tarball"] = elsewhere.into();
    source.answers("/moved", &document);
    let elsewhere = format!("{}{}", other.url, tarball_path(&sent));
    source.plays(&tarball_path(&sent), move |_| {
        let headers = [(header::LOCATION, elsewhere.clone())];
        async move { (StatusCode::FOUND, headers).into_response() }
    });
    let here = Here::with(&[("RUSTACCIO_IMPORT_TOKEN", "secret")]);
    let names = here.file("names", "moved\nsent\n");
    // A private address that nobody has configured is not asked; the source may have it itself.
    let said = here.import(&source.url, &["--names", &names]).await;
    said.fails("failed: sent@1.0.0");
    assert!(other.seen().is_empty());
    let here = Here::with(&[
        ("RUSTACCIO_IMPORT_TOKEN", "secret"),
        ("RUSTACCIO_UPSTREAM", &other.url),
    ]);
    let names = here.file("names", "moved\nsent\n");
    here.import(&source.url, &["--names", &names]).await.fine();
    assert_eq!(other.seen().len(), 2);
    for (path, headers) in other.seen() {
        assert!(!headers.contains_key(header::AUTHORIZATION), "{path}");
    }
    for (path, headers) in source.seen() {
        assert_eq!(headers[header::AUTHORIZATION], "Bearer secret", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_busy_is_asked_again_when_it_says() {
    let upstream = Upstream::start().await;
    let package = Package::new("busy", "1.0.0");
    upstream.has(&[&package]);
    let document = upstream.document(&[&package]).to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    upstream.plays("/busy", move |_| {
        let (count, document) = (asked.fetch_add(1, Ordering::SeqCst), document.clone());
        async move {
            match count {
                0 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "3")]).into_response(),
                1..5 => StatusCode::BAD_GATEWAY.into_response(),
                _ => document.into_response(),
            }
        }
    });
    let here = Here::new();
    let names = here.file("names", "busy");
    let began = std::time::Instant::now();
    here.import(&upstream.url, &["--names", &names])
        .await
        .fine();
    assert!(began.elapsed().as_secs() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_is_told_from_one() {
    let upstream = Upstream::start().await;
    let here = Here::new();
    let html = |_| async { ([(header::CONTENT_TYPE, "text/html")], "<html>").into_response() };
    for path in [
        "/-/verdaccio/data/packages",
        "/-/all",
        "/-/v1/search",
        "/page",
    ] {
        upstream.plays(path, html);
    }
    here.import(&upstream.url, &[])
        .await
        .fails("is it the address of a registry?");
    upstream.plays("/round", |_| async {
        (StatusCode::FOUND, [(header::LOCATION, "/round")]).into_response()
    });
    upstream.answers(
        "/other",
        &serde_json::json!({ "name": "another", "versions": {} }),
    );
    upstream.answers(
        "/list",
        &serde_json::json!({ "name": "list", "versions": [1, 2] }),
    );
    let odd =
        serde_json::json!({ "name": "odd", "versions": { "../x": {}, "1.0.0": { "dist": 7 } } });
    upstream.answers("/odd", &odd);
    upstream.plays("/huge", |_| async {
        let announced = [(header::CONTENT_LENGTH, "999999999999")];
        (
            announced,
            axum::body::Body::from_stream(futures_util::stream::pending::<
                Result<bytes::Bytes, std::io::Error>,
            >()),
        )
            .into_response()
    });
    let names = here.file("names", "page\nround\nother\nlist\nodd\nhuge\n");
    let said = here
        .import(&upstream.url, &["--names", &names, "--json"])
        .await;
    assert!(!said.is_fine);
    let summary = said.json();
    let failures: Vec<&str> = summary["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    for (name, why) in [
        ("page", "it is not a JSON object"),
        ("round", "bad redirect"),
        ("other", "answered with another package"),
        ("odd@../x", "it is no version"),
        ("huge", "larger than"),
    ] {
        assert!(
            failures
                .iter()
                .any(|text| text.starts_with(name) && text.contains(why)),
            "{name}: {failures:?}"
        );
    }
    assert_eq!(summary["missing"][0], "odd@1.0.0, which names no tarball");
    assert_eq!(summary["changed"], 0);
    let left = std::fs::read_dir(here.data().join("tarballs"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_gone_is_given_up() {
    let here = Here::new();
    let names: Vec<String> = (0..200).map(|number| format!("p{number}")).collect();
    let names = names.join("\n");
    let names = here.file("names", &names);
    let said = here
        .import("http://127.0.0.1:1", &["--names", &names, "--jobs", "64"])
        .await;
    said.fails("further packages were not tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_commands_say_what_to_do() {
    let here = Here::new();
    let bad = here.file("names", "good\n../bad\n");
    let none = here.file("lock", "<html>");
    let source = "http://127.0.0.1:1";
    for (arguments, with) in [
        (&["not-an-address"][..], "https://npm.example.com"),
        (&["ftp://x"], "no address of http"),
        (&["http://bob:secret@x"], "RUSTACCIO_IMPORT_TOKEN"),
        (&[source, "--names", "/not/there"], "/not/there"),
        (&[source, "--names", &bad], "line 2"),
        (&[source, "--lockfile", &none], "it is no lockfile"),
        (
            &[source, "--names", &bad, "--search", "x"],
            "cannot be used with",
        ),
        (&[source, "--jobs", "0"], "--jobs"),
        (&[source], "the source cannot be used"),
    ] {
        here.run(&[&["import"], arguments].concat())
            .await
            .fails(with);
    }
}
