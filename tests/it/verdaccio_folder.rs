//! A folder that Verdaccio made, served and published to where it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Package, Registry, Upstream, User, process::Process, registry::Start};

/// A folder as Verdaccio leaves it.
struct Scene {
    folder: TempDir,
    rules: String,
}

/// A package's own file, of versions that were published and versions that came from `up`.
fn sidecar(published: &[&Package], upstream: &[&Package], url: &str) -> Value {
    let all: Vec<&Package> = upstream.iter().chain(published).copied().collect();
    let name = &all[0].name;
    let mut file = json!({
        "name": name, "_id": name, "_rev": "7-753a731d14fa6ad0", "readme": "# readme", "users": {},
        "versions": {}, "dist-tags": { "latest": all[all.len() - 1].version },
        "time": { "created": "2020-01-01T00:00:00.000Z", "modified": "2021-01-01T00:00:00.000Z" },
        "_uplinks": {}, "_distfiles": {}, "_attachments": {},
    });
    for package in &all {
        let is_published = published.iter().any(|one| one.version == package.version);
        let registry = if is_published {
            "http://old.example:4873"
        } else {
            url
        };
        let object = package.version_object(registry);
        let (tarball, version) = (object["dist"]["tarball"].clone(), &package.version);
        file["versions"][version] = object;
        file["time"][version] = "2020-06-01T00:00:00.000Z".into();
        if is_published {
            file["_attachments"][package.file()] =
                json!({ "shasum": package.shasum(), "version": version });
        } else {
            file["_uplinks"]["up"] = json!({ "etag": "\"x\"", "fetched": 1_600_000_000_000_i64 });
            file["_distfiles"][package.file()] =
                json!({ "url": tarball, "sha": package.shasum(), "registry": "up" });
        }
    }
    file
}

