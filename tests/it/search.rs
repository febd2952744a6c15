//! Searching here and upstream at once.

use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use crate::support::{Package, Registry, Upstream};

/// An upstream whose search finds these names; it turns pages as the public registry does.
fn finds(upstream: &Upstream, names: &[&str]) {
    let hits: Vec<Value> = names
        .iter()
        .map(|name| json!({ "package": { "name": name, "version": "1.0.0" }, "score": { "final": 1 } }))
        .collect();
    // The support knows no queries; everything is on one page.
    let answer = json!({ "objects": hits, "total": hits.len(), "time": "x" }).to_string();
    upstream.plays("/-/v1/search", move |_| {
        let answer = answer.clone();
        async move { ([("content-type", "application/json")], answer).into_response() }
    });
}

fn names(page: &Value) -> Vec<String> {
    let hits = page["objects"].as_array().unwrap().iter();
    hits.map(|hit| hit["package"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn page(registry: &Registry, query: &str) -> Value {
    let path = format!("/-/v1/search?{query}");
    registry.get(&path).await.assert(200).json()
}

#[tokio::test]
pub(crate) async fn pages_of_all_sources_add_up() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    // Of these, one is hosted here, one is hidden, one is nobody's, and some come twice.
    let found = [
        "a-1",
        "tool-2",
        "@acme/hidden",
        "a-2",
        "a-1",
        "@second/x",
        "a-3",
        "a-4",
    ];
    finds(&first, &found);
    finds(&second, &["@second/x", "@both/y", "a-1", "@both/z"]);
    let file = format!(
        "uplinks:\n  first:\n    url: {}\n  second:\n    url: {}\npackages:\n  '@second/*': {{access: $all, proxy: second}}\n  '@both/*': {{access: $all, proxy: first second}}\n  '@acme/*': {{access: $authenticated, publish: $authenticated, proxy: first}}\n  '**': {{access: $all, publish: $authenticated, proxy: first}}\n",
        first.url, second.url
    );
    let registry = Registry::with_file(&file).await;
    let alice = registry.user("alice").await;
    for number in 1..=3 {
        let package = Package::new(&format!("tool-{number}"), "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    let all = [
        "tool-1",
        "tool-2",
        "tool-3",
        "a-1",
        "a-2",
        "a-3",
        "a-4",
        "@second/x",
        "@both/y",
        "@both/z",
    ];
    for size in [1, 2, 3, 4, 7, 20] {
        let mut turned = Vec::new();
        for from in (0..all.len()).step_by(size) {
            let page = page(&registry, &format!("text=tool&size={size}&from={from}")).await;
            assert_eq!(page["total"], all.len(), "{size} {from}");
            assert!(names(&page).len() <= size);
            turned.extend(names(&page));
        }
        assert_eq!(turned, all, "{size}");
    }
    let past = page(&registry, "text=tool&from=18446744073709551615").await;
    assert_eq!((names(&past).len(), &past["total"]), (0, &json!(all.len())));
    // Whoever turns pages does not ask upstream again.
    assert_eq!(first.asked("/-/v1/search"), 1);
    first.fails("/-/v1/search", 500);
    second.fails("/-/v1/search", 404);
    let alone = page(&registry, "text=tool-1").await;
    assert_eq!(names(&alone), ["tool-1"]);
}

#[tokio::test]
pub(crate) async fn qualifiers_that_are_not_known_here_change_nothing() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let tool = Package::new("tool", "1.0.0");
    registry.publish(&alice, &tool).await.assert(201);
    for text in [
        "not:insecure",
        "is:insecure",
        "not:unstable",
        "tool not:deprecated",
        "is:",
    ] {
        let found = page(&registry, &format!("text={}", text.replace(' ', "%20"))).await;
        assert_eq!(names(&found), ["tool"], "{text}");
    }
    let none = page(&registry, "text=is:unstable").await;
    assert!(names(&none).is_empty());
}

#[tokio::test]
pub(crate) async fn hits_of_upstream_have_maintainers() {
    let upstream = Upstream::start().await;
    finds(&upstream, &["a-1"]);
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let registry = Registry::with_file(&file).await;
    let found = page(&registry, "text=a").await;
    assert_eq!(found["objects"][0]["package"]["maintainers"], json!([]));
    assert_eq!(found["objects"][0]["package"]["version"], "1.0.0");
}

#[tokio::test]
pub(crate) async fn equal_searches_are_one_question_which_outlives_those_who_wait() {
    let upstream = Upstream::start().await;
    let (open, opened) = tokio::sync::watch::channel(false);
    let hits =
        json!({ "objects": [{ "package": { "name": "a-1", "version": "1.0.0" } }], "total": 1 });
    upstream.plays("/-/v1/search", move |_| {
        let (mut opened, hits) = (opened.clone(), hits.to_string());
        async move {
            opened.wait_for(|is_open| *is_open).await.unwrap();
            hits.into_response()
        }
    });
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let registry = Registry::with_file(&file).await;
    let searches = [(); 3].map(|()| page(&registry, "text=a"));
    for found in futures_util::future::join_all(searches).await {
        assert!(names(&found).is_empty());
    }
    open.send(true).unwrap();
    assert_eq!(names(&page(&registry, "text=a").await), ["a-1"]);
    assert_eq!(upstream.asked("/-/v1/search"), 1);
}

#[tokio::test]
pub(crate) async fn a_search_that_fails_late_counts_as_a_failure() {
    let upstream = Upstream::start().await;
    upstream.plays("/-/v1/search", |_| std::future::pending());
    // Later than a search waits.
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    timeout: 4s\n    max_fails: 1\n    fail_timeout: 1h\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    for _ in 0..4 {
        assert!(names(&page(&registry, "text=a").await).is_empty());
    }
    assert_eq!(upstream.asked("/-/v1/search"), 1);
}

#[cfg(feature = "test-clients")]
mod clients {
    use std::sync::Arc;

    use super::*;
    use crate::support::client::Client;

    async fn merged(client: &'static str) {
        let upstream = Upstream::start().await;
        finds(&upstream, &["upstream-tool"]);
        let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
        let registry = Arc::new(Registry::with_file(&file).await);
        let alice = registry.user("alice").await;
        let tool = Package::new("tool", "1.0.0");
        registry.publish(&alice, &tool).await.assert(201);
        let url = registry.url.clone();
        let work = move || {
            let client = Client::new(client);
            client.configure(".npmrc", &format!("registry={url}/\n"));
            let shown = client.ok(&["search", "tool"]);
            let (local, theirs) = (shown.find("tool"), shown.find("upstream-tool"));
            assert!(local.is_some() && local < theirs, "{shown}");
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    }

    macro_rules! merged {
        ($($test:ident $name:literal),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::merged($name).await;
                }
            )*
        };
    }

    mod newest {
        merged! { npm_12 "npm-12", pnpm_12 "pnpm-12" }
    }

    mod older {
        merged! { npm_6 "npm-6", npm_7 "npm-7", npm_8 "npm-8", npm_9 "npm-9", npm_10 "npm-10", npm_11 "npm-11" }
    }
}
