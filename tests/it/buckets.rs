//! Hosted packages in a bucket that several registries share.

mod careless;
#[cfg(feature = "crash-points")]
mod crash;
mod discovery;
mod many;
mod reports;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    publishing::for_writing,
    support::{
        Package, Registry,
        bucket::{Bucket, s3_at, s3_endpoint},
        tls::{Authority, proxy_before},
        wire::{Line, Wire},
    },
};

#[tokio::test]
async fn everything_works_in_a_bucket_and_on_every_node() {
    let bucket = Bucket::s3().await;
    let (one, other) = (bucket.node().await, bucket.node().await);
    let (alice, bob) = (one.user("alice").await, other.user("bob").await);
    let small = Package::new("@team/app", "1.0.0");
    let heavy = Package::heavy("@team/app", "2.0.0", 9 * 1024 * 1024);
    one.publish(&alice, &small).await.assert(201);
    // Published on one node, it is on the other at once.
    let shown = other.get("/@team%2fapp").await.assert(200).json();
    assert_eq!(shown["dist-tags"]["latest"], "1.0.0");
    other.publish(&bob, &heavy).await.assert(201);
    for node in [&one, &other] {
        for package in [&small, &heavy] {
            let whole = node.tarball(package).await.assert(200);
            assert!(whole.body == package.tarball, "other bytes");
            let path = format!("/{}/-/{}", package.name, package.file());
            let asked = node
                .request(Method::GET, &path)
                .header("range", "bytes=5-99");
            let part = node.send(asked).await.assert(206);
            assert_eq!(part.body, package.tarball[5..100]);
        }
    }
    let mut names = bucket.names().await;
    names.retain(|name| !name.starts_with(".rustaccio/"));
    assert_eq!(
        names,
        [
            "@team/app/app-1.0.0.tgz",
            "@team/app/app-2.0.0.tgz",
            "@team/app/package.json"
        ]
    );
    let stored = bucket.read("@team/app/app-2.0.0.tgz").await.unwrap();
    assert!(stored == heavy.tarball, "stored as it is");
    let tag = "/-/package/@team%2fapp/dist-tags/next";
    one.put(&alice, tag, &json!("1.0.0")).await.assert(201);
    let tags = other.get("/-/package/@team%2fapp/dist-tags").await.json();
    assert_eq!(tags, json!({ "latest": "2.0.0", "next": "1.0.0" }));
    let again = other.publish(&bob, &small).await.assert(409);
    assert!(again.error().contains("already present"));
    let rev = for_writing(&one, &alice, "@team%2fapp").await["_rev"].clone();
    let path = format!(
        "/@team%2fapp/-/app-2.0.0.tgz/-rev/{}",
        rev.as_str().unwrap()
    );
    one.delete(&alice, &path).await.assert(201);
    other.tarball(&heavy).await.assert(404);
    // The same bytes again, where there is a trace of what was.
    other.publish(&bob, &heavy).await.assert(201);
    assert!(one.tarball(&heavy).await.assert(200).body == heavy.tarball);
    one.delete(&alice, "/@team%2fapp/-rev/any")
        .await
        .assert(201);
    other.get("/@team%2fapp").await.assert(404);
    other.tarball(&small).await.assert(404);
}

/// A manifest as other software has written it.
fn manifest(packages: &[&Package]) -> Vec<u8> {
    let mut versions = json!({});
    let mut attachments = json!({});
    for package in packages {
        versions[&package.version] = package.version_object("http://localhost:4873");
        attachments[package.file()] = json!({ "shasum": package.shasum() });
    }
    let newest = packages.last().unwrap();
    let document = json!({
        "_id": newest.name, "name": newest.name, "_rev": "3-0123456789abcdef", "readme": "",
        "dist-tags": { "latest": newest.version }, "versions": versions, "time": {},
        "_attachments": attachments, "_uplinks": {}, "_distfiles": {}, "users": {},
    });
    serde_json::to_vec_pretty(&document).unwrap()
}

