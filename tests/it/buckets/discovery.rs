//! What one node of a bucket learns of the others' publishes.

use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{Line, Wire, manifest};
use crate::support::{
    Package, Registry,
    bucket::{Bucket, s3_at, s3_endpoint},
    process::Process,
    publish_body,
    registry::client,
};

const MANY: (&str, &str) = ("RUSTACCIO_PACKAGE_DISCOVERY_MODE", "multi");
const EACH_SECOND: (&str, &str) = ("RUSTACCIO_PACKAGE_DISCOVERY_REFRESH_SECS", "1");
const NEVER: (&str, &str) = ("RUSTACCIO_PACKAGE_DISCOVERY_REFRESH_SECS", "0");

/// A node in a process of its own.
struct Node {
    process: Process,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start(bucket: &Bucket, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let variables = bucket.variables.iter();
        let mut variables: Vec<(&str, &str)> = variables
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        variables.extend(more);
        Self {
            process: Process::start(folder.path(), &variables),
            client: client(),
            _folder: folder,
        }
    }

    async fn send(&self, method: Method, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.process.url);
        let mut request = self.client.request(method.clone(), url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if method != Method::GET {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, "", &Value::Null).await.1
    }

    async fn token(&self) -> String {
        let body = json!({ "name": "alice", "password": "password" });
        let path = "/-/user/org.couchdb.user:alice";
        let (_, answer) = self.send(Method::PUT, path, "", &body).await;
        answer["token"].as_str().unwrap().to_owned()
    }

    async fn publish(&self, token: &str, package: &Package) {
        let path = format!("/{}", package.name.replace('/', "%2f"));
        let body = publish_body(package, "latest");
        assert_eq!(self.send(Method::PUT, &path, token, &body).await.0, 201);
    }