impl Scene {
    fn new(list: &Value, upstream: &str) -> Self {
        let rules = format!(
            "uplinks:\n  up: {{ url: '{upstream}', maxage: 0s }}
packages:
  '@private/*': {{ access: $all, publish: $authenticated, storage: apart }}
  'own*': {{ access: $all, publish: $authenticated }}
  '**': {{ access: $all, publish: $authenticated, proxy: up }}
"
        );
        let folder = tempfile::tempdir().unwrap();
        let scene = Self { folder, rules };
        scene.write(".verdaccio-db.json", list.to_string().as_bytes());
        scene
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.data().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Puts the tarball of `package` below `base`.
    fn tarball(&self, base: &str, package: &Package) {
        let file = format!("{base}{}/{}", package.name, package.file());
        self.write(&file, &package.tarball);
    }

    async fn start(self) -> Registry {
        let local = ["RUSTACCIO_TARBALL_BACKEND", "RUSTACCIO_METADATA_BACKEND"];
        Registry::with(Start {
            file: &self.rules,
            folder: Some(self.folder),
            variables: vec![(local[0], "local".into()), (local[1], "sidecar".into())],
            ..Start::default()
        })
        .await
    }
}

/// Stops it, lets `change` happen to the folder, and starts it with the same rules.
async fn again(registry: Registry, change: impl FnOnce(&Path)) -> Registry {
    let folder = registry.stop().await;
    let rules = fs::read_to_string(folder.path().join("config.yml")).unwrap();
    let scene = Scene { folder, rules };
    change(&scene.data());
    scene.start().await
}

fn read(data: &Path, file: &str) -> Value {
    serde_json::from_slice(&fs::read(data.join(file)).unwrap()).unwrap()
}

fn listed(data: &Path) -> Value {
    read(data, ".verdaccio-db.json")["list"].clone()
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// A hosted package, one in a folder of its rule, one that overrides upstream, and one that is cached.
struct Full {
    own: Package,
    private: Package,
    over: [Package; 2],
    dep: [Package; 2],
}

impl Full {
    fn new() -> Self {
        Self {
            own: Package::new("own-a", "1.0.0"),
            private: Package::new("@private/app", "1.0.0"),
            over: ["1.0.0", "2.0.0-own"].map(|version| Package::new("over", version)),
            dep: ["1.0.0", "2.0.0"].map(|version| Package::new("dep", version)),
        }
    }

    fn scene(&self, url: &str) -> Scene {
        let list = ["own-a", "@private/app", "over"];
        let scene = Scene::new(&json!({ "list": list, "secret": "s3cret" }), url);
        let Self {
            own,
            private,
            over,
            dep,
        } = self;
        for (file, value) in [
            ("own-a/package.json", sidecar(&[own], &[], url)),
            (
                "apart/@private/app/package.json",
                sidecar(&[private], &[], url),
            ),
            ("over/package.json", sidecar(&[&over[1]], &[&over[0]], url)),
            ("dep/package.json", sidecar(&[], &[&dep[0], &dep[1]], url)),
        ] {
            scene.write(file, value.to_string().as_bytes());
        }
        for package in [own, &over[0], &over[1], &dep[1]] {
            scene.tarball("", package);
        }
        scene.tarball("apart/", private);
        scene
    }
}

/// One version of a package that has more, and all of two others.
async fn unpublish(registry: &Registry, alice: &User) {
    let data = registry.data();
    let path = "/own-a/-/own-a-1.1.0.tgz/-rev/1";
    registry.delete(alice, path).await.assert(201);
    registry.delete(alice, "/own-new/-rev/1").await.assert(201);
    registry.delete(alice, "/dep/-rev/1").await.assert(201);
    assert_eq!(
        keys(&read(&data, "own-a/package.json")["versions"]),
        ["1.0.0"]
    );
    assert!(!data.join("own-a/own-a-1.1.0.tgz").exists());
    assert!(!data.join("own-new").exists());
    assert_eq!(
        keys(&read(&data, "dep/package.json")["versions"]),
        ["1.0.0", "2.0.0"]
    );
    assert!(data.join("dep/dep-2.0.0.tgz").is_file() && !data.join("dep/dep-9.0.0.tgz").exists());
    assert_eq!(listed(&data), json!(["own-a", "@private/app", "over"]));
    registry.get("/own-new").await.assert(404);
    assert_eq!(
        keys(&registry.get("/dep").await.json()["versions"]),
        ["1.0.0", "2.0.0"]
    );
}

#[tokio::test]
async fn it_is_read_published_to_and_unpublished_from() {
    let (full, upstream) = (Full::new(), Upstream::start().await);
    let Full {
        own,
        private,
        over,
        dep,
    } = &full;
    upstream.has(&[&over[0]]);
    upstream.has(&[&dep[0], &dep[1]]);
    let registry = full.scene(&upstream.url).start().await;
    let data = registry.data();
    for package in [own, private, &over[0], &over[1], &dep[0], &dep[1]] {
        let answer = registry.tarball(package).await.assert(200);
        assert_eq!(answer.body, package.tarball, "{}", package.file());
    }
    let packages = registry.get("/-/verdaccio/data/packages").await.json();
    let names = packages
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["@private/app", "over", "own-a"]);
    let shown = registry.get("/over").await.json();
    assert_eq!(keys(&shown["versions"]), ["1.0.0", "2.0.0-own"]);
    assert!(shown["_distfiles"].is_null() && shown["_rustaccio"].is_null());

    let alice = registry.user("alice").await;
    let next = [
        Package::new("own-a", "1.1.0"),
        Package::new("@private/app", "1.1.0"),
        Package::new("over", "3.0.0-own"),
        Package::new("own-new", "1.0.0"),
        Package::new("dep", "9.0.0"),
    ];
    for package in &next {
        registry.publish(&alice, package).await.assert(201);
        assert_eq!(registry.tarball(package).await.body, package.tarball);
    }
    let list = json!(["own-a", "@private/app", "over", "own-new", "dep"]);
    assert_eq!(listed(&data), list);
    assert_eq!(read(&data, ".verdaccio-db.json")["secret"], "s3cret");
    let file = read(&data, "over/package.json");
    assert_eq!(keys(&file["versions"]), ["1.0.0", "2.0.0-own", "3.0.0-own"]);
    assert_eq!(keys(&file["_distfiles"]), ["over-1.0.0.tgz"]);
    let attachment = json!({ "shasum": next[2].shasum(), "version": "3.0.0-own" });
    assert_eq!(file["_attachments"]["over-3.0.0-own.tgz"], attachment);
    assert!(data.join("apart/@private/app/app-1.1.0.tgz").is_file());
    assert!(!data.join("tarballs").exists() && !data.join(".rustaccio/tarballs").exists());

    let path = "/-/package/own-a/dist-tags/stable";
    registry
        .put(&alice, path, &json!("1.0.0"))
        .await
        .assert(201);
    let mut document = registry.get("/own-a").await.json();
    document["versions"]["1.0.0"]["deprecated"] = "old".into();
    registry.put(&alice, "/own-a", &document).await.assert(201);
    let file = read(&data, "own-a/package.json");
    assert_eq!(file["dist-tags"]["stable"], "1.0.0");
    assert_eq!(file["versions"]["1.0.0"]["deprecated"], "old");

    unpublish(&registry, &alice).await;
    // What was there stays there.
    let registry = again(registry, |_| ()).await;
    registry.tarball(&over[1]).await.assert(200);
    registry.get("/own-new").await.assert(404);
}

#[tokio::test]
async fn what_verdaccio_cached_is_served_while_upstream_is_down() {
    let (full, upstream) = (Full::new(), Upstream::start().await);
    let Full { over, dep, .. } = &full;
    let large = Package::heavy("large", "1.0.0", 3_000_000);
    let url = upstream.url.clone();
    upstream.stop().await;
    let scene = full.scene(&url);
    scene.write(
        "large/package.json",
        sidecar(&[], &[&large], &url).to_string().as_bytes(),
    );
    scene.tarball("", &large);
    let registry = scene.start().await;
    let shown = registry.get("/dep").await.assert(200).json();
    assert_eq!(keys(&shown["versions"]), ["1.0.0", "2.0.0"]);
    assert_eq!(shown["dist-tags"]["latest"], "2.0.0");
    let tarball = shown["versions"]["2.0.0"]["dist"]["tarball"]
        .as_str()
        .unwrap();
    assert_eq!(tarball, format!("{}/dep/-/dep-2.0.0.tgz", registry.url));
    for package in [&dep[1], &over[0], &over[1], &large, &large] {
        let answer = registry.tarball(package).await.assert(200);
        assert!(answer.body == package.tarball, "{}", package.file());
    }
    // This one it has not downloaded.
    let answer = registry.tarball(&dep[0]).await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    registry.get("/unknown").await;
    let all = keys(&registry.get("/-/all").await.json());
    assert!(!all.contains(&"dep".to_owned()) && all.contains(&"over".to_owned()));
}

#[tokio::test]
async fn files_that_are_not_what_upstream_promises_are_fetched() {
    let (upstream, dep) = (Upstream::start().await, Package::new("dep", "1.0.0"));
    upstream.has(&[&dep]);
    let scene = Scene::new(&json!({ "list": [] }), &upstream.url);
    let file = sidecar(&[], &[&dep], &upstream.url).to_string();
    scene.write("dep/package.json", file.as_bytes());
    scene.write("dep/dep-1.0.0.tgz", b"damaged");
    let registry = scene.start().await;
    assert_eq!(registry.tarball(&dep).await.assert(200).body, dep.tarball);
    assert_eq!(upstream.asked("/dep/-/dep-1.0.0.tgz"), 1);
}

#[tokio::test]
async fn damage_is_survived() {
    let (full, upstream) = (Full::new(), Upstream::start().await);
    upstream.has(&[&full.dep[0], &full.dep[1]]);
    let scene = full.scene(&upstream.url);
    scene.write(".verdaccio-db.json", b"{\"list\":[\"own");
    // Tarballs without anything that says what they are.
    scene.tarball("", &Package::new("orphan", "1.0.0"));
    let registry = scene.start().await;
    let data = registry.data();
    assert_eq!(listed(&data), json!(["@private/app", "over", "own-a"]));
    assert_eq!(read(&data, ".verdaccio-db.json")["secret"], "");
    let aside = fs::read_dir(&data).unwrap().flatten();
    let aside = aside.filter(|file| file.file_name().to_string_lossy().contains(".damaged-"));
    assert_eq!(aside.count(), 1);
    registry.tarball(&full.own).await.assert(200);
    registry.tarball(&full.dep[1]).await.assert(200);
    registry.get("/orphan").await.assert(404);

    // A hosted one, and a cached one.
    let empty = |data: &Path| {
        fs::write(data.join("own-a/package.json"), "").unwrap();
        fs::write(data.join("dep/package.json"), "").unwrap();
    };
    let registry = again(registry, empty).await;
    registry.get("/own-a").await.assert(503);
    registry.tarball(&full.dep[1]).await.assert(200);
    let alice = registry.user("alice").await;
    let next = Package::new("own-a", "2.0.0");
    registry.publish(&alice, &next).await.assert(503);
    assert_eq!(fs::read(data.join("own-a/package.json")).unwrap(), b"");
    registry.tarball(&full.private).await.assert(200);
    // Without the file, the tarballs of a name in the list say what there was.
    let remove = |data: &Path| fs::remove_file(data.join("own-a/package.json")).unwrap();
    let registry = again(registry, remove).await;
    registry.tarball(&full.own).await.assert(200);
    registry.get("/orphan").await.assert(404);
}

#[tokio::test]
async fn a_hosted_package_that_is_gone_is_not_taken_from_upstream() {
    let upstream = Upstream::start().await;
    let (lost, cached) = (Package::new("lost", "1.0.0"), Package::new("dep", "1.0.0"));
    let strangers = Package::new("lost", "9.9.9");
    upstream.has(&[&strangers]);
    upstream.has(&[&cached]);
    let scene = Scene::new(&json!({ "list": ["lost", "_odd"] }), &upstream.url);
    let (rules, folder) = (scene.rules.clone(), scene.folder.path().to_owned());
    let registry = scene.start().await;
    registry.get("/lost").await.assert(503);
    registry.tarball(&strangers).await.assert(503);
    let alice = registry.user("alice").await;
    registry.publish(&alice, &lost).await.assert(503);
    assert_eq!(upstream.asked("/lost"), 0);
    registry.tarball(&cached).await.assert(200);
    let kept = registry.stop().await;
    let data = kept.path().join("data");
    fs::write(folder.join("config.yml"), rules).unwrap();
    let mut fsck = Process::command(&data, &[]);
    fsck.env_remove("RUSTACCIO_UPSTREAM")
        .arg("-c")
        .arg(folder.join("config.yml"))
        .arg("fsck");
    let done = fsck.output().unwrap();
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert!(!done.status.success(), "{said}");
    for expected in ["lost: is hosted, and nothing of it is there", "_odd"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn what_verdaccio_mixed_into_a_package_born_here_is_not_served() {
    let (upstream, own) = (Upstream::start().await, Package::new("mine", "1.0.0"));
    let strangers = Package::new("mine", "9.9.9");
    upstream.has(&[&strangers]);
    let url = upstream.url.clone();
    let scene = Scene::new(&json!({ "list": ["mine"] }), &url);
    let file = sidecar(&[&own], &[], &url).to_string();
    scene.write("mine/package.json", file.as_bytes());
    scene.tarball("", &own);
    let registry = scene.start().await;
    let shown = registry.get("/mine").await.json();
    assert_eq!(keys(&shown["versions"]), ["1.0.0"]);
    // Verdaccio asks its uplink for everything.
    let mixed = |data: &Path| {
        let mut file = sidecar(&[&own], &[&strangers], &url);
        file["dist-tags"] = json!({ "latest": "9.9.9" });
        fs::write(data.join("mine/package.json"), file.to_string()).unwrap();
        fs::write(data.join("mine").join(strangers.file()), &strangers.tarball).unwrap();
    };
    let registry = again(registry, mixed).await;
    let shown = registry.get("/mine").await.json();
    assert_eq!(keys(&shown["versions"]), ["1.0.0"]);
    assert_eq!(shown["dist-tags"], json!({ "latest": "1.0.0" }));
    registry.tarball(&strangers).await.assert(404);
    assert_eq!(registry.tarball(&own).await.assert(200).body, own.tarball);
    // Verdaccio unpublishes it, and caches what strangers have.
    let theirs = |data: &Path| {
        fs::write(data.join(".verdaccio-db.json"), r#"{"list":[]}"#).unwrap();
        let file = sidecar(&[], &[&strangers], &url).to_string();
        fs::write(data.join("mine/package.json"), file).unwrap();
    };
    let registry = again(registry, theirs).await;
    registry.get("/mine").await.assert(404);
    let alice = registry.user("alice").await;
    let next = Package::new("mine", "1.1.0");
    registry.publish(&alice, &next).await.assert(201);
    let registry = again(registry, |_| ()).await;
    let shown = registry.get("/mine").await.json();
    assert_eq!(keys(&shown["versions"]), ["1.1.0"]);
    assert_eq!(upstream.asked("/mine"), 0);
}

#[tokio::test]
async fn an_upload_takes_the_place_of_a_download() {
    let (upstream, old) = (Upstream::start().await, Package::new("dep", "1.0.0"));
    let scene = Scene::new(&json!({ "list": [] }), &upstream.url);
    let file = sidecar(&[], &[&old], &upstream.url).to_string();
    scene.write("dep/package.json", file.as_bytes());
    scene.write("dep/dep-1.0.0.tgz", b"what upstream had once");
    let registry = scene.start().await;
    // Upstream has it no more.
    registry.get("/dep").await.assert(404);
    let alice = registry.user("alice").await;
    registry.publish(&alice, &old).await.assert(201);
    let data = registry.data();
    assert_eq!(
        fs::read(data.join("dep/dep-1.0.0.tgz")).unwrap(),
        old.tarball
    );
    let file = read(&data, "dep/package.json");
    assert_eq!(file["_distfiles"], json!({}));
    assert_eq!(file["_attachments"]["dep-1.0.0.tgz"]["version"], "1.0.0");
    assert_eq!(registry.tarball(&old).await.assert(200).body, old.tarball);
}

#[tokio::test]
async fn it_is_checked_and_backed_up_where_it_is() {
    let full = Full::new();
    let scene = full.scene("http://127.0.0.1:9");
    let (data, copy) = (scene.data(), scene.folder.path().join("copy"));
    let rules = scene.folder.path().join("config.yml");
    fs::write(&rules, &scene.rules).unwrap();
    let run = |data: &Path, arguments: &[&str]| {
        let mut command = Process::command(data, &[]);
        command
            .env_remove("RUSTACCIO_UPSTREAM")
            .arg("-c")
            .arg(&rules)
            .args(arguments);
        let done = command.output().unwrap();
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(done.status.success(), "{arguments:?}: {said}");
        said
    };
    let said = run(&data, &["fsck"]);
    assert!(said.contains("3 packages, 3 tarballs: all fine"), "{said}");
    run(&data, &["backup", copy.to_str().unwrap()]);
    assert_eq!(listed(&data), json!(["own-a", "@private/app", "over"]));
    let elsewhere = scene.folder.path().join("elsewhere");
    let snapshot = fs::read_dir(&copy).unwrap().flatten();
    let snapshot = snapshot
        .map(|entry| entry.path())
        .find(|path| path.is_dir());
    run(
        &elsewhere,
        &["restore", snapshot.unwrap().to_str().unwrap()],
    );
    for file in [
        "own-a/own-a-1.0.0.tgz",
        "@private__app/package.json",
        "over/over-2.0.0-own.tgz",
    ] {
        assert!(elsewhere.join("tarballs").join(file).is_file(), "{file}");
    }
    assert!(!elsewhere.join("tarballs/over/over-1.0.0.tgz").exists());

    let variables = [
        ("RUSTACCIO_METADATA_BACKEND", "transactional"),
        (
            "RUSTACCIO_METADATA_POSTGRES_URL",
            "postgres://127.0.0.1:9/none",
        ),
    ];
    let refusal = Process::refusal(Process::command(&data, &variables));
    assert!(refusal.contains("is Verdaccio's folder"), "{refusal}");
}
