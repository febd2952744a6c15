//! Packages that wish their readers ill: what a page shows of them does nothing, asks nobody, and stays where it is.

mod corpus;
mod html;

use serde_json::{Value, json};

use crate::support::{Package, Registry, Upstream, upstream::path_of};
use corpus::{Evil, all};

/// No page is longer than this, whatever somebody has published.
const MAX_PAGE: usize = 6 * 1024 * 1024;

/// A registry with the whole corpus: published here, and once more by an upstream that checks nothing. The paths of
/// their pages.
async fn open() -> (Registry, Upstream, Vec<String>) {
    let upstream = Upstream::start().await;
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let alice = registry.user("alice").await;
    let mut paths = Vec::new();
    for Evil {
        name,
        fields,
        document,
    } in all()
    {
        let package = Package::with(&format!("evil-{name}"), "1.0.0", &fields, &[]);
        let published = registry.publish(&alice, &package).await;
        let is_refused = published.status.is_client_error();
        assert!(
            is_refused || published.status == 201,
            "{name}: {published:?}"
        );
        if !is_refused {
            paths.push(format!("/-/web/detail/{}", package.name));
        }
        let package = Package::with(&format!("foreign-{name}"), "1.0.0", &fields, &[]);
        let mut proxied = upstream.document(&[&package]);
        for (key, value) in document.as_object().unwrap() {
            proxied[key] = value.clone();
        }
        upstream.answers(&path_of(&package.name), &proxied);
        paths.push(format!("/-/web/detail/{}", package.name));
        paths.push(format!("/-/web/detail/{}/v/1.0.0", package.name));
    }
    paths.push("/".to_owned());
    paths.push("/-/web?q=evil".to_owned());
    (registry, upstream, paths)
}

#[tokio::test]
async fn nothing_of_theirs_is_active_in_any_page() {
    let (registry, _upstream, paths) = open().await;
    assert!(paths.len() > 60, "{paths:?}");
    for path in paths {
        let page = registry.get(&path).await;
        let page = page.assert(200);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(page.body.len() < MAX_PAGE, "{path}: {}", page.body.len());
        let text = String::from_utf8(page.body).unwrap();
        let problems = html::problems(&text);
        assert!(problems.is_empty(), "{path}: {problems:#?}");
        // Nothing is harmless because it is not there.
        if path.ends_with("-links") {
            assert!(text.contains("<article class=\"readme\""), "{text}");
        }
    }
}

#[tokio::test]
async fn raw_manifests_are_no_pages() {
    let (registry, _upstream, _) = open().await;
    for name in ["evil-scripts", "foreign-scripts"] {
        let raw = registry
            .get(&format!("/-/web/raw/{name}/1.0.0"))
            .await
            .assert(200);
        assert_eq!(raw.header("content-type"), Some("application/json"));
        assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
        assert!(
            raw.json()["description"]
                .as_str()
                .unwrap()
                .contains("<script>")
        );
    }
}

/// What an address says comes back in no page as more than text.
#[tokio::test]
async fn addresses_are_text() {
    let registry = Registry::alone().await;
    let evil = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for path in [
        format!("/-/web?q={evil}"),
        format!("/-/web?q=x&from={evil}"),
        format!("/-/web/login?back={evil}"),
        "/-/web/login?back=//evil.example/".to_owned(),
        "/-/web/login?back=/\\evil.example/".to_owned(),
        "/-/web/login?back=javascript:alert(1)".to_owned(),
        format!("/-/web/detail/{evil}"),
        format!("/-/web/detail/x/v/{evil}"),
        format!("/?{evil}"),
    ] {
        let page = registry.get(&path).await;
        assert!(page.status.as_u16() < 500, "{path}: {page:?}");
        let text = String::from_utf8(page.body).unwrap();
        if text.starts_with('{') {
            continue;
        }
        let problems = html::problems(&text);
        assert!(problems.is_empty(), "{path}: {problems:#?}");
        assert!(
            !text.contains("value=\"//evil") && !text.contains("value=\"/\\"),
            "{text}"
        );
    }
}

#[cfg(feature = "test-browser")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_run_nothing_and_ask_nobody() {
    let (registry, _upstream, paths) = open().await;
    let mut paths = paths;
    paths.retain(|path| !path.contains("/v/"));
    let task = json!({ "url": registry.url, "paths": paths, "strangers": true, "view": 1 });
    super::browser::walk("hostile", task).await;
}

/// What a stranger may say where a text is wanted.
fn odd() -> Vec<(&'static str, Value)> {
    vec![
        ("number", json!(7)),
        ("huge", json!(1e308)),
        ("true", json!(true)),
        ("null", Value::Null),
        ("list", json!(["<b>", 7, null, {}, []])),
        (
            "object",
            json!({ "": "", "<b>": 7, "url": ["javascript:x"], "name": {}, "type": [], "__proto__": {} }),
        ),
        ("empty", json!("")),
        (
            "markup",
            json!(
                "\"><script>window.evil_field = 1</script><img src=x onerror=window.evil_field=1>'"
            ),
        ),
        ("long", json!("x".repeat(1024 * 1024))),
    ]
}
