//! How documents and tarballs are served.

use std::io::Read as _;

use http::header;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Package, Registry, Upstream, User};

pub(crate) const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";

async fn registry(variables: &[(&str, &str)]) -> (Registry, User) {
    let registry = Registry::start(variables).await;
    let alice = registry.user("alice").await;
    let package = Package::with(
        "@acme/app",
        "1.0.0",
        &json!({ "description": "An app", "dependencies": { "left-pad": "1" }, "libc": ["glibc"], "peerDependenciesMeta": { "x": { "optional": true } } }),
        &[("index.js", b"1")],
    );
    registry.publish(&alice, &package).await.assert(201);
    (registry, alice)
}

pub(crate) async fn get_with(registry: &Registry, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = registry.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    registry.send(request).await
}

#[tokio::test]
pub(crate) async fn every_spelling_of_a_scoped_name_is_the_same() {
    let (registry, alice) = registry(&[]).await;
    let plain = registry.get("/@acme/app").await.assert(200);
    for spelling in [
        "@acme%2fapp",
        "@acme%2Fapp",
        "%40acme%2fapp",
        "%40acme/app",
        "/@acme/app",
        "@acme/app/",
    ] {
        let answer = registry.get(&format!("/{spelling}")).await.assert(200);
        assert_eq!(answer.body, plain.body, "{spelling}");
    }
    let version = registry.get("/@acme/app/1.0.0").await.assert(200);
    for path in [
        "/@acme%2fapp/1.0.0",
        "/@acme/app/latest",
        "/%40acme%2fapp/latest",
    ] {
        assert_eq!(
            registry.get(path).await.assert(200).body,
            version.body,
            "{path}"
        );
    }
    for path in [
        "/@acme/app/-/app-1.0.0.tgz",
        "/@acme%2fapp/-/app-1.0.0.tgz",
        "/@acme/app/-/@acme/app-1.0.0.tgz",
    ] {
        registry.get(path).await.assert(200);
    }
    let tags = registry
        .get("/-/package/%40acme%2Fapp/dist-tags")
        .await
        .assert(200);
    assert_eq!(tags.json(), json!({ "latest": "1.0.0" }));
    registry
        .get_as(&alice, "/@acme%2fapp?write=true")
        .await
        .assert(200);
}

#[tokio::test]
pub(crate) async fn both_forms_have_their_exact_types() {
    let (registry, _) = registry(&[]).await;
    let full = registry.get("/@acme/app").await.assert(200);
    assert_eq!(full.header("content-type"), Some("application/json"));
    let accept = format!("{ABBREVIATED}; q=1.0, application/json; q=0.8, */*");
    let short = get_with(&registry, "/@acme/app", &[("accept", &accept)])
        .await
        .assert(200);
    assert_eq!(short.header("content-type"), Some(ABBREVIATED));
    let document = short.json();
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    let edited = ["_id", "_rev", "maintainers"];
    let read: Vec<&str> = keys
        .into_iter()
        .map(String::as_str)
        .filter(|key| !edited.contains(key))
        .collect();
    assert_eq!(read, ["dist-tags", "modified", "name", "time", "versions"]);
    let version = &document["versions"]["1.0.0"];
    assert_eq!(version["libc"], json!(["glibc"]));
    assert_eq!(version["peerDependenciesMeta"]["x"]["optional"], true);
    assert!(version.get("description").is_none());
    assert_eq!(document["time"]["1.0.0"], full.json()["time"]["1.0.0"]);
    assert_eq!(document["modified"], full.json()["time"]["modified"]);
}

