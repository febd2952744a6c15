//! The contracts over a folder of Verdaccio's, and folders as Verdaccio makes and breaks them.

use std::{fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Opened, VerdaccioManifests, open, open_to_read};
use crate::{
    config::VerdaccioFolder,
    models::{PackageName, Revision},
    storage::{
        Blobs as _, Document, Expected, MetadataStore, MetadataStoreExt as _, Stamp, StorageError,
        conformance,
        fs::{
            TemporaryFolder,
            atomic::{MODE_PUBLIC, create_folder_synced, write_atomic},
        },
    },
};

/// Puts each document into a version, so that it is in Verdaccio's own file.
#[derive(Debug)]
struct AsVersion(VerdaccioManifests);

#[async_trait]
impl MetadataStore for AsVersion {
    async fn get(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        let document = self.0.get(name).await?;
        Ok(document.and_then(|document| {
            let value: Value = serde_json::from_slice(&document.json).unwrap();
            // Before the first version there is a manifest of none for a moment.
            let text = value["versions"]["1.0.0"]["text"].as_str()?;
            let json = Bytes::from(text.to_owned());
            Some(Document { json, ..document })
        }))
    }

    async fn stamp(&self, name: &PackageName) -> Result<Option<Stamp>, StorageError> {
        self.0.stamp(name).await
    }

    async fn put(
        &self,
        name: &PackageName,
        json: Bytes,
        expected: Expected,
    ) -> Result<Revision, StorageError> {
        let text = std::str::from_utf8(&json).unwrap();
        let tarball = format!("http://x.example/{name}/-/{}-1.0.0.tgz", name.base());
        let version = json!({ "text": text, "dist": { "tarball": tarball } });
        let json = json!({ "name": name.as_str(), "versions": { "1.0.0": version } });
        self.0.put(name, json.to_string().into(), expected).await
    }

    async fn delete(&self, name: &PackageName, revision: &Revision) -> Result<(), StorageError> {
        self.0.delete(name, revision).await
    }

    fn list(&self) -> BoxStream<'static, Result<PackageName, StorageError>> {
        self.0.list()
    }

    fn survey(&self) -> BoxStream<'static, Result<(PackageName, Stamp), StorageError>> {
        self.0.survey()
    }
}

/// A folder with a list.
pub(super) struct Scene(pub(super) TempDir);

impl Scene {
    pub(super) fn new(list: &Value) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        scene.write(".verdaccio-db.json", &list.to_string());
        scene
    }

    pub(super) fn listing(names: &[&str]) -> Self {
        Self::new(&json!({ "list": names, "secret": "s3cret" }))
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        create_folder_synced(path.parent().unwrap()).unwrap();
        write_atomic(&path, text.as_bytes(), MODE_PUBLIC).unwrap();
    }

    pub(super) fn read(&self, file: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(file)).unwrap()).unwrap()
    }

    pub(super) fn list(&self) -> Value {
        self.read(".verdaccio-db.json")["list"].clone()
    }

    pub(super) fn folder(&self) -> VerdaccioFolder {
        VerdaccioFolder {
            root: self.0.path().to_owned(),
            database: self.path(".verdaccio-db.json"),
            subfolders: vec![("@private/*".to_owned(), Some("apart".into()))],
            proxied: ["over", "dep"].map(|name| (name.to_owned(), true)).into(),
            uplinks: ["up.example".to_owned()].into(),
        }
    }

    pub(super) fn open(&self) -> Opened {
        open(&self.folder(), &self.path(".rustaccio")).unwrap()
    }

    pub(super) fn open_to_read(&self) -> Opened {
        open_to_read(&self.folder(), &self.path(".rustaccio")).unwrap()
    }
}

pub(super) fn name(text: &str) -> PackageName {
    text.parse().unwrap()
}

pub(super) async fn get(opened: &Opened, package: &str) -> Option<Value> {
    let document = opened.manifests.get(&name(package)).await.unwrap();
    let stamp = opened.manifests.stamp(&name(package)).await.unwrap();
    assert_eq!(document.as_ref().map(|document| document.stamp), stamp);
    document.map(|document| serde_json::from_slice(&document.json).unwrap())
}

pub(super) async fn put(opened: &Opened, package: &str, json: &Value) {
    let (name, store) = (name(package), &opened.manifests);
    let before = store.get(&name).await.unwrap();
    let expected = Expected::from_read(before.as_ref());
    store
        .put(&name, json.to_string().into(), expected)
        .await
        .unwrap();
}

