//! What Verdaccio's own pages read and send (`/-/verdaccio/…`), and that it opens no other door.

mod accounts;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Package, Registry, Upstream, User, registry::Start};

const PACKAGES: &str = "/-/verdaccio/data/packages";
const README: &str = "/-/verdaccio/data/package/readme";
const SIDEBAR: &str = "/-/verdaccio/data/sidebar";
const SEARCH: &str = "/-/verdaccio/data/search";
const LOGIN: &str = "/-/verdaccio/sec/login";
const SIGNUP: &str = "/-/verdaccio/sec/signup";
const PASSWORD: &str = "/-/verdaccio/sec/reset_password";

/// Everybody reads what has no scope; `@secret` is for alice.
const RULES: &str = "packages:
  '@secret/*': { access: alice, publish: alice }
  '**': { access: $all, publish: $authenticated }
";

fn app(name: &str, version: &str) -> Package {
    let fields = json!({
        "description": "Frobs things.",
        "keywords": ["frob"],
        "license": "MIT",
        "author": { "name": "Ada", "email": "ada@x.example" },
        "contributors": ["Bob"],
        "repository": { "type": "git", "url": "git+https://git.example/acme/app.git" },
        "bugs": { "url": "https://git.example/acme/app/issues" },
        "homepage": "https://acme.example/",
    });
    let readme = format!("# Über {name}\n\n<script>alert(1)</script>\n");
    let files: [(&str, &[u8]); 2] = [("README.md", readme.as_bytes()), ("index.js", b"//\n")];
    Package::with(name, version, &fields, &files)
}

async fn scene() -> (Registry, User) {
    let registry = Registry::with_file(RULES).await;
    let alice = registry.user("alice").await;
    for name in ["plain", "@acme/app", "@secret/app"] {
        registry
            .publish(&alice, &app(name, "1.0.0"))
            .await
            .assert(201);
    }
    let beta = app("@acme/app", "2.0.0-beta.1");
    registry.publish_as(&alice, &beta, "beta").await.assert(201);
    (registry, alice)
}