#[tokio::test]
pub(crate) async fn a_client_that_has_it_gets_nothing() {
    let (registry, alice) = registry(&[]).await;
    let first = registry.get("/@acme/app").await.assert(200);
    let etag = first.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"'), "weak: {etag}");
    let again = get_with(&registry, "/@acme/app", &[("if-none-match", &etag)])
        .await
        .assert(304);
    assert!(again.body.is_empty());
    for name in ["etag", "cache-control", "vary", "last-modified"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    let modified = first.header("last-modified").unwrap().to_owned();
    get_with(&registry, "/@acme/app", &[("if-modified-since", &modified)])
        .await
        .assert(304);
    let abbreviated = get_with(&registry, "/@acme/app", &[("accept", ABBREVIATED)]).await;
    let compressed = get_with(&registry, "/@acme/app", &[("accept-encoding", "gzip")]).await;
    for other in [abbreviated, compressed] {
        assert_ne!(other.header("etag"), Some(&*etag));
    }
    registry
        .publish(&alice, &Package::new("@acme/app", "1.0.1"))
        .await
        .assert(201);
    let fresh = get_with(&registry, "/@acme/app", &[("if-none-match", &etag)])
        .await
        .assert(200);
    assert!(fresh.json()["versions"]["1.0.1"].is_object());
}

#[tokio::test]
pub(crate) async fn bodies_come_in_the_coding_that_was_asked_for() {
    let (registry, _) = registry(&[]).await;
    let plain = registry.get("/@acme/app").await;
    assert!(plain.header("content-encoding").is_none());
    assert_eq!(plain.header("vary"), Some("accept, accept-encoding"));
    for (accepted, coding) in [
        ("gzip,deflate", "gzip"),
        ("gzip, br;q=0.9", "gzip"),
        ("br", "br"),
        ("zstd, br", "zstd"),
    ] {
        let answer = get_with(&registry, "/@acme/app", &[("accept-encoding", accepted)])
            .await
            .assert(200);
        assert_eq!(
            answer.header("content-encoding"),
            Some(coding),
            "{accepted}"
        );
        let mut body = Vec::new();
        match coding {
            "gzip" => {
                flate2::read::GzDecoder::new(&answer.body[..])
                    .read_to_end(&mut body)
                    .unwrap();
            }
            "br" => {
                brotli::Decompressor::new(&answer.body[..], 4096)
                    .read_to_end(&mut body)
                    .unwrap();
            }
            _ => body = zstd::stream::decode_all(&answer.body[..]).unwrap(),
        }
        assert_eq!(body, plain.body, "{coding}");
    }
    let tarball = get_with(
        &registry,
        "/@acme/app/-/app-1.0.0.tgz",
        &[("accept-encoding", "gzip, br")],
    )
    .await;
    assert!(tarball.assert(200).header("content-encoding").is_none());
}

#[tokio::test]
pub(crate) async fn what_many_ask_for_is_compressed_better() {
    let registry = Registry::start(&[]).await;
    let alice = registry.user("alice").await;
    let words: Vec<String> = (0..20_000_u32)
        .map(|at| format!("{:x}", at.wrapping_mul(2_654_435_761) >> 20))
        .collect();
    let fields = json!({ "description": words.join(" ") });
    let package = Package::with("lib", "1.0.0", &fields, &[]);
    registry.publish(&alice, &package).await.assert(201);
    let gzip = [("accept-encoding", "gzip")];
    let ask = async || get_with(&registry, "/lib", &gzip).await.assert(200);
    let decoded = |answer: &Answer| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&answer.body[..])
            .read_to_string(&mut text)
            .unwrap();
        text
    };
    let first = ask().await;
    let asking = async {
        loop {
            let next = ask().await;
            assert_eq!(next.header("etag"), first.header("etag"));
            if next.body.len() < first.body.len() {
                return next;
            }
        }
    };
    let better = tokio::time::timeout(std::time::Duration::from_secs(30), asking).await;
    assert_eq!(
        decoded(&better.expect("it stays as it was")),
        decoded(&first)
    );
}

#[tokio::test]
pub(crate) async fn head_is_get_without_its_body() {
    let (registry, _) = registry(&[]).await;
    for path in [
        "/@acme/app",
        "/@acme/app/latest",
        "/@acme/app/-/app-1.0.0.tgz",
        "/-/ping",
        "/missing",
    ] {
        let get = registry.get(path).await;
        let head = registry.send(registry.request(Method::HEAD, path)).await;
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty());
        for name in ["content-type", "etag", "cache-control", "content-length"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert_eq!(length, get.body.len(), "{path}");
    }
}

#[tokio::test]
pub(crate) async fn tarballs_come_in_parts() {
    let (registry, alice) = registry(&[]).await;
    for (name, length) in [("short", 700_000), ("long", 1_500_000)] {
        let package = Package::heavy(name, "1.0.0", length);
        registry.publish(&alice, &package).await.assert(201);
        comes_in_parts(&registry, &package).await;
    }
}

