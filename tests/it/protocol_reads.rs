//! What clients of all kinds rely on when they read documents, beyond what one of them happens to
//! check.

use std::{collections::BTreeSet, io::Read as _};

use serde_json::{Value, json};

use crate::{
    reading::{ABBREVIATED, get_with},
    support::{Package, Registry, Upstream, User, publish_body},
};

/// One registry with `@acme/app` of its own, and `@up/lib` of its upstream.
pub(crate) async fn registry() -> (Registry, Upstream, User) {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("@up/lib", "1.0.0")]);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let alice = registry.user("alice").await;
    for version in ["1.0.0", "1.1.0"] {
        let package = Package::new("@acme/app", version);
        registry.publish(&alice, &package).await.assert(201);
    }
    (registry, upstream, alice)
}

#[tokio::test]
pub(crate) async fn four_spellings_of_a_name_give_one_document() {
    let (registry, upstream, _) = registry().await;
    for (scope, base) in [("acme", "app"), ("up", "lib")] {
        for accept in ["application/json", ABBREVIATED] {
            let headers = [("accept", accept), ("accept-encoding", "gzip")];
            let plain = get_with(&registry, &format!("/@{scope}/{base}"), &headers).await;
            let plain = plain.assert(200);
            for name in [
                format!("@{scope}%2f{base}"),
                format!("@{scope}%2F{base}"),
                format!("%40{scope}%2F{base}"),
                format!("%40{scope}/{base}"),
            ] {
                let answer = get_with(&registry, &format!("/{name}"), &headers).await;
                let answer = answer.assert(200);
                assert_eq!(answer.body, plain.body, "{name} {accept}");
                assert_eq!(answer.header("etag"), plain.header("etag"), "{name}");
            }
        }
    }
    assert_eq!(upstream.asked("/@up%2flib"), 1);
}

/// Everything that a client may read of a version in the abbreviated form.
fn fields_of_an_install() -> Value {
    json!({
        "bin": { "app": "cli.js" },
        "engines": { "node": ">=18" },
        "funding": { "url": "https://fund.example" },
        "directories": { "lib": "lib" },
        "dependencies": { "a": "1" },
        "devDependencies": { "b": "1" },
        "peerDependencies": { "c": "1" },
        "peerDependenciesMeta": { "c": { "optional": true } },
        "optionalDependencies": { "d": "1" },
        "bundleDependencies": ["a"],
        "acceptDependencies": { "a": "1 || 2" },
        "cpu": ["x64"],
        "os": ["linux"],
        "libc": ["glibc"],
        "scripts": { "postinstall": "true" },
        "deprecated": "use another",
    })
}

#[tokio::test]
pub(crate) async fn the_abbreviated_form_has_all_that_an_install_reads() {
    let (registry, upstream, alice) = registry().await;
    let fields = fields_of_an_install();
    let mut all = fields.clone();
    all["description"] = json!("not for installs");
    all["gitHead"] = json!("0123");
    let ours = Package::with(
        "@acme/full",
        "1.0.0",
        &all,
        &[("npm-shrinkwrap.json", b"{}")],
    );
    registry.publish(&alice, &ours).await.assert(201);
    let theirs = Package::with("theirs", "1.0.0", &all, &[]);
    upstream.has(&[&theirs]);
    for name in ["@acme/full", "theirs"] {
        let path = format!("/{name}");
        let short = get_with(&registry, &path, &[("accept", ABBREVIATED)]).await;
        let short = short.assert(200).json();
        let version = short["versions"]["1.0.0"].as_object().unwrap();
        let mut expected: BTreeSet<&str> = fields
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        expected.remove("scripts");
        expected.extend(["name", "version", "dist", "hasInstallScript"]);
        if name == "@acme/full" {
            expected.insert("_hasShrinkwrap");
        }
        let keys: BTreeSet<&str> = version.keys().map(String::as_str).collect();
        assert_eq!(keys, expected, "{name}");
        let full = registry.get(&path).await.assert(200).json();
        let whole = &full["versions"]["1.0.0"];
        for (key, value) in version {
            assert_eq!(*value, whole[key], "{name} {key}");
        }
        for (key, value) in all.as_object().unwrap() {
            assert_eq!(whole[key], *value, "{name} {key}");
        }
    }
}