#[tokio::test]
async fn older_layouts_are_read_and_published_to() {
    for (name, folder, blobs) in [
        ("plain", "plain", "plain"),
        ("@old/verdaccio", "@old/verdaccio", "@old/verdaccio"),
        ("@old/underscores", "@old__underscores", "@old__underscores"),
        (
            "@old/two__slashes",
            "@old__two__slashes",
            "@old__two__slashes",
        ),
        ("@old/mixed", "@old__mixed", "@old/mixed"),
        ("dashed", "dashed", "dashed/-"),
        ("@old/dashed", "@old/dashed", "@old/dashed/-"),
        ("@old/lower", "@old%2flower", "@old%2flower"),
        ("@old/upper", "@old%2Fupper", "@old%2Fupper/-"),
        ("@old/whole", "%40old%2Fwhole", "%40old%2Fwhole/-"),
    ] {
        let bucket = Bucket::s3().await;
        let (one, two) = (Package::new(name, "1.0.0"), Package::new(name, "2.0.0"));
        let key = format!("{folder}/package.json");
        bucket.put(&key, manifest(&[&one])).await;
        let file = format!("{blobs}/{}", one.file());
        bucket.put(&file, one.tarball.clone()).await;
        bucket.put("verdaccio-s3-db.json", "{\"list\":[]}").await;

        let (node, other) = (bucket.node().await, bucket.node().await);
        let alice = node.user("alice").await;
        let path = format!("/{}", name.replace('/', "%2f"));
        let shown = other.get(&path).await.assert(200).json();
        assert_eq!(shown["versions"].as_object().unwrap().len(), 1, "{name}");
        node.publish(&alice, &two).await.assert(201);
        let shown = other.get(&path).await.assert(200).json();
        assert_eq!(shown["dist-tags"]["latest"], "2.0.0");
        for package in [&one, &two] {
            let tarball = other.tarball(package).await.assert(200);
            assert_eq!(tarball.body, package.tarball, "{name}");
        }
        let found = other.get("/-/v1/search?text=").await.assert(200).json();
        assert_eq!(found["total"], 1, "{name}: {found}");
        // The manifest is where it was, and there is no second one.
        let names = bucket.names().await;
        let manifests = names.iter().filter(|name| name.ends_with("package.json"));
        assert_eq!(manifests.collect::<Vec<_>>(), [&key]);
        assert!(
            names.contains(&format!("{name}/{}", two.file())),
            "{names:?}"
        );
        node.publish(&alice, &one).await.assert(409);
        let rev = shown["_rev"].as_str().unwrap_or("any").to_owned();
        let removal = format!("{path}/-/{}/-rev/{rev}", one.file());
        node.delete(&alice, &removal).await.assert(201);
        other.tarball(&one).await.assert(404);
        assert!(
            bucket
                .read(&file)
                .await
                .is_none_or(|bytes| bytes != one.tarball)
        );
        node.publish_as(&alice, &one, "old").await.assert(201);
        assert_eq!(other.tarball(&one).await.assert(200).body, one.tarball);
    }
}

const OLD_FOLDERS: [&str; 5] = [
    "@old__app",
    "@lower%2fapp",
    "@upper%2Fapp",
    "@upper%2Fother",
    "%40whole%2Fapp",
];

fn name_of(folder: &str) -> String {
    let name = folder.replace("__", "/").replace("%40", "@");
    name.replace("%2f", "/").replace("%2F", "/")
}

#[tokio::test]
async fn a_start_lists_nothing_and_a_first_read_costs_little() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    for name in ["app", "@team/app"] {
        let package = Package::new(name, "1.0.0");
        node.publish(&alice, &package).await.assert(201);
    }
    for folder in OLD_FOLDERS {
        let old = Package::new(&name_of(folder), "1.0.0");
        let key = format!("{folder}/package.json");
        bucket.put(&key, manifest(&[&old])).await;
    }
    let _ = node.stop().await;
    line.take_asked();

    let node = bucket.node().await;
    let asked = line.take_asked();
    // What is the registry's own is another matter.
    let is_listing = |line: &String| line.contains("list-type=") && !line.contains(".rustaccio");
    assert!(!asked.iter().any(is_listing), "{asked:?}");
    let mut counts = vec![("app".to_owned(), 1, 0), ("@team/app".to_owned(), 1, 0)];
    // What an object is called is found out by a listing of folders, once for each scope.
    let old = OLD_FOLDERS.into_iter().map(name_of);
    counts.extend(
        old.zip([(2, 0), (3, 1), (3, 1), (1, 0), (3, 1)])
            .map(|(name, (reads, listings))| (name, reads, listings)),
    );
    for (name, reads, listings) in &counts {
        let path = format!("/{}", name.replace('/', "%2f"));
        node.get(&path).await.assert(200);
        let asked = line.take_asked();
        let (listed, read): (Vec<_>, Vec<_>) =
            asked.iter().partition(|line| line.contains("list-type="));
        assert_eq!(
            (read.len(), listed.len()),
            (*reads, *listings),
            "{path}: {asked:?}"
        );
        let of_folders = |line: &&String| line.contains("delimiter=%2F");
        assert!(listed.iter().all(of_folders), "{listed:?}");
        node.get(&path).await.assert(200);
        assert_eq!(line.take_asked().len(), 1, "{path} again");
    }
    // Once a search has looked at everything, it is known what has no older spelling.
    let found = node.get("/-/v1/search?text=").await.assert(200).json();
    assert_eq!(found["total"], counts.len());
    line.take_asked();
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        node.get("/@nobody%2fhas").await.assert(404);
        let asked = line.take_asked();
        let asked: Vec<_> = asked
            .iter()
            .filter(|line| line.contains("nobody"))
            .collect();
        if asked.len() == 1 {
            break;
        }
        assert!(Instant::now() < patience, "{asked:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_a_failure_and_comes_back() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    let package = Package::heavy("app", "1.0.0", 2 * 1024 * 1024);
    node.publish(&alice, &package).await.assert(201);
    node.tarball(&package).await.assert(200);
    for wire in [Wire::Cut, Wire::Stuck] {
        line.set(wire);
        let begun = Instant::now();
        let next = Package::new("app", "2.0.0");
        let (read, missing, tarball, published) = tokio::join!(
            node.get("/app"),
            node.get("/nothing"),
            node.tarball(&package),
            node.publish(&alice, &next)
        );
        for answer in [read, missing, tarball, published] {
            let answer = answer.assert(503);
            assert_eq!(answer.json()["code"], "STORAGE_UNAVAILABLE");
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(90), "{wire:?}: {took:?}");
        line.set(Wire::Whole);
        node.get("/app").await.assert(200);
        node.get("/nothing").await.assert(404);
        assert!(node.tarball(&package).await.assert(200).body == package.tarball);
    }
    let next = Package::new("app", "2.0.0");
    node.publish(&alice, &next).await.assert(201);
}