pub(super) fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// As Verdaccio 6.10 has written it: `cached` and `also` came from `up`, `3.0.0-own.1` was published.
pub(super) const MIXED: &str = r#"{
	"name": "over",
	"versions": {
		"1.0.0": { "name": "over", "version": "1.0.0", "n": 1.50, "dist": { "shasum": "20462f", "tarball": "http://up.example/over/-/over-1.0.0.tgz" }, "contributors": [] },
		"2.0.0": { "name": "over", "version": "2.0.0", "dist": { "shasum": "be9c05", "tarball": "http://up.example/over/-/over-2.0.0.tgz" }, "contributors": [] },
		"3.0.0-own.1": { "name": "over", "version": "3.0.0-own.1", "n": 1.50, "dist": { "shasum": "248288", "tarball": "http://127.0.0.1:4902/over/-/over-3.0.0-own.1.tgz" }, "contributors": [] }
	},
	"time": { "modified": "2026-11-26T21:56:24.327Z", "created": "2026-11-26T21:56:20.683Z", "1.0.0": "2026-11-26T21:56:20.683Z", "2.0.0": "2026-11-26T21:56:21.973Z", "3.0.0-own.1": "2026-11-26T21:56:24.327Z" },
	"users": {},
	"dist-tags": { "latest": "3.0.0-own.1", "old": "1.0.0" },
	"_uplinks": { "up": { "etag": "\"27e585\"", "fetched": 1795730184064 } },
	"_distfiles": {
		"over-1.0.0.tgz": { "url": "http://up.example/over/-/over-1.0.0.tgz", "sha": "20462f", "registry": "up" },
		"over-2.0.0.tgz": { "url": "http://up.example/over/-/over-2.0.0.tgz", "sha": "be9c05", "registry": "up" }
	},
	"_attachments": { "over-1.0.0.tgz": { "shasum": "20462f" }, "over-3.0.0-own.1.tgz": { "shasum": "248288", "version": "3.0.0-own.1" } },
	"_rev": "5-753a731d14fa6ad0",
	"_id": "over",
	"readme": "text"
}"#;

/// The same, of which nothing was published.
pub(super) fn cached(package: &str) -> String {
    let mut value: Value = serde_json::from_str(&MIXED.replace("over", package)).unwrap();
    value["versions"]
        .as_object_mut()
        .unwrap()
        .remove("3.0.0-own.1");
    value["dist-tags"] = json!({ "latest": "2.0.0", "old": ["0.9.0", "1.0.0"] });
    let file = format!("{package}-3.0.0-own.1.tgz");
    value["_attachments"].as_object_mut().unwrap().remove(&file);
    value.to_string()
}