    /// Waits until a search for everything finds these names with their latest versions.
    async fn finds(&self, expected: Value) {
        let begun = Instant::now();
        loop {
            let found = self.get("/-/v1/search?text=&size=250").await;
            let found = found["objects"].as_array().unwrap().iter();
            let mut found: Vec<Value> = found
                .map(|hit| json!([hit["package"]["name"], hit["package"]["version"]]))
                .collect();
            found.sort_by_key(ToString::to_string);
            let found = Value::from(found);
            if found == expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_another_process_changes() {
    let bucket = Bucket::s3().await;
    let old = Package::new("@old/two__slashes", "1.0.0");
    let key = "@old__two__slashes/package.json";
    bucket.put(key, manifest(&[&old])).await;
    let line = Line::to(&s3_endpoint()).await;
    let one = Node::start(&bucket, &[MANY, EACH_SECOND]);
    let other = Node::start(&bucket, &[MANY, EACH_SECOND]);
    let quiet = Node::start(
        &bucket,
        &[MANY, NEVER, ("RUSTACCIO_S3_ENDPOINT", &line.url)],
    );
    let alice = one.token().await;
    let known = json!(["@old/two__slashes", "1.0.0"]);
    for node in [&other, &quiet] {
        node.finds(json!([known])).await;
    }
    one.publish(&alice, &Package::new("app", "1.0.0")).await;
    one.publish(&alice, &Package::new("@s/lib", "1.0.0")).await;
    let lib = json!(["@s/lib", "1.0.0"]);
    other.finds(json!([known, lib, ["app", "1.0.0"]])).await;
    one.publish(&alice, &Package::new("app", "2.0.0")).await;
    other.finds(json!([known, lib, ["app", "2.0.0"]])).await;
    let path = "/-/package/app/dist-tags/latest";
    let tagged = one.send(Method::PUT, path, &alice, &json!("1.0.0")).await;
    assert_eq!(tagged.0, 201);
    other.finds(json!([known, lib, ["app", "1.0.0"]])).await;
    let path = "/app/-rev/any";
    let removed = one.send(Method::DELETE, path, &alice, &Value::Null).await;
    assert_eq!(removed.0, 201);
    other.finds(json!([known, lib])).await;
    let all = other.get("/-/all").await;
    assert!(all["app"].is_null() && all["@s/lib"].is_object(), "{all}");
    // One that is not to list again has not: it listed for the index, and for what was to be recovered.
    let asked = line.take_asked();
    let is_listing = |line: &&String| line.contains("list-type=") && !line.contains(".rustaccio");
    let listings: Vec<&String> = asked.iter().filter(is_listing).collect();
    assert!((1..=2).contains(&listings.len()), "{listings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_was_recovered_after_the_listing() {
    let bucket = Bucket::s3().await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    for name in ["asked", "kept", "lost"] {
        let package = Package::new(name, "1.0.0");
        node.publish(&alice, &package).await.assert(201);
    }
    drop(node.stop().await);
    for name in ["asked", "lost"] {
        bucket.delete(&format!("{name}/package.json")).await;
    }
    let node = Node::start(&bucket, &[NEVER]);
    // One because somebody asks for it, the other when all are looked at.
    assert!(node.get("/asked").await["versions"]["1.0.0"].is_object());
    let all = json!([["asked", "1.0.0"], ["kept", "1.0.0"], ["lost", "1.0.0"]]);
    node.finds(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_listing_that_fails_is_made_again() {
    let bucket = Bucket::s3().await;
    for name in ["one", "two"] {
        let package = Package::new(name, "1.0.0");
        let key = format!("{name}/package.json");
        bucket.put(&key, manifest(&[&package])).await;
    }
    let line = Line::to(&s3_endpoint()).await;
    let node = Node::start(&bucket, &[NEVER, ("RUSTACCIO_S3_ENDPOINT", &line.url)]);
    // The first search has everything listed, or would.
    line.set(Wire::Cut);
    node.finds(json!([])).await;
    node.process
        .wait_for_log("a package cannot be found by searches", 1);
    line.set(Wire::Whole);
    node.finds(json!([["one", "1.0.0"], ["two", "1.0.0"]]))
        .await;
}

#[tokio::test]
async fn a_listing_reads_again_only_what_has_changed() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node_with(&[MANY, EACH_SECOND]).await;
    let alice = node.user("alice").await;
    for name in ["one", "two", "three"] {
        let package = Package::new(name, "1.0.0");
        node.publish(&alice, &package).await.assert(201);
    }
    bucket
        .put(
            "@old__a__b/package.json",
            manifest(&[&Package::new("@old/a__b", "1.0.0")]),
        )
        .await;
    let found = async || node.get("/-/v1/search?text=").await.assert(200).json()["total"].clone();
    let begun = Instant::now();
    while found().await != 4 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each pass lists what comes before the registry's own, and what comes after.
    line.take_asked();
    let mut asked: Vec<String> = Vec::new();
    while asked.len() < 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{asked:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        asked.extend(line.take_asked());
    }
    let mut others = asked.iter().filter(|line| !line.contains("list-type="));
    assert_eq!(others.next(), None, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_published_is_installable_at_once() {
    let bucket = Bucket::s3().await;
    let (one, other) = (Node::start(&bucket, &[MANY]), Node::start(&bucket, &[MANY]));
    let alice = one.token().await;
    let first = Package::new("@s/app", "0.0.1");
    one.publish(&alice, &first).await;
    for number in 1..=15 {
        // It is in memory there.
        let path = "/@s%2fapp";
        let before = other.get(path).await;
        assert_eq!(before["versions"].as_object().unwrap().len(), number);
        let version = format!("1.0.{number}");
        let package = Package::new("@s/app", &version);
        one.publish(&alice, &package).await;
        let shown = other.get(path).await;
        assert_eq!(shown["dist-tags"]["latest"], *version);
        let dist = &shown["versions"][&version]["dist"];
        assert_eq!(dist["integrity"], package.integrity());
        let tarball = other.client.get(dist["tarball"].as_str().unwrap());
        let tarball = tarball.send().await.unwrap().bytes().await.unwrap();
        assert!(tarball == package.tarball);
        let tag = format!("/-/package/@s%2fapp/dist-tags/tag-{number}");
        let tagged = one.send(Method::PUT, &tag, &alice, &json!(version)).await;
        assert_eq!(tagged.0, 201);
        assert_eq!(other.get(&tag).await, json!(version));
    }
    // A tarball and a version are asked for by name.
    let next = Package::new("@s/app", "2.0.0");
    one.publish(&alice, &next).await;
    let url = format!("{}/@s/app/-/{}", other.process.url, next.file());
    let answer = other.client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let path = "/@s%2fapp/-rev/any";
    let removed = one.send(Method::DELETE, path, &alice, &Value::Null).await;
    assert_eq!(removed.0, 201);
    let gone = other.send(Method::GET, "/@s%2fapp", "", &Value::Null).await;
    assert_eq!(gone.0, 404);
}

#[tokio::test]
async fn tarballs_in_memory_cost_no_look_and_packuments_outlast_a_store_that_is_down() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node_with(&[MANY, NEVER]).await;
    let alice = node.user("alice").await;
    let package = Package::new("app", "1.0.0");
    node.publish(&alice, &package).await.assert(201);
    node.get("/app").await.assert(200);
    node.tarball(&package).await.assert(200);
    line.take_asked();
    node.tarball(&package).await.assert(200);
    assert_eq!(line.take_asked(), Vec::<String>::new());
    node.get("/app").await.assert(200);
    assert_eq!(line.take_asked().len(), 1, "one small look");
    for wire in [Wire::Cut, Wire::Stuck] {
        line.set(wire);
        node.get("/app").await.assert(200);
        assert_eq!(
            node.tarball(&package).await.assert(200).body,
            package.tarball
        );
        // What is not known to be there may be there.
        let missing = |path: &'static str| node.get(path);
        let (version, tag, other) = tokio::join!(
            missing("/app/2.0.0"),
            missing("/-/package/app/dist-tags/next"),
            missing("/another")
        );
        for answer in [version, tag, other] {
            answer.assert(503);
        }
        line.set(Wire::Whole);
        node.get("/app/2.0.0").await.assert(404);
    }
}

#[tokio::test]
async fn a_single_node_believes_what_is_in_memory_as_long_as_it_is_told_to() {
    let bucket = Bucket::s3().await;
    let ttl = ("RUSTACCIO_PACKAGE_CACHE_TTL_SECS", "3600");
    let (one, other): (Registry, Registry) = (bucket.node().await, bucket.node_with(&[ttl]).await);
    let alice = one.user("alice").await;
    one.publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    other.get("/app").await.assert(200);
    one.publish(&alice, &Package::new("app", "2.0.0"))
        .await
        .assert(201);
    let path = "/-/package/app/dist-tags/next";
    one.put(&alice, path, &json!("1.0.0")).await.assert(201);
    let latest = async || other.get("/app").await.json()["dist-tags"]["latest"].clone();
    assert_eq!(latest().await, "1.0.0");
    // A tag that is missed makes it look.
    assert_eq!(other.get(path).await.assert(200).json(), "1.0.0");
    assert_eq!(latest().await, "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_a_right_changes_nothing_through_another_node() {
    let bucket = Bucket::s3().await;
    let admin = ("RUSTACCIO_ADMIN_USERS", "alice");
    let (one, other) = (
        bucket.node_with(&[MANY, NEVER, admin]).await,
        bucket.node_with(&[MANY, NEVER, admin]).await,
    );
    let (alice, bob) = (one.user("alice").await, one.user("bob").await);
    let package = |version: &str| Package::new("@acme/app", version);
    one.publish(&alice, &package("1.0.0")).await.assert(201);
    let teams = "/-/org/acme/team";
    let team = json!({ "name": "core" });
    one.put(&alice, teams, &team).await.assert(201);
    let member = json!({ "user": "bob", "role": "developer" });
    one.put(&alice, "/-/org/acme/user", &member)
        .await
        .assert(200);
    let member = json!({ "user": "bob" });
    one.put(&alice, "/-/team/acme/core/user", &member)
        .await
        .assert(201);
    let (path, access) = ("/-/team/acme/core/package", "/-/package/@acme%2fapp/access");
    let grant = json!({ "package": "@acme/app", "permissions": "read-write" });
    one.put(&alice, path, &grant).await.assert(200);
    let restricted = json!({ "access": "restricted" });
    let user = Some(&alice);
    one.send_json(user, Method::POST, access, &restricted)
        .await
        .assert(200);
    // The other node has it in memory, and believes it for two minutes.
    other.publish(&bob, &package("1.0.1")).await.assert(201);
    other.get_as(&bob, "/@acme%2fapp").await.assert(200);
    let taken = json!({ "package": "@acme/app" });
    one.send_json(user, Method::DELETE, path, &taken)
        .await
        .assert(200);
    let tag = "/-/package/@acme%2fapp/dist-tags/mine";
    let tagged = other.put(&bob, tag, &json!("1.0.0")).await;
    let published = other.publish(&bob, &package("1.0.2")).await;
    let shown = other.get_as(&bob, "/@acme%2fapp?write=true").await;
    for refused in [tagged, published, shown] {
        let status = refused.status.as_u16();
        assert!((401..=404).contains(&status), "{status}");
    }
    let known = one.get_as(&alice, "/@acme%2fapp").await.json();
    assert_eq!(known["versions"].as_object().unwrap().len(), 2);
    assert_eq!(known["dist-tags"], json!({ "latest": "1.0.1" }));
}