async fn comes_in_parts(registry: &Registry, package: &Package) {
    let path = &*format!("/{}/-/{}", package.name, package.file());
    let whole = registry.get(path).await.assert(200);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(whole.header("cache-control").unwrap().contains("immutable"));
    let length = package.tarball.len();
    let part = get_with(registry, path, &[("range", "bytes=300000-600000")])
        .await
        .assert(206);
    assert_eq!(part.body, package.tarball[300_000..=600_000]);
    assert_eq!(
        part.header("content-range"),
        Some(&*format!("bytes 300000-600000/{length}"))
    );
    let end = get_with(registry, path, &[("range", "bytes=-5")])
        .await
        .assert(206);
    assert_eq!(end.body, package.tarball[length - 5..]);
    let beyond = get_with(registry, path, &[("range", "bytes=99999999-")])
        .await
        .assert(416);
    assert_eq!(
        beyond.header("content-range"),
        Some(&*format!("bytes */{length}"))
    );
    let etag = whole.header("etag").unwrap();
    get_with(
        registry,
        path,
        &[("range", "bytes=0-1"), ("if-range", etag)],
    )
    .await
    .assert(206);
    get_with(
        registry,
        path,
        &[("range", "bytes=0-1"), ("if-range", "\"other\"")],
    )
    .await
    .assert(200);
    get_with(registry, path, &[("if-none-match", etag)])
        .await
        .assert(304);
}

#[tokio::test]
pub(crate) async fn what_is_not_there_says_so_in_json() {
    let (registry, _) = registry(&[]).await;
    let check = async |path: &str, error: &str| {
        let answer = registry.get(path).await.assert(404);
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        assert_eq!(answer.error(), error, "{path}");
        assert_eq!(answer.json()["code"], "STORAGE_NOT_FOUND");
    };
    check("/missing", "no such package available").await;
    check("/@acme/app/2.0.0", "this version doesn't exist: 2.0.0").await;
    check("/@acme/app/-/app-2.0.0.tgz", "no such file available").await;
    check("/@acme/app/-/package.json", "no such file available").await;
    check("/-/unknown", "not found").await;
    check("/-/npm/v1/unknown", "not found").await;
    check("/a/b/c/d/e", "not found").await;
    let wrong = registry
        .send(registry.request(Method::DELETE, "/-/ping"))
        .await
        .assert(405);
    assert_eq!(wrong.json()["code"], "METHOD_NOT_ALLOWED");
}

fn tarball_url(document: &Value) -> String {
    let url = document["versions"]["1.0.0"]["dist"]["tarball"].as_str();
    url.unwrap().to_owned()
}

#[tokio::test]
pub(crate) async fn tarball_addresses_are_those_that_the_client_uses() {
    let (registry, _) = registry(&[
        ("RUSTACCIO_TRUST_PROXY", "true"),
        ("RUSTACCIO_URL_PREFIX", "/npm/"),
    ])
    .await;
    let headers = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "packages.example"),
    ];
    let answer = get_with(&registry, "/@acme/app", &headers)
        .await
        .assert(200);
    assert_eq!(
        tarball_url(&answer.json()),
        "https://packages.example/npm/@acme/app/-/app-1.0.0.tgz"
    );
    let direct = registry.get("/@acme/app").await.json();
    assert_eq!(
        tarball_url(&direct),
        format!("{}/@acme/app/-/app-1.0.0.tgz", registry.url)
    );
    let root = registry.url.trim_end_matches("/npm").to_owned();
    let outside = registry
        .client
        .get(format!("{root}/@acme/app"))
        .send()
        .await
        .unwrap();
    assert_eq!(outside.status(), 404);
}

#[tokio::test]
pub(crate) async fn a_visitor_cannot_put_words_into_documents() {
    let (registry, _) = registry(&[]).await;
    for host in ["evil.example\"},\"x\":{\"", "a/b", "user@evil.example"] {
        let request = registry
            .request(Method::GET, "/@acme/app")
            .header(header::HOST, host);
        let response = registry.send(request).await;
        if response.status == 200 {
            assert_eq!(
                tarball_url(&response.json()),
                "http://localhost:4873/@acme/app/-/app-1.0.0.tgz"
            );
        }
    }
    let forwarded = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
    ];
    let answer = get_with(&registry, "/@acme/app", &forwarded)
        .await
        .assert(200);
    assert!(tarball_url(&answer.json()).starts_with(&registry.url));
    // However many addresses are tried, the right one stays right.
    for number in 0..40 {
        let host = format!("host{number}.example");
        let request = registry
            .request(Method::GET, "/@acme/app")
            .header(header::HOST, &host);
        let answer = registry.send(request).await.assert(200);
        assert!(tarball_url(&answer.json()).starts_with(&format!("http://{host}/")));
    }
}