#[tokio::test]
async fn clients_may_be_sent_to_the_bucket() {
    let bucket = Bucket::s3().await;
    let node = bucket
        .node_with(&[("RUSTACCIO_TARBALL_REDIRECT", "true")])
        .await;
    let alice = node.user("alice").await;
    let package = Package::new("@team/app", "1.0.0");
    node.publish(&alice, &package).await.assert(201);
    for _ in 0..2 {
        let answer = node.tarball(&package).await.assert(302);
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        let address = answer.header("location").unwrap();
        let bytes = node.send(node.client.get(address)).await.assert(200);
        assert_eq!(bytes.body, package.tarball);
        let part = node.client.get(address).header("range", "bytes=0-9");
        let part = node.send(part).await.assert(206);
        assert_eq!(part.body, package.tarball[..10]);
        // What was published again is elsewhere.
        node.delete(&alice, "/@team%2fapp/-rev/any")
            .await
            .assert(201);
        node.tarball(&package).await.assert(404);
        node.publish(&alice, &package).await.assert(201);
    }
}

#[tokio::test]
async fn a_lost_manifest_is_recovered_when_somebody_asks() {
    let bucket = Bucket::s3().await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    let packages: Vec<_> = ["1.0.0", "1.1.0"]
        .map(|version| {
            [
                Package::new("app", version),
                Package::new("@s/app", version),
            ]
        })
        .concat();
    for package in &packages {
        node.publish(&alice, package).await.assert(201);
    }
    let folder = node.stop().await;
    drop(folder);
    bucket.delete("app/package.json").await;
    bucket.delete("@s/app/package.json").await;
    let node = bucket.node_with(&[("RUSTACCIO_ADMIN_USERS", "root")]).await;
    let shown = node.get("/app").await.assert(200).json();
    assert_eq!(shown["versions"].as_object().unwrap().len(), 2);
    // Publishing does not begin anew either, and who may do it was lost.
    let (root, alice) = (node.user("root").await, node.user("alice").await);
    let next = Package::new("@s/app", "2.0.0");
    node.publish(&alice, &next).await.assert(404);
    let (owners, owner) = ("/-/package/@s%2fapp/owners", json!({ "user": "alice" }));
    node.put(&root, owners, &owner).await.assert(200);
    node.publish(&alice, &next).await.assert(201);
    let shown = node.get_as(&alice, "/@s%2fapp").await.assert(200).json();
    let versions: BTreeSet<_> = shown["versions"].as_object().unwrap().keys().collect();
    assert_eq!(versions.len(), 3, "{versions:?}");
    for package in &packages {
        let path = format!("/{}/-/{}", package.name, package.file());
        let tarball = node.get_as(&alice, &path).await.assert(200);
        assert_eq!(tarball.body, package.tarball);
    }
}

