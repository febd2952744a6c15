//! Publishing, and what changes a package afterwards.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Package, Registry, User, publish_body, registry::with_json};

pub(crate) async fn registry_with(packages: &[&Package]) -> (Registry, User) {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for package in packages {
        registry.publish(&alice, package).await.assert(201);
    }
    (registry, alice)
}

#[tokio::test]
pub(crate) async fn what_was_published_comes_back_byte_for_byte() {
    let package = Package::with(
        "@acme/app",
        "1.0.0",
        &json!({ "description": "An app", "scripts": { "postinstall": "true" }, "_resolved": "/home/alice/app.tgz" }),
        &[
            ("README.md", b"# App\n"),
            ("index.js", b"module.exports = 1\n"),
        ],
    );
    let (registry, alice) = registry_with(&[]).await;
    let answer = registry.publish(&alice, &package).await.assert(201);
    assert_eq!(
        answer.json(),
        json!({ "success": true, "ok": "created new package" })
    );
    let bytes = registry.tarball(&package).await.assert(200);
    assert_eq!(bytes.body, package.tarball);
    assert_eq!(
        bytes.header("content-type"),
        Some("application/octet-stream")
    );
    let document = registry.get("/@acme/app").await.assert(200).json();
    let version = &document["versions"]["1.0.0"];
    assert_eq!(version["dist"]["integrity"], package.integrity());
    assert_eq!(version["dist"]["shasum"], package.shasum());
    let tarball = format!("{}/@acme/app/-/app-1.0.0.tgz", registry.url);
    assert_eq!(version["dist"]["tarball"], tarball);
    assert_eq!(version["hasInstallScript"], true);
    assert_eq!(version["_npmUser"]["name"], "alice");
    assert!(version.get("_resolved").is_none());
    assert_eq!(document["dist-tags"], json!({ "latest": "1.0.0" }));
    assert_eq!(
        document["maintainers"],
        json!([{ "name": "alice", "email": "" }])
    );
    assert_eq!(document["readme"], "# App\n");
    assert_eq!(document["description"], "An app");
    assert!(document["_rev"].as_str().unwrap().contains('-'));
    for key in ["_rustaccio", "_uplinks", "_distfiles"] {
        assert!(document.get(key).is_none(), "{key}");
    }
}

#[tokio::test]
pub(crate) async fn a_version_is_published_once() {
    let first = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[&first]).await;
    let other = Package::with("app", "1.0.0", &json!({}), &[("evil.js", b"1")]);
    let refused = registry.publish(&alice, &other).await.assert(409);
    assert_eq!(
        refused.error(),
        "this package is already present. You cannot publish over the previously published versions: 1.0.0."
    );
    registry.publish(&alice, &first).await.assert(409);
    assert_eq!(
        registry.tarball(&first).await.assert(200).body,
        first.tarball
    );
}

#[tokio::test]
pub(crate) async fn a_retry_of_the_same_client_is_no_conflict() {
    let package = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[]).await;
    let send = async |session: &str, package: &Package| {
        let request = registry
            .request(Method::PUT, "/app")
            .bearer_auth(&alice.token)
            .header("npm-session", session);
        let body = publish_body(package, "latest");
        registry.send(with_json(request, &body)).await
    };
    send("0123456789abcdef", &package).await.assert(201);
    send("0123456789abcdef", &package).await.assert(201);
    send("fedcba9876543210", &package).await.assert(409);
    let other = Package::with("app", "1.0.0", &json!({}), &[("a", b"b")]);
    send("0123456789abcdef", &other).await.assert(409);
}