/// As Verdaccio has written it of a package that no uplink knows.
pub(super) fn own(package: &str) -> String {
    let base = package.rsplit('/').next().unwrap();
    json!({
        "name": package,
        "versions": { "1.0.0": { "name": package, "version": "1.0.0",
            "dist": { "shasum": "aa", "tarball": format!("http://old.example/{package}/-/{base}-1.0.0.tgz") } } },
        "time": { "modified": "2026-11-26T21:56:24.327Z", "created": "2026-11-26T21:56:20.683Z", "1.0.0": "2026-11-26T21:56:20.683Z" },
        "users": {}, "dist-tags": { "latest": "1.0.0" }, "_uplinks": {}, "_distfiles": {},
        "_attachments": { format!("{base}-1.0.0.tgz"): { "shasum": "aa", "version": "1.0.0" } },
        "_rev": "3-aa", "_id": package, "readme": "",
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_conform() {
    let scene = Scene::listing(&[]);
    conformance::metadata_store(Arc::new(scene.open().manifests)).await;
    let scene = Scene::listing(&[]);
    conformance::metadata_store(Arc::new(AsVersion(scene.open().manifests))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tarballs_conform() {
    // What nobody lists is not recovered.
    let listed = ["@scope/listed", "parts"];
    for as_versions in [false, true] {
        let scene = Scene::listing(&listed);
        let opened = scene.open();
        let metadata: Arc<dyn MetadataStore> = if as_versions {
            Arc::new(AsVersion(opened.manifests.clone()))
        } else {
            Arc::new(opened.manifests.clone())
        };
        conformance::blobs(conformance::Backend {
            temporary: TemporaryFolder::open(&scene.path(".rustaccio/tmp")).unwrap(),
            metadata,
            blobs: Arc::new(opened.tarballs),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_folder_lose_nothing() {
    let scene = Scene::listing(&["old"]);
    let stores = [scene.open(), scene.open()];
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = AsVersion(stores[writer % 2].manifests.clone());
        tasks.spawn(async move {
            let own = name(&format!("p{writer}"));
            store.put(&own, "1".into(), Expected::Absent).await.unwrap();
            let shared = name("shared");
            let more = |document: Option<&Document>| {
                let mut text = document.map_or_else(Vec::new, |document| document.json.to_vec());
                text.push(b'x');
                Ok::<_, StorageError>(Some(text.into()))
            };
            store.update(&shared, more).await.unwrap();
        });
    }
    tasks.join_all().await;
    let shared = AsVersion(stores[0].manifests.clone())
        .get(&name("shared"))
        .await;
    assert_eq!(shared.unwrap().unwrap().json.len(), 16);
    assert_eq!(scene.list().as_array().unwrap().len(), 18);
    assert_eq!(scene.read(".verdaccio-db.json")["secret"], "s3cret");
}

#[tokio::test]
async fn hosted_and_cached_are_told_apart() {
    let scene = Scene::listing(&["over", "own", "@private/app"]);
    scene.write("over/package.json", MIXED);
    scene.write("over/over-1.0.0.tgz", "downloaded");
    scene.write("over/over-3.0.0-own.1.tgz", "published");
    scene.write("own/package.json", &own("own"));
    scene.write("apart/@private/app/package.json", &own("@private/app"));
    scene.write("dep/package.json", &cached("dep"));
    scene.write("dep/dep-1.0.0.tgz", "downloaded");
    scene.write("orphan/orphan-1.0.0.tgz", "its package.json is lost");
    let opened = scene.open();
    let over = get(&opened, "over").await.unwrap();
    assert_eq!(keys(&over["versions"]), ["3.0.0-own.1"]);
    assert_eq!(over["dist-tags"], json!({ "latest": "3.0.0-own.1" }));
    assert_eq!(keys(&over["time"]), ["3.0.0-own.1", "created", "modified"]);
    assert_eq!(keys(&over["_attachments"]), ["over-3.0.0-own.1.tgz"]);
    assert_eq!(over["_uplinks"]["up"]["etag"], "\"27e585\"");
    let raw = opened
        .manifests
        .get(&name("over"))
        .await
        .unwrap()
        .unwrap()
        .json;
    assert!(std::str::from_utf8(&raw).unwrap().contains("\"n\": 1.50"));
    let raw = opened
        .manifests
        .get(&name("own"))
        .await
        .unwrap()
        .unwrap()
        .json;
    assert_eq!(raw, own("own"));
    assert!(get(&opened, "@private/app").await.is_some());
    for cached in ["dep", "orphan", "missing"] {
        assert_eq!(get(&opened, cached).await, None, "{cached}");
    }
    let names: Vec<PackageName> = opened.manifests.list().try_collect().await.unwrap();
    assert_eq!(names.len(), 3);
    let files = async |package: &str| {
        let blobs = opened.tarballs.list(&name(package)).await.unwrap();
        let files = blobs.into_iter().map(|blob| blob.file.to_string());
        files.collect::<Vec<_>>()
    };
    assert_eq!(files("over").await, ["over-3.0.0-own.1.tgz"]);
    assert!(files("dep").await.is_empty() && files("orphan").await.is_empty());
    let lost: Vec<PackageName> = opened.tarballs.perhaps_lost().try_collect().await.unwrap();
    assert!(lost.is_empty());
    assert_eq!(scene.list(), json!(["over", "own", "@private/app"]));
}

#[tokio::test]
async fn what_is_uplinks_stays_when_something_is_published() {
    let scene = Scene::listing(&["over"]);
    scene.write("over/package.json", MIXED);
    let opened = scene.open();
    let mut manifest = get(&opened, "over").await.unwrap();
    let dist = json!({ "shasum": "ff", "tarball": "https://here.example/over/-/over-2.0.0.tgz" });
    manifest["versions"]["2.0.0"] = json!({ "version": "2.0.0", "dist": dist });
    manifest["time"]["2.0.0"] = "2027-01-01T00:00:00.000Z".into();
    manifest["dist-tags"]["next"] = "2.0.0".into();
    manifest["_rustaccio"] = json!({ "origin": "override" });
    put(&opened, "over", &manifest).await;
    let stored = scene.read("over/package.json");
    assert_eq!(keys(&stored["versions"]), ["1.0.0", "2.0.0", "3.0.0-own.1"]);
    let tags = json!({ "old": "1.0.0", "latest": "3.0.0-own.1", "next": "2.0.0" });
    assert_eq!(stored["dist-tags"], tags);
    // It is no uplink's any more.
    assert_eq!(keys(&stored["_distfiles"]), ["over-1.0.0.tgz"]);
    assert_eq!(
        stored["_attachments"]["over-2.0.0.tgz"],
        json!({ "shasum": "ff", "version": "2.0.0" })
    );
    assert_eq!(
        stored["_attachments"]["over-1.0.0.tgz"],
        json!({ "shasum": "20462f" })
    );
    assert_eq!(stored["_uplinks"]["up"]["fetched"], 1_795_730_184_064_u64);
    assert_eq!(stored["time"]["1.0.0"], "2026-11-26T21:56:20.683Z");
    assert_eq!(stored["_rustaccio"], json!({ "origin": "override" }));
    assert_eq!(stored["readme"], "text");
    let text = fs::read_to_string(scene.path("over/package.json")).unwrap();
    assert_eq!(text.matches("\"n\": 1.50").count(), 1);
    let again = get(&scene.open(), "over").await.unwrap();
    assert_eq!(keys(&again["versions"]), ["2.0.0", "3.0.0-own.1"]);
}

#[tokio::test]
async fn the_first_version_of_a_cached_name() {
    let scene = Scene::listing(&[]);
    scene.write("dep/package.json", &cached("dep"));
    let opened = scene.open();
    assert_eq!(get(&opened, "dep").await, None);
    // An empty manifest comes first, of which Verdaccio knows nothing.
    put(&opened, "dep", &json!({ "name": "dep", "versions": {} })).await;
    assert_eq!(scene.list(), json!([]));
    assert!(get(&opened, "dep").await.is_some());
    let manifest: Value = serde_json::from_str(&own("dep").replace("1.0.0", "7.0.0")).unwrap();
    put(&opened, "dep", &manifest).await;
    assert_eq!(scene.list(), json!(["dep"]));
    assert!(!scene.path(".rustaccio/removed/dep.json").exists());
    let stored = scene.read("dep/package.json");
    assert_eq!(keys(&stored["versions"]), ["1.0.0", "2.0.0", "7.0.0"]);
    let view = get(&opened, "dep").await.unwrap();
    assert_eq!(keys(&view["versions"]), ["7.0.0"]);
    // And it goes again: what is cached stays, and Verdaccio asks its uplink anew.
    put(
        &opened,
        "dep",
        &json!({ "name": "dep", "versions": {}, "gone": true }),
    )
    .await;
    let stored = scene.read("dep/package.json");
    assert_eq!(keys(&stored["versions"]), ["1.0.0", "2.0.0"]);
    assert_eq!(
        stored["_uplinks"]["up"],
        json!({ "etag": "", "fetched": 0 })
    );
    assert_eq!(scene.list(), json!([]));
    assert_eq!(get(&opened, "dep").await.unwrap()["gone"], true);
}

#[tokio::test]
async fn of_an_unpublished_package_verdaccio_knows_nothing() {
    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &own("own"));
    let opened = scene.open();
    put(&opened, "own", &json!({ "versions": {}, "_rustaccio": {} })).await;
    assert!(!scene.path("own/package.json").exists());
    assert_eq!(scene.list(), json!([]));
    let opened = scene.open();
    assert_eq!(get(&opened, "own").await.unwrap()["versions"], json!({}));
    let names: Vec<PackageName> = opened.manifests.list().try_collect().await.unwrap();
    assert_eq!(names, [name("own")]);
    // Verdaccio has published it meanwhile.
    scene.write("own/package.json", &own("own"));
    scene.write(".verdaccio-db.json", r#"{"list":["own"]}"#);
    assert_eq!(
        keys(&get(&opened, "own").await.unwrap()["versions"]),
        ["1.0.0"]
    );
    // Somebody was killed who had unpublished it up to the list.
    fs::remove_file(scene.path("own/package.json")).unwrap();
    scene.open();
    assert_eq!(scene.list(), json!([]));
}

#[tokio::test]
async fn what_verdaccio_cached_is_a_document_of_its_uplink() {
    let scene = Scene::listing(&["over"]);
    scene.write("over/package.json", MIXED);
    scene.write("dep/package.json", &cached("dep"));
    let cache = scene.open().cache;
    let of = async |package: &str, uplink: &str| {
        let (name, uplink) = (name(package), uplink.parse().unwrap());
        cache.packument(&name, &uplink).await.unwrap()
    };
    let over = of("over", "up").await.unwrap();
    assert_eq!(over.freshness.fetched_at.unix_millis(), 1_795_730_184_064);
    assert_eq!(over.freshness.etag, None);
    let value: Value = serde_json::from_slice(&over.body).unwrap();
    assert_eq!(keys(&value["versions"]), ["1.0.0", "2.0.0"]);
    assert_eq!(value["dist-tags"]["old"], "1.0.0");
    assert_eq!(value["dist-tags"]["latest"], "2.0.0");
    assert!(value["time"]["3.0.0-own.1"].is_null());
    let tarball = &value["versions"]["1.0.0"]["dist"]["tarball"];
    assert_eq!(tarball, "http://up.example/over/-/over-1.0.0.tgz");
    let dep: Value = serde_json::from_slice(&of("dep", "up").await.unwrap().body).unwrap();
    assert_eq!(
        dep["dist-tags"],
        json!({ "latest": "2.0.0", "old": "1.0.0" })
    );
    assert!(of("dep", "other").await.is_none() && of("missing", "up").await.is_none());
}