#[tokio::test]
pub(crate) async fn a_public_url_overrules_everything() {
    let (registry, _) = registry(&[("RUSTACCIO_PUBLIC_URL", "https://npm.example/team/")]).await;
    let document = registry.get("/@acme/app").await.json();
    assert_eq!(
        tarball_url(&document),
        "https://npm.example/team/@acme/app/-/app-1.0.0.tgz"
    );
}

#[tokio::test]
pub(crate) async fn rules_decide_who_reads() {
    let upstream = Upstream::start().await;
    let theirs = Package::new("@theirs/secret", "1.0.0");
    upstream.has(&[&theirs]);
    let rules = "packages:\n  '@acme/*':\n    access: alice\n    publish: alice\n  '@theirs/*':\n    access: alice\n    proxy: default\n  '**':\n    access: $all\n    publish: $authenticated\n";
    let file = format!("uplinks:\n  default:\n    url: {}\n{rules}", upstream.url);
    let registry = Registry::with_file(&file).await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let ours = Package::new("@acme/secret", "1.0.0");
    registry.publish(&alice, &ours).await.assert(201);
    // From here on the other one is in the cache.
    registry.get_as(&alice, "/@theirs/secret").await.assert(200);
    let tarball = "/@theirs/secret/-/secret-1.0.0.tgz";
    registry.get_as(&alice, tarball).await.assert(200);
    for name in ["@acme/secret", "@theirs/secret"] {
        let encoded = name.replace('/', "%2f");
        for path in [
            format!("/{name}"),
            format!("/{name}/1.0.0"),
            format!("/{name}/latest"),
            format!("/{name}/-/secret-1.0.0.tgz"),
            format!("/-/package/{encoded}/dist-tags"),
            format!("/-/package/{encoded}/dist-tags/latest"),
        ] {
            check_reads(&registry, &alice, &bob, name, &path).await;
        }
        // Only who is signed in writes at all.
        let path = format!("/{name}?write=true");
        registry.get(&path).await.assert(400);
        registry.get_as(&bob, &path).await.assert(403);
        registry.get_as(&alice, &path).await.assert(200);
    }
    // A name that is not there looks the same to those who may not know.
    registry.get("/@acme/nothing").await.assert(401);
    let star = json!({ "_id": "@acme/secret", "users": { "bob": true } });
    registry
        .put(&bob, "/@acme%2fsecret", &star)
        .await
        .assert(403);
    let star = json!({ "_id": "@acme/secret", "users": { "alice": true } });
    registry
        .put(&alice, "/@acme%2fsecret", &star)
        .await
        .assert(201);
    for (path, shown) in [
        ("/-/v1/search?text=secret", "@acme/secret"),
        ("/-/all", "@acme/secret"),
        ("/-/_view/starredByUser?key=%22alice%22", "@acme/secret"),
    ] {
        let sees = |answer: Answer| {
            String::from_utf8(answer.assert(200).body)
                .unwrap()
                .contains(shown)
        };
        assert!(sees(registry.get_as(&alice, path).await), "{path}");
        assert!(!sees(registry.get_as(&bob, path).await), "{path}");
        assert!(!sees(registry.get(path).await), "{path}");
    }
}