#[tokio::test]
pub(crate) async fn tags_go_where_they_were_sent() {
    let (registry, alice) = registry_with(&[]).await;
    for (version, tag) in [
        ("1.0.0-rc.1", "next"),
        ("1.0.0", "latest"),
        ("0.9.1", "old"),
    ] {
        let package = Package::new("app", version);
        registry.publish_as(&alice, &package, tag).await.assert(201);
    }
    let tags = registry.get("/-/package/app/dist-tags").await.assert(200);
    assert_eq!(
        tags.json(),
        json!({ "next": "1.0.0-rc.1", "latest": "1.0.0", "old": "0.9.1" })
    );
    let first = Package::new("first", "1.0.0-beta.1");
    registry
        .publish_as(&alice, &first, "beta")
        .await
        .assert(201);
    let tags = registry.get("/-/package/first/dist-tags").await.json();
    assert_eq!(tags["latest"], "1.0.0-beta.1");
}

#[tokio::test]
pub(crate) async fn dist_tags_are_set_and_removed_on_both_routes() {
    let (one, two) = (Package::new("@s/n", "1.0.0"), Package::new("@s/n", "2.0.0"));
    let (registry, alice) = registry_with(&[&one, &two]).await;
    let tags = "/-/package/@s%2fn/dist-tags";
    let set = registry
        .put(&alice, &format!("{tags}/stable"), &json!("1.0.0"))
        .await;
    assert_eq!(set.assert(201).json(), json!({ "ok": "package tagged" }));
    registry
        .put(&alice, "/@s%2fn/lts", &json!("1.0.0"))
        .await
        .assert(201);
    let shown = registry.get(tags).await.json();
    assert_eq!(
        shown,
        json!({ "latest": "2.0.0", "stable": "1.0.0", "lts": "1.0.0" })
    );
    let refused = registry
        .put(&alice, &format!("{tags}/other"), &json!("9.9.9"))
        .await;
    assert_eq!(
        refused.assert(404).error(),
        "this version doesn't exist: 9.9.9"
    );
    let bad = registry
        .put(&alice, &format!("{tags}/other"), &json!({}))
        .await;
    assert_eq!(bad.assert(400).error(), "version is missing");
    registry
        .put(&alice, &format!("{tags}/1.x"), &json!("1.0.0"))
        .await
        .assert(400);
    let removed = registry.delete(&alice, &format!("{tags}/stable")).await;
    assert_eq!(removed.assert(201).json(), json!({ "ok": "tag removed" }));
    registry
        .delete(&alice, &format!("{tags}/stable"))
        .await
        .assert(201);
    registry
        .delete(&alice, &format!("{tags}/latest"))
        .await
        .assert(201);
    assert_eq!(registry.get(tags).await.json()["latest"], "2.0.0");
    let anonymous = registry
        .send_json(None, Method::PUT, &format!("{tags}/other"), &json!("1.0.0"))
        .await;
    assert_eq!(anonymous.assert(401).json()["code"], "POLICY_DENIED");
}

pub(crate) async fn for_writing(registry: &Registry, user: &User, name: &str) -> Value {
    let answer = registry.get_as(user, &format!("/{name}?write=true")).await;
    answer.assert(200).json()
}

#[tokio::test]
pub(crate) async fn deprecation_changes_nothing_else() {
    let (one, two) = (Package::new("app", "1.0.0"), Package::new("app", "2.0.0"));
    let (registry, alice) = registry_with(&[&one, &two]).await;
    let before = for_writing(&registry, &alice, "app").await;
    let mut document = before.clone();
    document["versions"]["1.0.0"]["deprecated"] = json!("use 2");
    // Somebody else publishes and tags meanwhile; a deprecation must not undo that.
    let three = Package::new("app", "3.0.0");
    registry.publish(&alice, &three).await.assert(201);
    let answer = registry.put(&alice, "/app", &document).await.assert(201);
    assert_eq!(answer.json()["ok"], "package changed");
    let after = registry.get("/app").await.json();
    assert_eq!(after["versions"]["1.0.0"]["deprecated"], "use 2");
    assert_eq!(after["dist-tags"]["latest"], "3.0.0");
    assert_eq!(after["versions"].as_object().unwrap().len(), 3);
    assert_eq!(after["versions"]["2.0.0"], before["versions"]["2.0.0"]);
    document["versions"]["1.0.0"]["deprecated"] = json!("");
    registry.put(&alice, "/app", &document).await.assert(201);
    let after = registry.get("/app").await.json();
    assert_eq!(after["versions"]["1.0.0"], before["versions"]["1.0.0"]);
}