/// Paths and contents of what is in a tarball.
type Files = &'static [(&'static str, &'static [u8])];

#[tokio::test]
pub(crate) async fn install_scripts_are_marked_where_there_are_any() {
    let (registry, upstream, alice) = registry().await;
    let (none, gyp): (Files, Files) = (&[], &[("binding.gyp", b"{}")]);
    let script = |name: &str| json!({ "scripts": { name: "true" } });
    let cases = [
        ("with-postinstall", script("postinstall"), none, true),
        ("with-preinstall", script("preinstall"), none, true),
        ("with-gyp", json!({}), gyp, true),
        ("with-prepare", script("prepare"), none, false),
        ("with-nothing", json!({}), none, false),
    ];
    let marks = async |name: &str| {
        let path = format!("/{name}");
        let short = get_with(&registry, &path, &[("accept", ABBREVIATED)]).await;
        let full = registry.get(&path).await.assert(200);
        let version = registry
            .get(&format!("{path}/1.0.0"))
            .await
            .assert(200)
            .json();
        let mark = |document: Value| {
            document["versions"]["1.0.0"]
                .get("hasInstallScript")
                .cloned()
        };
        let marks = [
            mark(short.assert(200).json()),
            mark(full.json()),
            version.get("hasInstallScript").cloned(),
        ];
        assert!(
            marks.iter().all(|mark| *mark == marks[0]),
            "{name}: {marks:?}"
        );
        marks[0].clone()
    };
    for (name, fields, files, is_marked) in cases {
        let package = Package::with(name, "1.0.0", &fields, files);
        registry.publish(&alice, &package).await.assert(201);
        assert_eq!(
            marks(name).await,
            is_marked.then_some(Value::Bool(true)),
            "{name}"
        );
    }
    let theirs = Package::with("theirs", "1.0.0", &script("postinstall"), &[]);
    upstream.has(&[&theirs]);
    assert_eq!(marks("theirs").await, Some(json!(true)));
    assert_eq!(marks("@up/lib").await, None);
}

#[tokio::test]
pub(crate) async fn version_documents_are_signed() {
    let (registry, upstream, _) = registry().await;
    let lib = Package::new("signed", "1.0.0");
    let mut document = upstream.document(&[&lib]);
    let signatures = json!([{ "keyid": "SHA256:theirs", "sig": "MEUC" }]);
    document["versions"]["1.0.0"]["dist"]["signatures"] = signatures.clone();
    document["dist-tags"]["next"] = json!("1.0.0");
    upstream.answers("/signed", &document);
    for key in ["1.0.0", "latest", "next"] {
        let version = registry
            .get(&format!("/signed/{key}"))
            .await
            .assert(200)
            .json();
        assert_eq!(version["dist"]["signatures"], signatures);
        assert_eq!(version["version"], "1.0.0");
    }
    let keys = registry.get("/-/npm/v1/keys").await.assert(200).json();
    let full = registry.get("/@acme/app").await.json();
    for path in ["/@acme/app/1.0.0", "/@acme%2fapp/1.0.0"] {
        let version = registry.get(path).await.assert(200).json();
        assert_eq!(version["dist"], full["versions"]["1.0.0"]["dist"]);
        let signature = &version["dist"]["signatures"][0];
        assert_eq!(signature["keyid"], keys["keys"][0]["keyid"]);
        assert!(!signature["sig"].as_str().unwrap().is_empty());
    }
    for path in [
        "/signed/9.9.9",
        "/signed/none",
        "/@acme/app/^1",
        "/missing/latest",
    ] {
        registry.get(path).await.assert(404);
    }
}