#[tokio::test]
async fn empty_objects_are_no_trouble_for_others() {
    let bucket = Bucket::s3().await;
    bucket.put("hollow/package.json", "").await;
    bucket.put("app/app-0.0.1.tgz", "").await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    let answer = node.get("/hollow").await.assert(503);
    assert_eq!(answer.json()["code"], "STORAGE_UNAVAILABLE");
    // A tarball that nobody published is not in the way.
    let package = Package::new("app", "0.0.1");
    node.publish(&alice, &package).await.assert(201);
    assert_eq!(
        node.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

#[tokio::test]
async fn fsck_repairs_a_bucket() {
    repairs(Bucket::s3().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn fsck_repairs_a_bucket_beside_a_database() {
    use crate::support::postgres;
    let mut variables = s3_at(&s3_endpoint());
    variables.extend(postgres::variables(&postgres::schema().await));
    repairs(Bucket::of(variables).await).await;
}

async fn repairs(bucket: Bucket) {
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    let (one, two) = (
        Package::new("@s/app", "1.0.0"),
        Package::new("@s/app", "2.0.0"),
    );
    for package in [&one, &two] {
        node.publish(&alice, package).await.assert(201);
    }
    bucket.put("@s/app/app-9.0.0.tgz", "an orphan").await;
    bucket.delete("@s/app/app-1.0.0.tgz").await;
    let folder = tempfile::tempdir().unwrap();
    let variables: Vec<(&str, &str)> = bucket
        .variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let fsck = |arguments: &[&str]| {
        let mut command = crate::support::process::Process::command(folder.path(), &variables);
        let output = command.arg("fsck").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let report = fsck(&[]);
    for line in [
        "@s/app@1.0.0: the tarball is missing",
        "@s/app: no version names app-9.0.0.tgz",
    ] {
        assert!(report.contains(line), "{report}");
    }
    // Others go on serving the bucket.
    let report = fsck(&["--repair"]);
    assert!(report.contains("put right"), "{report}");
    assert!(fsck(&[]).contains("all fine"));
    let shown = node.get("/@s%2fapp").await.assert(200).json();
    let versions = shown["versions"].as_object().unwrap();
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["2.0.0"]);
    let names = bucket.names().await;
    let aside = names.iter().find(|name| name.contains("quarantine"));
    let aside = bucket.read(aside.unwrap()).await.unwrap();
    assert_eq!(aside, "an orphan");
    node.publish_as(&alice, &one, "old").await.assert(201);
    assert_eq!(node.tarball(&one).await.assert(200).body, one.tarball);
}

#[test]
fn a_start_says_what_is_wrong_with_the_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let start = |change: &[(&'static str, &str)]| {
        let mut variables = s3_at(&s3_endpoint());
        for (name, value) in change {
            variables.retain(|(known, _)| known != name);
            variables.push((name, (*value).to_owned()));
        }
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut command = crate::support::process::Process::command(folder.path(), &variables);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = start(&[("RUSTACCIO_S3_BUCKET", "there-is-no-such-bucket")]);
    assert!(missing.contains("there-is-no-such-bucket"), "{missing}");
    assert!(missing.contains("no such bucket; make it"), "{missing}");
    let unset = start(&[("RUSTACCIO_S3_BUCKET", "")]);
    assert!(unset.contains("RUSTACCIO_S3_BUCKET"), "{unset}");
    let half = start(&[("RUSTACCIO_S3_SECRET_ACCESS_KEY", "")]);
    assert!(half.contains("RUSTACCIO_S3_SECRET_ACCESS_KEY"), "{half}");
    let down = start(&[("RUSTACCIO_S3_ENDPOINT", "http://127.0.0.1:9")]);
    assert!(down.contains("opening the bucket"), "{down}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_an_authority_of_ones_own() {
    let authority = Authority::new();
    let secure = proxy_before(&s3_endpoint(), &authority).await;
    let mut variables = s3_at(&secure.url);
    let folder = tempfile::tempdir().unwrap();
    let (data, untrusting) = (folder.path().to_owned(), variables.clone());
    let refused = tokio::task::spawn_blocking(move || {
        let mut command = crate::support::process::Process::command(&data, &[]);
        command.envs(untrusting).output().unwrap()
    });
    let refused = refused.await.unwrap();
    assert!(!refused.status.success());
    let ca = authority.file().display().to_string();
    variables.push(("RUSTACCIO_S3_CA_BUNDLE", ca));
    let bucket = Bucket::of(variables).await;
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    let package = Package::new("app", "1.0.0");
    node.publish(&alice, &package).await.assert(201);
    assert_eq!(
        node.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

/// The objects of a packument that a node has read are the same for all of them.
#[tokio::test]
async fn documents_are_the_same_on_every_node() {
    let bucket = Bucket::s3().await;
    let (one, other) = (bucket.node().await, bucket.node().await);
    let alice = one.user("alice").await;
    let package = Package::new("app", "1.0.0");
    one.publish(&alice, &package).await.assert(201);
    let with_host =
        |node: &Registry, document: Value| document.to_string().replace(node.url.as_str(), "");
    let (here, there) = (one.get("/app").await.json(), other.get("/app").await.json());
    assert_eq!(with_host(&one, here), with_host(&other, there));
}