#[tokio::test]
pub(crate) async fn metadata_alone_makes_no_version_and_removes_none() {
    let package = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[&package]).await;
    let document =
        json!({ "name": "app", "versions": { "9.9.9": { "name": "app", "version": "9.9.9" } } });
    registry.put(&alice, "/app", &document).await.assert(400);
    registry
        .put(
            &alice,
            "/new",
            &json!({ "name": "new", "versions": { "1.0.0": {} } }),
        )
        .await
        .assert(400);
    registry
        .put(&alice, "/new", &json!({ "name": "new" }))
        .await
        .assert(400);
    let fewer = json!({ "name": "app", "versions": {} });
    registry.put(&alice, "/app", &fewer).await.assert(400);
    registry.get("/app/1.0.0").await.assert(200);
}

#[tokio::test]
pub(crate) async fn stars_are_personal_and_owners_are_many() {
    let package = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[&package]).await;
    let bob = registry.user("bob").await;
    let star = |users: Value| json!({ "_id": "app", "users": users });
    registry
        .put(&bob, "/app", &star(json!({ "bob": true, "alice": true })))
        .await
        .assert(201);
    let users = for_writing(&registry, &bob, "app").await["users"].clone();
    assert_eq!(users, json!({ "bob": true }));
    registry
        .put(&bob, "/app", &star(json!({})))
        .await
        .assert(201);
    assert_eq!(
        for_writing(&registry, &bob, "app").await["users"],
        json!({})
    );
    let anonymous = registry
        .send_json(None, Method::PUT, "/app", &star(json!({ "x": true })))
        .await;
    anonymous.assert(401);
    let owners = json!({ "_id": "app", "maintainers": [
        { "name": "alice", "email": "" }, { "name": "bob", "email": "b@example.com" } ] });
    registry
        .put(&alice, "/app/-rev/any", &owners)
        .await
        .assert(201);
    let shown = registry.get("/app").await.json();
    assert_eq!(shown["maintainers"], owners["maintainers"]);
    let none = json!({ "_id": "app", "maintainers": [] });
    registry
        .put(&alice, "/app/-rev/any", &none)
        .await
        .assert(400);
}

#[tokio::test]
pub(crate) async fn only_owners_change_a_package_where_that_is_wanted() {
    let registry = Registry::start(&[("RUSTACCIO_PUBLISH_CHECK_OWNERS", "true")]).await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let refused = registry
        .publish(&bob, &Package::new("app", "1.0.1"))
        .await
        .assert(403);
    assert_eq!(refused.error(), "only owners are allowed to change package");
    // Reading is no change, and a star is none of the owners' business.
    let mut document = for_writing(&registry, &bob, "app").await;
    document["versions"]["1.0.0"]["deprecated"] = json!("by a stranger");
    registry.put(&bob, "/app", &document).await.assert(403);
    let star = json!({ "_id": "app", "_rev": document["_rev"], "users": { "bob": true } });
    registry.put(&bob, "/app", &star).await.assert(201);
    registry.delete(&bob, "/app/-rev/any").await.assert(403);
    registry
        .put(&bob, "/-/package/app/dist-tags/other", &json!("1.0.0"))
        .await
        .assert(403);
    let me = json!({ "_id": "app", "maintainers": [{ "name": "bob", "email": "" }] });
    registry.put(&bob, "/app/-rev/any", &me).await.assert(403);
    registry
        .publish(&bob, &Package::new("theirs", "1.0.0"))
        .await
        .assert(201);
    registry
        .publish(&alice, &Package::new("app", "1.0.1"))
        .await
        .assert(201);
}