/// Alice reads `path`, and nobody else does, however she asks.
async fn check_reads(registry: &Registry, alice: &User, bob: &User, name: &str, path: &str) {
    let good = registry.get_as(alice, path).await.assert(200);
    let etag = good.header("etag").unwrap_or("\"none\"").to_owned();
    let anything = [
        ("if-none-match", "*"),
        ("if-none-match", &*etag),
        ("range", "bytes=0-1"),
    ];
    for (header, value) in anything {
        let ask = |method: Method| registry.request(method, path).header(header, value);
        for method in [Method::GET, Method::HEAD] {
            let anonymous = registry.send(ask(method.clone())).await.assert(401);
            assert!(anonymous.header("www-authenticate").is_none());
            assert!(anonymous.header("etag").is_none());
            let other = ask(method.clone()).bearer_auth(&bob.token);
            let other = registry.send(other).await.assert(403);
            if method == Method::HEAD {
                assert!(anonymous.body.is_empty() && other.body.is_empty());
                continue;
            }
            assert_eq!(
                anonymous.error(),
                format!("authorization required to access package {name}")
            );
            assert_eq!(
                other.error(),
                format!("user bob is not allowed to access package {name}")
            );
        }
    }
}

#[tokio::test]
pub(crate) async fn search_pages_and_counts() {
    let (registry, alice) = registry(&[]).await;
    for number in 0..5 {
        let package = Package::with(
            &format!("tool-{number}"),
            "1.0.0",
            &json!({ "keywords": ["tool"], "description": "A tool" }),
            &[],
        );
        registry.publish(&alice, &package).await.assert(201);
    }
    let page = registry
        .get("/-/v1/search?text=tool&size=2&from=1")
        .await
        .assert(200)
        .json();
    assert_eq!(page["total"], 5);
    let names: Vec<&str> = page["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["package"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["tool-1", "tool-2"]);
    let hit = &page["objects"][0]["package"];
    assert_eq!(hit["maintainers"][0]["username"], "alice");
    assert_eq!(hit["description"], "A tool");
    let past = registry.get("/-/v1/search?text=tool&from=99").await.json();
    assert_eq!(
        (past["objects"].as_array().unwrap().len(), &past["total"]),
        (0, &json!(5))
    );
    let scoped = registry.get("/-/v1/search?text=scope%3Aacme").await.json();
    assert_eq!(scoped["total"], 1);
    registry.delete(&alice, "/tool-3/-rev/x").await.assert(201);
    assert_eq!(
        registry.get("/-/v1/search?text=tool").await.json()["total"],
        4
    );
    let all = registry.get("/-/all/since?startkey=tool-2").await.json();
    assert_eq!(
        all,
        json!({ "tool-4": { "name": "tool-4", "version": "1.0.0" } })
    );
    let folder = registry.stop().await;
    let registry = Registry::with(crate::support::registry::Start {
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    assert_eq!(
        registry.get("/-/v1/search?text=tool").await.json()["total"],
        4
    );
}

#[tokio::test]
pub(crate) async fn requests_have_names_and_answers_have_guards() {
    let (registry, _) = registry(&[]).await;
    let named = get_with(&registry, "/-/ping", &[("x-request-id", "abc-1")]).await;
    assert_eq!(named.header("x-request-id"), Some("abc-1"));
    let long = "x".repeat(1000);
    let renamed = get_with(&registry, "/-/ping", &[("x-request-id", &long)]).await;
    assert_eq!(renamed.header("x-request-id").unwrap().len(), 36);
    assert_eq!(renamed.header("x-content-type-options"), Some("nosniff"));
    registry.get("/-/health/live").await.assert(200);
    registry.get("/-/health/ready").await.assert(200);
}

#[tokio::test]
pub(crate) async fn with_a_ttl_an_edit_from_outside_waits_and_one_of_ours_does_not() {
    let (registry, alice) = registry(&[("RUSTACCIO_PACKAGE_CACHE_TTL_SECS", "3600")]).await;
    registry.get("/@acme/app").await.assert(200);
    let path = registry.data().join("tarballs/@acme__app/package.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("An app", "An application")).unwrap();
    let document = registry.get("/@acme/app").await.json();
    assert_eq!(document["description"], "An app");
    let package = Package::new("@acme/app", "1.0.1");
    registry.publish(&alice, &package).await.assert(201);
    let document = registry.get("/@acme/app").await.json();
    assert!(document["versions"]["1.0.1"].is_object());
}

#[tokio::test]
pub(crate) async fn an_edit_from_outside_shows_at_once() {
    let (registry, _) = registry(&[]).await;
    registry.get("/@acme/app").await.assert(200);
    let path = registry.data().join("tarballs/@acme__app/package.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("An app", "An application")).unwrap();
    let document = registry.get("/@acme/app").await.json();
    assert_eq!(document["description"], "An application");
}