#[tokio::test]
pub(crate) async fn deprecations_show_in_every_form() {
    let (registry, upstream, alice) = registry().await;
    let old = Package::with("old", "1.0.0", &json!({ "deprecated": "too old" }), &[]);
    upstream.has(&[&old]);
    let mut document = registry
        .get_as(&alice, "/@acme%2fapp?write=true")
        .await
        .json();
    document["versions"]["1.0.0"]["deprecated"] = json!("use \u{201c}2\u{201d}");
    registry
        .put(&alice, "/@acme%2fapp", &document)
        .await
        .assert(201);
    for (path, text) in [("/@acme/app", "use \u{201c}2\u{201d}"), ("/old", "too old")] {
        let version = registry.get(&format!("{path}/1.0.0")).await.json();
        assert_eq!(version["deprecated"], text);
        for accept in ["application/json", ABBREVIATED] {
            let document = get_with(&registry, path, &[("accept", accept)])
                .await
                .json();
            assert_eq!(document["versions"]["1.0.0"]["deprecated"], text);
            assert!(document["versions"]["1.1.0"].get("deprecated").is_none());
        }
    }
}

#[tokio::test]
pub(crate) async fn legacy_names_are_read_and_kept_apart() {
    let upstream = Upstream::start().await;
    let long = format!("Long{}", "x".repeat(210));
    let names = [
        "JSONStream",
        "jsonstream",
        "@Legacy/Name",
        "@legacy/name",
        &long,
        "a~b'!()*",
    ];
    let packages = names.map(|name| Package::with(name, "1.0.0", &json!({ "marker": name }), &[]));
    for package in &packages {
        upstream.has(&[package]);
    }
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    for package in packages.iter().chain(&packages) {
        let document = registry
            .get(&format!("/{}", package.name))
            .await
            .assert(200)
            .json();
        assert_eq!(document["versions"]["1.0.0"]["marker"], *package.name);
        assert_eq!(
            registry.tarball(package).await.assert(200).body,
            package.tarball
        );
    }
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("JSONStream", "2.0.0"))
        .await
        .assert(400);
}

/// A document of `count` versions of about two KB each.
fn large(upstream: &Upstream, count: usize) -> Value {
    let package = Package::with(
        "large",
        "1.0.0",
        &json!({ "dependencies": { "a": "1" }, "scripts": { "test": "x".repeat(1800) } }),
        &[],
    );
    let mut document = upstream.document(&[&package]);
    let mut version = document["versions"]["1.0.0"].take();
    version["dist"]["signatures"] = json!([{ "keyid": "SHA256:theirs", "sig": "MEUC" }]);
    let mut versions = serde_json::Map::new();
    for number in 0..count {
        let mut object = version.clone();
        let text = format!("1.{number}.0");
        object["version"] = json!(text);
        object["dist"]["tarball"] = json!(format!("{}/large/-/large-{text}.tgz", upstream.url));
        document["time"][&text] = json!("2020-06-01T00:00:00.000Z");
        versions.insert(text, object);
    }
    document["versions"] = Value::Object(versions);
    document["dist-tags"]["latest"] = json!(format!("1.{}.0", count - 1));
    document
}

#[tokio::test]
pub(crate) async fn a_document_of_thousands_of_versions_is_right_in_every_form() {
    const COUNT: usize = 5000;
    let upstream = Upstream::start().await;
    let mut expected = large(&upstream, COUNT);
    upstream.answers("/large", &expected);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    for version in expected["versions"].as_object_mut().unwrap().values_mut() {
        let file = format!("large-{}.tgz", version["version"].as_str().unwrap());
        version["dist"]["tarball"] = json!(format!("{}/large/-/{file}", registry.url));
    }
    let full = registry.get("/large").await.assert(200);
    assert!(full.body.len() > 10_000_000, "{}", full.body.len());
    assert!(full.json() == expected, "the full form differs");
    let zipped = get_with(&registry, "/large", &[("accept-encoding", "gzip")]).await;
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped.assert(200).body[..])
        .read_to_end(&mut unzipped)
        .unwrap();
    assert!(unzipped == full.body, "the compressed form differs");
    let short = get_with(&registry, "/large", &[("accept", ABBREVIATED)]).await;
    let short = short.assert(200);
    assert!(short.body.len() * 2 < full.body.len());
    let short = short.json();
    assert_eq!(short["time"], expected["time"]);
    assert_eq!(short["versions"].as_object().unwrap().len(), COUNT);
    let (version, whole) = (
        &short["versions"]["1.4321.0"],
        &expected["versions"]["1.4321.0"],
    );
    assert_eq!(
        (&version["dist"], version.get("scripts")),
        (&whole["dist"], None)
    );
    let latest = registry.get("/large/latest").await.assert(200).json();
    assert_eq!(latest["version"], "1.4999.0");
    assert_eq!(upstream.asked("/large"), 1);
}