#[tokio::test]
pub(crate) async fn strict_revisions_are_compared_on_every_change() {
    let registry = Registry::start(&[("RUSTACCIO_STRICT_REVISION_CHECK", "yes")]).await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let mut document = for_writing(&registry, &alice, "app").await;
    document["versions"]["1.0.0"]["deprecated"] = json!("x");
    let mut without = document.clone();
    without.as_object_mut().unwrap().remove("_rev");
    registry.put(&alice, "/app", &without).await.assert(409);
    registry.put(&alice, "/app", &document).await.assert(201);
    registry.put(&alice, "/app", &document).await.assert(409);
    registry.delete(&alice, "/app/-rev/1-old").await.assert(409);
}

/// The document of a publish with one value replaced.
fn changed(package: &Package, pointer: &str, value: Value) -> Value {
    let mut body = publish_body(package, "latest");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[key] = value;
    body
}

/// The document of a publish with other bytes as its tarball.
fn with_bytes(package: &Package, bytes: &[u8]) -> Value {
    let mut body = changed(package, "/versions/1.0.0/dist", json!({}));
    let attachment = &mut body["_attachments"]["app-1.0.0.tgz"];
    attachment["data"] = json!(STANDARD.encode(bytes));
    attachment["length"] = json!(bytes.len());
    body
}

#[tokio::test]
pub(crate) async fn a_publish_that_does_not_add_up_is_refused_and_leaves_nothing() {
    let package = Package::new("app", "1.0.0");
    let other = Package::new("other", "1.0.0");
    let (registry, alice) = registry_with(&[]).await;
    let private = Package::with("app", "1.0.0", &json!({ "private": true }), &[]);
    let one_value: [(&str, &str, Value); 9] = [
        (
            "wrong sha1",
            "/versions/1.0.0/dist/shasum",
            json!("0".repeat(40)),
        ),
        (
            "wrong sha512",
            "/versions/1.0.0/dist/integrity",
            json!(other.integrity()),
        ),
        ("another name", "/name", json!("other")),
        (
            "another version's name",
            "/versions/1.0.0/name",
            json!("other"),
        ),
        ("no base64", "/_attachments/app-1.0.0.tgz/data", json!("!!")),
        (
            "wrong length",
            "/_attachments/app-1.0.0.tgz/length",
            json!(1),
        ),
        ("no version", "/versions", json!({})),
        (
            "two versions",
            "/versions/2.0.0",
            json!({ "name": "app", "version": "2.0.0" }),
        ),
        (
            "a tag that is a range",
            "/dist-tags",
            json!({ "^1": "1.0.0" }),
        ),
    ];
    let mut bad: Vec<(&str, Value)> = one_value
        .into_iter()
        .map(|(what, pointer, value)| (what, changed(&package, pointer, value)))
        .collect();
    bad.extend([
        (
            "another package's tarball",
            with_bytes(&package, &other.tarball),
        ),
        ("no archive", with_bytes(&package, b"hello")),
        (
            "no semver",
            publish_body(&Package::new("app", "one"), "latest"),
        ),
        ("private", publish_body(&private, "latest")),
    ]);
    for (what, body) in bad {
        let answer = registry.put(&alice, "/app", &body).await;
        assert_eq!(answer.status, 400, "{what}");
        assert!(!answer.error().is_empty());
    }
    registry.get("/app").await.assert(404);
    if registry.is_in_folder() {
        for folder in ["tarballs", "tmp"] {
            let left = std::fs::read_dir(registry.data().join(folder)).unwrap();
            assert_eq!(left.count(), 0, "{folder}");
        }
    }
    let upper = Package::new("App", "1.0.0");
    registry.publish(&alice, &upper).await.assert(400);
}