#[track_caller]
fn names(answer: &Answer) -> Vec<String> {
    let list = answer.json();
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn post(registry: &Registry, body: &Value) -> Answer {
    registry.send_json(None, Method::POST, LOGIN, body).await
}

#[tokio::test]
async fn packages_are_listed_by_name_for_whoever_may_read_them() {
    let (registry, alice) = scene().await;
    let bob = registry.user("bob").await;
    let everybodys = ["@acme/app", "plain"];
    let list = registry.get(PACKAGES).await.assert(200);
    assert_eq!(names(&list), everybodys);
    assert_eq!(list.header("content-type"), Some("application/json"));
    assert_eq!(names(&registry.get_as(&bob, PACKAGES).await), everybodys);
    let all = registry.get_as(&alice, PACKAGES).await;
    assert_eq!(names(&all), ["@acme/app", "@secret/app", "plain"]);
    let row = &list.json()[0];
    assert_eq!(row["version"], "1.0.0");
    assert_eq!(row["description"], "Frobs things.");
    assert_eq!(row["keywords"], json!(["frob"]));
    assert_eq!(row["license"], "MIT");
    assert_eq!(row["homepage"], "https://acme.example/");
    assert_eq!(row["bugs"]["url"], "https://git.example/acme/app/issues");
    assert_eq!(row["repository"]["url"], "https://git.example/acme/app");
    assert_eq!(row["author"]["name"], "Ada");
    assert_eq!(row["author"]["email"], "ada@x.example");
    // Nobody else is told who looks at whom.
    let avatar = row["author"]["avatar"].as_str().unwrap();
    assert!(avatar.starts_with("data:image/svg+xml,"), "{avatar}");
    assert_eq!(row["_id"], "@acme/app@1.0.0");
    assert_eq!(row["users"], json!({}));
    assert!(row["time"].as_str().unwrap().ends_with('Z'));
    let tarball = row["dist"]["tarball"].as_str().unwrap();
    assert_eq!(
        tarball,
        format!("{}/@acme/app/-/app-1.0.0.tgz", registry.url)
    );
    let path = tarball.strip_prefix(&registry.url).unwrap();
    let bytes = registry.get(path).await.assert(200).body;
    assert_eq!(bytes, app("@acme/app", "1.0.0").tarball);
}

#[tokio::test]
async fn stars_and_unpublished_packages_show_in_lists_at_once() {
    let (registry, alice) = scene().await;
    registry
        .put(&alice, "/-/user/package/plain/star", &json!({}))
        .await
        .assert(200);
    let list = registry.get(PACKAGES).await.json();
    assert_eq!(list[1]["users"], json!({ "alice": true }));
    registry.delete(&alice, "/plain/-rev/1").await.assert(201);
    assert_eq!(names(&registry.get(PACKAGES).await), ["@acme/app"]);
}

#[tokio::test]
async fn a_readme_is_the_text_as_it_was_published() {
    let (registry, alice) = scene().await;
    let text = "# Über @acme/app\n\n<script>alert(1)</script>\n";
    for name in ["@acme/app", "@acme%2fapp", "%40acme%2Fapp"] {
        for version in ["", "/1.0.0", "/2.0.0-beta.1", "/latest"] {
            let path = format!("{README}/{name}{version}");
            let readme = registry.get(&path).await.assert(200);
            assert_eq!(String::from_utf8_lossy(&readme.body), text, "{path}");
            let kind = readme.header("content-type");
            assert_eq!(kind, Some("text/plain; charset=utf-8"));
            // Not even a browser that is shown the address alone runs any of it.
            assert_eq!(readme.header("x-content-type-options"), Some("nosniff"));
            let policy = readme.header("content-security-policy").unwrap();
            assert!(policy.contains("default-src 'none'"), "{policy}");
        }
    }
    let bare = Package::new("bare", "1.0.0");
    registry.publish(&alice, &bare).await.assert(201);
    let none = registry.get(&format!("{README}/bare")).await.assert(200);
    assert_eq!(none.body, b"ERROR: No README data found!");
    for missing in ["missing", "@acme/missing", "plain/9.9.9", "plain/nothing"] {
        let answer = registry.get(&format!("{README}/{missing}")).await;
        assert_eq!(answer.assert(404).json()["code"], "STORAGE_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_sidebar_has_the_document_and_one_version_in_full_sight() {
    let (registry, _alice) = scene().await;
    let path = format!("{SIDEBAR}/@acme/app");
    let sidebar = registry.get(&path).await.assert(200);
    let etag = sidebar.header("etag").unwrap().to_owned();
    let sidebar = sidebar.json();
    assert_eq!(sidebar["_id"], "@acme/app");
    let tags = json!({ "latest": "1.0.0", "beta": "2.0.0-beta.1" });
    assert_eq!(sidebar["dist-tags"], tags);
    assert_eq!(sidebar["_uplinks"], json!({}));
    assert_eq!(sidebar["users"], json!({}));
    assert!(sidebar["time"]["2.0.0-beta.1"].is_string());
    for key in ["readme", "_attachments", "_rev", "name", "_rustaccio"] {
        assert!(sidebar.get(key).is_none(), "{key}: {sidebar}");
    }
    for (version, file) in [
        ("1.0.0", "app-1.0.0.tgz"),
        ("2.0.0-beta.1", "app-2.0.0-beta.1.tgz"),
    ] {
        let tarball = format!("{}/@acme/app/-/{file}", registry.url);
        assert_eq!(sidebar["versions"][version]["dist"]["tarball"], tarball);
    }
    let latest = &sidebar["latest"];
    assert_eq!(latest["version"], "1.0.0");
    assert_eq!(latest["dist"], sidebar["versions"]["1.0.0"]["dist"]);
    assert_eq!(latest["author"]["email"], "ada@x.example");
    assert!(latest["author"]["avatar"].is_string());
    assert_eq!(latest["contributors"][0]["name"], "Bob");
    let of = async |version: &str| {
        let answer = registry.get(&format!("{path}?v={version}")).await;
        answer.assert(200).json()["latest"]["version"].clone()
    };
    assert_eq!(of("2.0.0-beta.1").await, "2.0.0-beta.1");
    // As there: a version that does not exist is the newest.
    assert_eq!(of("9.9.9").await, "1.0.0");
    assert_eq!(of("").await, "1.0.0");
    let again = registry.request(Method::GET, &path);
    let again = again.header("if-none-match", etag);
    registry.send(again).await.assert(304);
    for missing in ["missing", "@acme/missing"] {
        let answer = registry.get(&format!("{SIDEBAR}/{missing}")).await;
        assert_eq!(answer.assert(404).error(), "no such package available");
    }
}

#[tokio::test]
async fn searches_find_what_fits_best_and_may_be_read() {
    let (registry, alice) = scene().await;
    let find = async |text: &str, user: Option<&User>| {
        let path = format!("{SEARCH}/{text}");
        let answer = match user {
            Some(user) => registry.get_as(user, &path).await,
            None => registry.get(&path).await,
        };
        names(&answer.assert(200))
    };
    assert_eq!(find("plain", None).await, ["plain"]);
    for spelling in ["@acme/app", "@acme%2fapp", "acme%20app"] {
        assert_eq!(find(spelling, None).await, ["@acme/app"], "{spelling}");
    }
    assert_eq!(find("frob", None).await, ["@acme/app", "plain"]);
    assert_eq!(find("secret", None).await, [""; 0]);
    assert_eq!(find("secret", Some(&alice)).await, ["@secret/app"]);
    let found = registry.get(&format!("{SEARCH}/plain")).await.json();
    let tarball = format!("{}/plain/-/plain-1.0.0.tgz", registry.url);
    assert_eq!(found[0]["dist"]["tarball"], tarball);
    for number in 0..25 {
        let package = Package::new(&format!("many-{number}"), "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    assert_eq!(find("many", None).await.len(), 20);
    registry.get(SEARCH).await.assert(404);
}

#[tokio::test]
async fn a_package_that_is_hidden_sounds_as_it_does_elsewhere() {
    let (registry, alice) = scene().await;
    let bob = registry.user("bob").await;
    for path in [
        format!("{README}/@secret/app"),
        format!("{SIDEBAR}/@secret/app"),
    ] {
        let known = registry.get("/@secret%2fapp").await;
        let stranger = registry.get(&path).await;
        assert_eq!(stranger.status, known.status);
        assert_eq!(stranger.body, known.body);
        let known = registry.get_as(&bob, "/@secret%2fapp").await;
        let signed_in = registry.get_as(&bob, &path).await.assert(403);
        assert_eq!(signed_in.body, known.body);
        registry.get_as(&alice, &path).await.assert(200);
    }
    // Restricted by itself: as if it were not there, and with a token that has ended the same.
    let restricted = json!({ "access": "restricted" });
    let access = "/-/package/@acme%2fapp/access";
    let done = registry.send_json(Some(&alice), Method::POST, access, &restricted);
    done.await.assert(200);
    let ended = User {
        token: "rca_ended".to_owned(),
    };
    for route in [README, SIDEBAR] {
        let hidden = format!("{route}/@acme/app");
        let missing = format!("{route}/@acme/missing");
        for user in [None, Some(&ended)] {
            let ask = async |path: &str| match user {
                Some(user) => registry.get_as(user, path).await,
                None => registry.get(path).await,
            };
            let (hidden, missing) = (ask(&hidden).await, ask(&missing).await);
            assert_eq!(hidden.status, missing.status);
            assert_eq!(hidden.body, missing.body);
        }
    }
    assert_eq!(names(&registry.get(PACKAGES).await), ["plain"]);
    assert_eq!(
        names(&registry.get(&format!("{SEARCH}/app")).await),
        [""; 0]
    );
}

#[tokio::test]
async fn what_comes_from_upstream_has_a_readme_and_a_sidebar() {
    let upstream = Upstream::start().await;
    let lib = Package::new("@up/lib", "1.0.0");
    let mut document = upstream.document(&[&lib]);
    document["readme"] = json!("# lib");
    document["latest"] = json!("nonsense");
    upstream.answers("/@up%2flib", &document);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let readme = registry.get(&format!("{README}/@up/lib")).await.assert(200);
    assert_eq!(readme.body, b"# lib");
    let sidebar = registry
        .get(&format!("{SIDEBAR}/@up/lib"))
        .await
        .assert(200);
    let sidebar = sidebar.json();
    let tarball = format!("{}/@up/lib/-/lib-1.0.0.tgz", registry.url);
    assert_eq!(sidebar["latest"]["dist"]["tarball"], tarball);
    assert_eq!(sidebar["latest"]["author"]["name"], "Anonymous");
    assert_eq!(sidebar["latest"]["contributors"], json!([]));
    // Only what was published here is listed.
    assert_eq!(registry.get(PACKAGES).await.json(), json!([]));
    upstream.fails("/broken", 500);
    for route in [README, SIDEBAR] {
        let failed = registry.get(&format!("{route}/broken")).await;
        assert!(failed.status.is_server_error(), "{failed:?}");
    }
}

#[tokio::test]
async fn addresses_are_public_ones_below_a_prefix_too() {
    let file = "url_prefix: /npm/\n";
    let variables = vec![(
        "RUSTACCIO_PUBLIC_URL",
        "https://registry.example/npm".to_owned(),
    )];
    let registry = Registry::with(Start {
        variables,
        file,
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    let package = app("@acme/app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let tarball = "https://registry.example/npm/@acme/app/-/app-1.0.0.tgz";
    let list = registry.get(PACKAGES).await.assert(200).json();
    assert_eq!(list[0]["dist"]["tarball"], tarball);
    let sidebar = registry.get(&format!("{SIDEBAR}/@acme/app")).await;
    let sidebar = sidebar.assert(200).json();
    assert_eq!(sidebar["latest"]["dist"]["tarball"], tarball);
    assert_eq!(sidebar["versions"]["1.0.0"]["dist"]["tarball"], tarball);
    registry
        .get(&format!("{README}/@acme/app"))
        .await
        .assert(200);
    let wish = json!({ "username": "alice", "password": "password" });
    post(&registry, &wish).await.assert(200);
}

#[tokio::test]
async fn without_pages_there_is_none_of_it() {
    let registry = Registry::start(&[("RUSTACCIO_WEB_ENABLE", "false")]).await;
    let alice = registry.user("alice").await;
    let package = Package::new("plain", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    for path in [
        PACKAGES.to_owned(),
        format!("{README}/plain"),
        format!("{README}/plain/1.0.0"),
        format!("{SIDEBAR}/plain"),
        format!("{SEARCH}/plain"),
    ] {
        let answer = registry.get_as(&alice, &path).await.assert(404);
        assert_eq!(answer.error(), "not found");
    }
    let wish = json!({ "username": "alice", "password": "password" });
    post(&registry, &wish).await.assert(404);
    let wish = json!({ "name": "bob", "password": "password" });
    let made = registry.send_json(None, Method::PUT, SIGNUP, &wish);
    made.await.assert(404);
    let change = json!({ "password": { "old": "password", "new": "another" } });
    registry.put(&alice, PASSWORD, &change).await.assert(404);
}

#[tokio::test]
async fn limits_count_them_as_their_like() {
    let variables = [
        ("RUSTACCIO_RATE_LIMIT_BACKEND", "memory"),
        ("RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW", "2"),
    ];
    let registry = Registry::start(&variables).await;
    registry.get(PACKAGES).await.assert(200);
    registry.get("/-/v1/search?text=x").await.assert(200);
    registry.get(&format!("{SEARCH}/x")).await.assert(429);
    registry
        .get(&format!("{SIDEBAR}/missing"))
        .await
        .assert(404);
    registry.get("/missing").await.assert(404);
    registry.get(&format!("{README}/missing")).await.assert(429);
}

#[tokio::test]
async fn nothing_hostile_breaks_them() {
    let (registry, alice) = scene().await;
    let long = "a".repeat(5000);
    let odd = [
        "__proto__",
        "constructor",
        "@",
        "@x",
        "@x/",
        "@/x",
        "%00",
        "%ff",
        "%2e%2e",
        "..%2f..",
        "a%2fb%2fc",
        "%F0%9F%92%A9",
        "%E2%80%AE",
        "%22",
        "author:",
        "keywords:a,,b",
        "(%5B",
        "*",
        "-",
        "1.0.0",
        &*long,
        "%",
    ];
    for text in odd {
        for path in [
            format!("{README}/{text}"),
            format!("{README}/plain/{text}"),
            format!("{SIDEBAR}/{text}"),
            format!("{SIDEBAR}/plain?v={text}"),
            format!("{SIDEBAR}/plain?{text}=v&v&v=%ff"),
            format!("{SEARCH}/{text}"),
            format!("{SEARCH}/{text}/{text}"),
            format!("{PACKAGES}/{text}"),
            format!("{PACKAGES}?{text}"),
        ] {
            let answer = registry.get_as(&alice, &path).await;
            assert!(answer.status.as_u16() < 500, "{path}: {answer:?}");
        }
    }
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "{",
        "null",
        "[]",
        "7",
        "\"\\ud800\"",
        "{\"username\":{}}",
        "\u{0}",
        &*deep,
    ] {
        for (method, path) in [
            (Method::POST, LOGIN),
            (Method::PUT, SIGNUP),
            (Method::PUT, PASSWORD),
        ] {
            let request = registry.request(method, path).bearer_auth(&alice.token);
            let request = request.header("content-type", "application/json");
            registry
                .send(request.body(body.to_owned()))
                .await
                .assert(400);
        }
    }
    let large = json!({ "username": "alice", "password": "x".repeat(2_000_000) });
    post(&registry, &large).await.assert(413);
}

#[tokio::test]
async fn people_and_links_that_are_none_do_no_harm() {
    let upstream = Upstream::start().await;
    for (at, fields) in [
        json!({ "author": ["a", { "b": 1 }], "contributors": 7, "maintainers": { "name": 1 } }),
        json!({ "author": { "avatar": "javascript:alert(1)" }, "dist": 7 }),
        json!({ "author": "Ada <ada@x.example>", "contributors": [[[]], null] }),
        json!({ "dist": { "tarball": "javascript:alert(1)" }, "latest": 1 }),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("odd-{at}");
        let package = Package::new(&name, "1.0.0");
        let mut document = upstream.document(&[&package]);
        let version = &mut document["versions"]["1.0.0"];
        for (key, value) in fields.as_object().unwrap() {
            version[key] = value.clone();
        }
        document["readme"] = json!([1]);
        document["users"] = json!("nobody");
        upstream.answers(&format!("/{name}"), &document);
    }
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    for at in 0..4 {
        let sidebar = registry.get(&format!("{SIDEBAR}/odd-{at}")).await;
        let sidebar = sidebar.assert(200).json();
        let avatar = sidebar["latest"]["author"]["avatar"].as_str().unwrap();
        assert!(avatar.starts_with("data:image/svg+xml,"), "{avatar}");
        assert!(sidebar["latest"]["contributors"].is_array());
        let readme = registry.get(&format!("{README}/odd-{at}")).await;
        assert_eq!(readme.assert(200).body, b"ERROR: No README data found!");
    }
}