#[tokio::test]
pub(crate) async fn time_is_complete() {
    let (registry, _upstream, alice) = registry().await;
    registry
        .publish(&alice, &Package::new("@acme/app", "1.2.0"))
        .await
        .assert(201);
    let mut document = registry
        .get_as(&alice, "/@acme%2fapp?write=true")
        .await
        .json();
    document["versions"]
        .as_object_mut()
        .unwrap()
        .remove("1.1.0");
    let path = format!("/@acme%2fapp/-rev/{}", document["_rev"].as_str().unwrap());
    registry.put(&alice, &path, &document).await.assert(201);
    for accept in ["application/json", ABBREVIATED] {
        let shown = get_with(&registry, "/@acme/app", &[("accept", accept)]).await;
        let modified = shown.header("last-modified").unwrap().to_owned();
        let shown = shown.json();
        let time = shown["time"].as_object().unwrap();
        let keys: BTreeSet<&str> = time.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            BTreeSet::from(["1.0.0", "1.2.0", "created", "modified"])
        );
        // Dates of one length and zone are in the order of their texts.
        let at = |key: &str| time[key].as_str().unwrap();
        for key in ["1.0.0", "1.2.0", "created", "modified"] {
            assert_eq!((at(key).len(), &at(key)[23..]), (24, "Z"), "{key}");
        }
        assert!(at("created") <= at("1.0.0") && at("1.0.0") < at("1.2.0"));
        assert!(at("1.2.0") <= at("modified"));
        let seconds = httpdate::parse_http_date(&modified).unwrap();
        let seconds = chrono::DateTime::<chrono::Utc>::from(seconds);
        assert_eq!(
            seconds.format("%Y-%m-%dT%H:%M:%S").to_string(),
            at("modified")[..19]
        );
    }
}

#[tokio::test]
pub(crate) async fn one_dist_tag_is_shown_alone() {
    let (registry, _upstream, _) = registry().await;
    for (path, version) in [("@acme%2fapp", "1.1.0"), ("@up%2flib", "1.0.0")] {
        let path = format!("/-/package/{path}/dist-tags/latest");
        assert_eq!(registry.get(&path).await.assert(200).json(), json!(version));
    }
    let missing = registry.get("/-/package/@acme%2fapp/dist-tags/next").await;
    assert_eq!(
        missing.assert(404).error(),
        "this version doesn't exist: next"
    );
}

#[tokio::test]
pub(crate) async fn a_publish_shows_at_once_in_every_form() {
    let (registry, _upstream, alice) = registry().await;
    let path = "/@acme/app";
    let mut known = Vec::new();
    for accept in ["application/json", ABBREVIATED] {
        let first = get_with(&registry, path, &[("accept", accept)])
            .await
            .assert(200);
        known.push((accept, first.header("etag").unwrap().to_owned()));
    }
    let body = publish_body(&Package::new("@acme/app", "2.0.0"), "latest");
    registry
        .put(&alice, "/@acme%2fapp", &body)
        .await
        .assert(201);
    for (accept, etag) in known {
        let headers = [("accept", accept), ("if-none-match", &etag)];
        let fresh = get_with(&registry, path, &headers).await.assert(200);
        assert_eq!(fresh.json()["dist-tags"]["latest"], "2.0.0");
    }
}