#[tokio::test]
pub(crate) async fn a_compressed_body_is_a_body() {
    use std::io::Write as _;

    let package = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[]).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&serde_json::to_vec(&publish_body(&package, "latest")).unwrap())
        .unwrap();
    let request = registry
        .request(Method::PUT, "/app")
        .bearer_auth(&alice.token)
        .header("content-encoding", "gzip")
        .body(gzip.finish().unwrap());
    registry.send(request).await.assert(201);
    assert_eq!(registry.tarball(&package).await.body, package.tarball);
}

#[tokio::test]
pub(crate) async fn bodies_have_a_limit() {
    let registry = Registry::start(&[("RUSTACCIO_MAX_BODY_SIZE", "100kb")]).await;
    let alice = registry.user("alice").await;
    let package = Package::heavy("app", "1.0.0", 200_000);
    let refused = registry.publish(&alice, &package).await.assert(413);
    assert_eq!(refused.json()["code"], "PAYLOAD_TOO_LARGE");
    let body = serde_json::to_vec(&publish_body(&package, "latest")).unwrap();
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body
        .chunks(10_000)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    let request = registry
        .request(Method::PUT, "/app")
        .bearer_auth(&alice.token)
        .body(reqwest::Body::wrap_stream(futures_util::stream::iter(
            pieces,
        )));
    // Without a length that says so before.
    let refused = registry.send(request).await.assert(413);
    assert_eq!(refused.error(), "request entity too large");
    registry.get("/app").await.assert(404);
}

#[tokio::test]
pub(crate) async fn nobody_publishes_without_permission() {
    let (registry, _) = registry_with(&[]).await;
    let body = publish_body(&Package::new("app", "1.0.0"), "latest");
    let refused = registry
        .send_json(None, Method::PUT, "/app", &body)
        .await
        .assert(401);
    assert_eq!(
        refused.error(),
        "authorization required to publish package app"
    );
    assert_eq!(refused.json()["code"], "POLICY_DENIED");
}

#[tokio::test]
pub(crate) async fn a_lost_manifest_is_rebuilt_at_start() {
    let packages = [
        Package::new("@s/app", "1.0.0"),
        Package::new("@s/app", "1.10.0"),
        Package::new("@s/app", "2.0.0-rc.1"),
    ];
    let (registry, _) = registry_with(&packages.iter().collect::<Vec<_>>()).await;
    let folder = registry.data().join("tarballs/@s__app");
    std::fs::remove_file(folder.join("package.json")).unwrap();
    std::fs::write(folder.join("app-3.0.0.tgz"), "rubbish").unwrap();
    let folder = registry.stop().await;
    let registry = Registry::with(crate::support::registry::Start {
        variables: vec![
            ("RUSTACCIO_ADMIN_USERS", "root".to_owned()),
            ("RUSTACCIO_PUBLISH_IMMUTABLE", "true".to_owned()),
        ],
        folder: Some(folder),
        ..Default::default()
    })
    .await;
    // Who may use it was lost as well.
    registry.get("/@s/app").await.assert(404);
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    let (owners, owner) = ("/-/package/@s%2fapp/owners", json!({ "user": "alice" }));
    registry.put(&root, owners, &owner).await.assert(200);
    let document = registry.get_as(&alice, "/@s/app").await;
    let document = document.assert(200).json();
    assert_eq!(document["versions"].as_object().unwrap().len(), 3);
    assert_eq!(document["dist-tags"]["latest"], "1.10.0");
    for package in &packages {
        let version = &document["versions"][&package.version];
        assert_eq!(version["dist"]["integrity"], package.integrity());
        let path = format!("/@s/app/-/{}", package.file());
        assert_eq!(registry.get_as(&alice, &path).await.body, package.tarball);
    }
    // Its publisher may send it again; nobody may send something else.
    registry.publish(&alice, &packages[0]).await.assert(201);
    for version in ["1.0.0", "3.0.0"] {
        let other = Package::with("@s/app", version, &json!({}), &[("x", b"y")]);
        registry.publish(&alice, &other).await.assert(409);
    }
}
