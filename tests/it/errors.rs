//! Errors are what their contract says: the document against the code, and answers against both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use http::StatusCode;
use reqwest::Method;
use serde_json::json;

use crate::support::{Package, Registry, Upstream};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table below a heading, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/contracts/error-taxonomy-v1.md")).unwrap();
    let (_, section) = text.split_once(&format!("## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| {
            let cells = row.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn documented() -> BTreeMap<String, u16> {
    let rows = table("Codes").into_iter();
    rows.map(|row| (row[0].trim_matches('`').to_owned(), row[1].parse().unwrap()))
        .collect()
}

/// Status and code of each row of the table in the code.
fn implemented() -> BTreeMap<String, u16> {
    let text = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let by_name: BTreeMap<String, u16> = (100..600)
        .filter_map(|number| StatusCode::from_u16(number).ok())
        .filter_map(|status| {
            let reason = status.canonical_reason()?;
            Some((
                reason.to_uppercase().replace([' ', '-'], "_"),
                status.as_u16(),
            ))
        })
        .collect();
    let rows = text.lines().filter_map(|line| {
        let (_, row) = line.split_once("(S::")?;
        let (status, code) = row.split_once(", ")?;
        let code = code.trim_start_matches('"').split('"').next()?;
        Some((code.to_owned(), by_name[status]))
    });
    rows.collect()
}

#[test]
fn every_code_is_documented_with_its_status() {
    let implemented = implemented();
    assert!(implemented.len() > 20, "{implemented:?}");
    assert_eq!(implemented, documented());
}

fn sources(folder: PathBuf, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(path, all);
        } else {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn texts_that_clients_look_for_stay() {
    let mut code = String::new();
    sources(root().join("src"), &mut code);
    // Strings that go on in the next line.
    let mut joined = String::new();
    for line in code.lines() {
        match line.strip_suffix('\\') {
            Some(start) => joined.push_str(start.trim_start()),
            None => joined.push_str(line.trim_start()),
        }
    }
    let codes: BTreeSet<String> = documented().into_keys().collect();
    let rows = table("Texts that clients look for");
    assert!(!rows.is_empty());
    for row in rows {
        let text = row[0].trim_matches('`');
        for fixed in text.split(['<', '>']).step_by(2) {
            assert!(
                joined.contains(fixed),
                "`{fixed}` of `{text}` is not in the code"
            );
        }
        for named in row[1].split(", ") {
            assert!(codes.contains(named.trim_matches('`')), "{named}");
        }
    }
}

#[tokio::test]
pub(crate) async fn every_error_has_its_shape() {
    let registry = Registry::start(&[("RUSTACCIO_MAX_BODY_SIZE", "1mb")]).await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let documented = documented();
    let big = json!("x".repeat(2 << 20));
    let version = json!("9.9.9");
    let nothing = json!({});
    let cases = [
        (Method::GET, "/missing", None, &nothing, 404),
        (Method::GET, "/app/9.9.9", None, &nothing, 404),
        (Method::GET, "/-/nothing/here", None, &nothing, 404),
        (Method::GET, "/-/whoami", None, &nothing, 401),
        (Method::PUT, "/other", None, &nothing, 401),
        (Method::PUT, "/other", Some(&alice), &nothing, 400),
        (Method::PUT, "/other", Some(&alice), &big, 413),
        (
            Method::PUT,
            "/-/package/app/dist-tags/next",
            Some(&bob),
            &version,
            404,
        ),
        (
            Method::POST,
            "/-/npm/v1/tokens",
            Some(&alice),
            &nothing,
            422,
        ),
        (Method::PATCH, "/-/ping", None, &nothing, 405),
    ];
    for (method, path, user, body, status) in cases {
        let what = format!("{method} {path}");
        let answer = registry
            .send_json(user, method, path, body)
            .await
            .assert(status);
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        assert_eq!(
            answer.header("cache-control"),
            Some("private, no-cache"),
            "{what}"
        );
        assert!(answer.header("www-authenticate").is_none(), "{what}");
        let shown = answer.json();
        let fields = shown.as_object().unwrap();
        assert!(!fields["error"].as_str().unwrap().is_empty(), "{what}");
        assert_eq!(
            documented[fields["code"].as_str().unwrap()],
            status,
            "{what}"
        );
        assert_eq!(
            fields.contains_key("hint"),
            matches!(status, 401 | 403),
            "{what}"
        );
        assert!(fields.len() <= 3, "{what}: {fields:?}");
    }
    let refused = registry.publish(&bob, &package).await.assert(409);
    assert_eq!(refused.json()["code"], "STORAGE_CONFLICT");
    let hint = registry.get("/-/whoami").await.json()["hint"].clone();
    assert!(hint.as_str().unwrap().contains("Bearer token"));
}

#[tokio::test]
pub(crate) async fn errors_of_upstream_name_nothing_of_ours() {
    let upstream = Upstream::start().await;
    upstream.plays("/lib", |_| async {
        axum::response::IntoResponse::into_response("<html>")
    });
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let answer = registry.get("/lib").await.assert(502);
    assert_eq!(answer.json()["code"], "UPSTREAM_BAD_GATEWAY");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        !text.contains("127.0.0.1") && !text.contains("html"),
        "{text}"
    );
}
