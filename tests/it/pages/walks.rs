//! Walks through all pages, as people take them: with and without scripts, on a phone and at a desk, by day and by
//! night.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    browser::walk,
    shop::{self, HIDDEN, MAIN},
};
use crate::support::{Package, Registry, Upstream, User};

// Each walk is taken in each view of `tests/browser/walk.mjs`.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_a_desk_by_day() {
    reads(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_on_a_phone_by_night() {
    reads(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_on_a_phone_without_scripts() {
    reads(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_a_desk_without_scripts() {
    reads(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_what_is_hers_at_a_desk_by_day() {
    changes_what_is_hers(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_what_is_hers_on_a_phone_by_night() {
    changes_what_is_hers(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_what_is_hers_on_a_phone_without_scripts() {
    changes_what_is_hers(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_what_is_hers_at_a_desk_without_scripts() {
    changes_what_is_hers(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_after_it_at_a_desk_by_day() {
    looks_after_it(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_after_it_on_a_phone_by_night() {
    looks_after_it(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_after_it_on_a_phone_without_scripts() {
    looks_after_it(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_after_it_at_a_desk_without_scripts() {
    looks_after_it(3).await;
}

/// Somebody finds a package and reads about it.
async fn reads(view: usize) {
    let registry = shop::open(&[]).await;
    let task = json!({ "url": registry.url, "hidden": HIDDEN, "view": view });
    let report = walk("reading", task).await;
    report.assert("first", MAIN);
    report.assert("more", 2);
    report.assert_contains("found", "@acme/paint");
    report.assert("title", format!("{MAIN} · Rustaccio"));
    report.assert("heading", format!("{MAIN} 1.1.0"));
    report.assert_contains("dependents", "@acme/paint");
    report.assert("version", format!("{MAIN} 1.0.0"));
    report.assert("raw", MAIN);
    report.assert("file", "colours-1.1.0.tgz");
    let tarball = registry
        .get("/@acme/colours/-/colours-1.1.0.tgz")
        .await
        .assert(200);
    report.assert("bytes", tarball.body.len());
    report.assert("missing", 404);
    report.assert("hidden", 401);
    report.assert("skipped", "#main");
    if view < 2 {
        report.assert("copied", format!("npm install {MAIN}"));
        report.assert("filtered", 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_without_packages_says_how_to_use_it() {
    for prefix in ["", "/npm/private"] {
        let registry = Registry::start(&[("RUSTACCIO_URL_PREFIX", prefix)]).await;
        let report = walk("empty", json!({ "url": registry.url })).await;
        report.assert_contains(
            "help",
            &format!("npm config set registry {}/", registry.url),
        );
        report.assert("heading", "Sign in");
    }
}

/// Somebody signs in and changes what is hers.
async fn changes_what_is_hers(view: usize) {
    let registry = Registry::with_file(
        "packages:\n  '@secret/*': { access: $authenticated, publish: $authenticated }\n  '**': { access: $all, publish: $authenticated }\n",
    )
    .await;
    let bob = registry.user("bob").await;
    let secret = Package::new(HIDDEN, "1.0.0");
    registry.publish(&bob, &secret).await.assert(201);
    registry.user("alice").await;
    let task = json!({ "url": registry.url, "hidden": HIDDEN, "view": view });
    let report = walk("account", task).await;
    report.assert("asked", "Sign in");
    report.assert("wrong", 401);
    report.assert_contains("wrong says", "bad username/password");
    report.assert("right", 200);
    report.assert_contains("account", "Your account alice");
    report.assert("theme again", Value::Null);
    report.assert("hidden", 200);
    report.assert("bytes", secret.tarball.len());
    report.assert("token refused", 401);
    for limit in ["@acme", "other", "127.0.0.0/8", "read only"] {
        report.assert_contains("row", limit);
    }
    for (key, value) in [
        ("shown again", 0),
        ("left", 0),
        ("recovery codes", 10),
        ("signed out", 1),
        ("without pass", 401),
        ("with pass", 200),
        ("turned off", 1),
        ("old is wrong", 403),
        ("old", 401),
        ("new", 200),
        ("made", 1),
    ] {
        report.assert(key, value);
    }
    report.assert("then", "Sign in");
    for said in report.said.values() {
        assert_eq!(said["theme"][0], said["theme"][1]);
        assert!(said["picture"].as_u64().unwrap() >= 100, "{said}");
        // She has revoked it since.
        let token = said["token"].as_str().unwrap();
        assert!(token.starts_with("rca_"), "{token}");
        let token = token.to_owned();
        registry
            .get_as(&User { token }, "/-/whoami")
            .await
            .assert(401);
    }
}

/// An administrator looks after the registry.
async fn looks_after_it(view: usize) {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("left-pad", "1.3.0")]);
    let registry = Registry::start(&[
        ("RUSTACCIO_UPSTREAM", &upstream.url),
        ("RUSTACCIO_ADMIN_USERS", "root"),
    ])
    .await;
    let root = registry.user("root").await;
    let package = Package::new("@acme/app", "1.0.0");
    registry.publish(&root, &package).await.assert(201);
    registry.get("/left-pad").await.assert(200);
    let task = json!({ "url": registry.url, "view": view });
    let report = walk("admin", task).await;
    report.assert("refused", 401);
    report.assert("heading", "Administration");
    report.assert_contains("reindex", "Done");
    report.assert_contains("storage", "Done");
    report.assert_contains("users", "root");
    report.assert_contains("cached", "left-pad");
    report.assert("package", "left-pad 1.3.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_reads_pages_in_her_own_language() {
    let registry = shop::open(&[("RUSTACCIO_WEB_LOGIN", "true")]).await;
    let wish = json!({});
    let begun = registry.send_json(None, Method::POST, "/-/v1/login", &wish);
    let begun = begun.await.assert(200).json();
    let login = begun["loginUrl"].as_str().unwrap();
    let login = login.strip_prefix(&registry.url).unwrap();
    let languages = [
        ("en", "Published here", "Sign in"),
        ("de", "Hier veröffentlicht", "Anmelden"),
        ("es", "Publicados aquí", "Iniciar sesión"),
        ("fr", "Publiés ici", "Se connecter"),
        ("zh", "在此发布", "登录"),
        ("ja", "ここで公開", "サインイン"),
    ];
    let tags: Vec<&str> = languages.iter().map(|(tag, ..)| *tag).collect();
    let package = format!("/-/web/detail/{MAIN}");
    let pages = json!({
        "home": "/",
        "package": package,
        "missing": "/-/web/detail/missing",
        "sign-in": "/-/web/login",
        "npm": login,
    });
    let task = json!({ "url": registry.url, "languages": tags, "pages": pages });
    let report = walk("languages", task).await;
    for (tag, home, sign_in) in languages {
        let said = &report.said[tag];
        for page in ["home", "package", "missing", "sign-in", "npm"] {
            assert_eq!(said[&format!("{page} lang")], tag);
        }
        let heading = said["home heading"].as_str().unwrap();
        assert!(heading.starts_with(home), "{tag}: {heading}");
        assert_eq!(said["sign-in heading"], sign_in, "{tag}");
        assert_eq!(said["npm heading"], sign_in, "{tag}");
    }
}
