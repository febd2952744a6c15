//! Folders that are damaged, and folders that go to Verdaccio and come back.

use std::{fs, os::unix::fs::MetadataExt as _};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Opened,
    tests::{MIXED, Scene, cached, get, keys, name, own, put},
};
use crate::{
    models::Integrity,
    storage::{
        Blobs as _, Expected, FinishedBlob, MetadataStore as _, StorageError,
        fs::{
            TemporaryFolder,
            atomic::{MODE_PUBLIC, write_atomic},
        },
    },
};

#[tokio::test]
async fn lists_that_are_lost_are_made_again() {
    for (list, secret) in [
        (r#"{"list":[],"secret":"kept"}"#, Some("kept")),
        (r#"{"secret":"kept"}"#, Some("kept")),
        ("", Some("")),
        (r#"{"list":["own","#, Some("")),
        (r#"{"list":{}}"#, Some("")),
    ] {
        let scene = Scene::listing(&[]);
        scene.write(".verdaccio-db.json", list);
        scene.write("own/package.json", &own("own"));
        scene.write("over/package.json", MIXED);
        scene.write("apart/@private/app/package.json", &own("@private/app"));
        scene.write("dep/package.json", &cached("dep"));
        scene.write("broken/package.json", "");
        // Nobody knows what the broken one was.
        let names = if secret == Some("kept") {
            json!(["@private/app", "over", "own"])
        } else {
            json!(["@private/app", "broken", "over", "own"])
        };
        let to_read = scene.open_to_read();
        assert!(get(&to_read, "own").await.is_some() && get(&to_read, "dep").await.is_none());
        assert_eq!(
            fs::read_to_string(scene.path(".verdaccio-db.json")).unwrap(),
            list
        );
        assert!(!scene.path(".rustaccio").exists());
        scene.open();
        assert_eq!(scene.list(), names, "{list}");
        let secret_now = scene.read(".verdaccio-db.json")["secret"].clone();
        assert_eq!(secret_now.as_str(), secret, "{list}");
        let aside = fs::read_dir(scene.0.path()).unwrap().flatten();
        let aside = aside.filter(|file| file.file_name().to_string_lossy().contains("damaged-"));
        assert_eq!(aside.count() == 1, secret == Some(""), "{list}");
    }
}

#[tokio::test]
async fn a_hosted_package_that_the_list_lacks_is_put_into_it() {
    let scene = Scene::listing(&["other"]);
    scene.write("over/package.json", MIXED);
    scene.write("own/package.json", &own("own"));
    let opened = scene.open();
    assert_eq!(scene.list(), json!(["other"]));
    assert!(
        opened
            .manifests
            .stamp(&name("over"))
            .await
            .unwrap()
            .is_some()
    );
    assert!(get(&opened, "own").await.is_some());
    assert_eq!(scene.list(), json!(["other", "over", "own"]));
}

#[tokio::test]
async fn damaged_files_are_errors_where_something_is_hosted() {
    let scene = Scene::listing(&["own"]);
    for damaged in ["", "{", "[]", "\0\0\0"] {
        scene.write("own/package.json", damaged);
        scene.write("dep/package.json", damaged);
        let opened = scene.open();
        let own = opened.manifests.get(&name("own")).await;
        assert!(
            matches!(own, Err(StorageError::Damaged { .. })),
            "{damaged:?}"
        );
        let json = Bytes::from(self::own("own"));
        let over = opened
            .manifests
            .put(&name("own"), json, Expected::Absent)
            .await;
        assert!(matches!(over, Err(StorageError::Damaged { .. })));
        assert_eq!(
            fs::read_to_string(scene.path("own/package.json")).unwrap(),
            damaged
        );
        assert_eq!(get(&opened, "dep").await, None);
    }
    let opened = scene.open();
    let manifest: Value = serde_json::from_str(&own("dep")).unwrap();
    put(&opened, "dep", &manifest).await;
    assert_eq!(
        keys(&get(&opened, "dep").await.unwrap()["versions"]),
        ["1.0.0"]
    );
    let kept = fs::read_dir(scene.path(".rustaccio/quarantine/.manifests")).unwrap();
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn old_files_are_understood() {
    let scene = Scene::listing(&["old", "bare", "mixed"]);
    let old = json!({
        "versions": { "1.0.0": { "v": 1 }, "1.1.0": { "v": 2 } },
        "dist-tags": { "latest": ["1.0.0", "1.1.0"], "none": [], "odd": 7 },
    });
    scene.write("old/package.json", &old.to_string());
    scene.write("bare/package.json", "{}");
    // An upload that does not say of which version it is, and a download that does not say from where.
    let dist = |file: &str| json!({ "dist": { "tarball": format!("x/{file}") } });
    let mixed = json!({
        "versions": { "1.0.0": dist("mixed-1.0.0.tgz"), "2.0.0": dist("mixed-2.0.0.tgz"), "3.0.0": { "dist": { "tarball": "http://up.example/mixed-3.0.0.tgz" } } },
        "_uplinks": { "up": {} },
        "_distfiles": { "mixed-2.0.0.tgz": { "url": "x" } },
        "_attachments": { "mixed-1.0.0.tgz": {}, "mixed-2.0.0.tgz": { "shasum": "x" }, "odd": 7 },
    });
    scene.write("mixed/package.json", &mixed.to_string());
    scene.write(
        "unlisted/package.json",
        &mixed.to_string().replace("mixed-", "unlisted-"),
    );
    let opened = scene.open();
    let old = get(&opened, "old").await.unwrap();
    assert_eq!(old["dist-tags"], json!({ "latest": "1.1.0" }));
    assert_eq!(keys(&old["versions"]), ["1.0.0", "1.1.0"]);
    assert_eq!(get(&opened, "bare").await.unwrap(), json!({}));
    let mixed = get(&opened, "mixed").await.unwrap();
    assert_eq!(keys(&mixed["versions"]), ["1.0.0"]);
    assert_eq!(get(&opened, "unlisted").await, None);
}

#[tokio::test]
async fn a_listed_name_without_any_file_is_lost_and_nobody_elses() {
    let scene = Scene::listing(&["own", "here"]);
    scene.write("here/package.json", &own("here"));
    for opened in [scene.open(), scene.open_to_read()] {
        let (own, store) = (name("own"), &opened.manifests);
        assert!(matches!(
            store.get(&own).await,
            Err(StorageError::Lost { .. })
        ));
        let error = store.stamp(&own).await.unwrap_err().to_string();
        assert!(error.contains("own/package.json"), "{error}");
        assert_eq!(get(&opened, "stranger").await, None);
        let listed: Vec<_> = futures_util::TryStreamExt::try_collect::<Vec<_>>(store.list())
            .await
            .unwrap();
        assert_eq!(listed, [name("here")]);
    }
    let opened = scene.open();
    let json = Bytes::from(own("own"));
    let own = name("own");
    let put = opened.manifests.put(&own, json, Expected::Absent);
    put.await.unwrap();
    assert_eq!(
        keys(&get(&opened, "own").await.unwrap()["versions"]),
        ["1.0.0"]
    );
}

#[tokio::test]
async fn a_damaged_list_is_made_again_of_all_that_is_known() {
    for (damaged, is_known) in [
        (r#"{"list":["own","broken"],"secret":"s3cret""#, true),
        (r#"{"secret":"s3cret","list":["own","bro"#, true),
        ("", true),
        (r#"{"list":["own","broken"],"secret":"s3cret""#, false),
    ] {
        let scene = Scene::listing(&["own", "broken", "gone"]);
        for package in ["own", "broken", "gone"] {
            scene.write(&format!("{package}/package.json"), &own(package));
        }
        if is_known {
            scene.open();
        }
        scene.write(".verdaccio-db.json", damaged);
        scene.write("broken/package.json", "{\"versions\":");
        fs::remove_dir_all(scene.path("gone")).unwrap();
        let opened = scene.open();
        assert_eq!(scene.list(), json!(["broken", "own"]), "{damaged}");
        let secret = scene.read(".verdaccio-db.json")["secret"].clone();
        assert_eq!(secret, "s3cret", "{damaged}");
        let broken = opened.manifests.get(&name("broken")).await;
        assert!(
            matches!(broken, Err(StorageError::Damaged { .. })),
            "{damaged}"
        );
        if is_known {
            // Its name was ours, and nobody else's package is served under it.
            assert_eq!(get(&opened, "gone").await.unwrap()["versions"], json!({}));
        }
    }
}

#[tokio::test]
async fn a_list_that_is_taken_away_comes_back_with_its_secret() {
    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &own("own"));
    let opened = scene.open();
    fs::remove_file(scene.path(".verdaccio-db.json")).unwrap();
    let next: Value = serde_json::from_str(&own("next")).unwrap();
    put(&opened, "next", &next).await;
    let list = scene.read(".verdaccio-db.json");
    assert_eq!(list["secret"], "s3cret");
    assert_eq!(list["list"].as_array().unwrap().len(), 2);
    // And once more while nobody looks.
    fs::remove_file(scene.path(".verdaccio-db.json")).unwrap();
    scene.open();
    let list = scene.read(".verdaccio-db.json");
    assert_eq!(list["secret"], "s3cret");
    assert_eq!(list["list"], json!(["next", "own"]));
}

#[tokio::test]
async fn an_empty_list_is_doubted_once() {
    let scene = Scene::listing(&[]);
    scene.open();
    scene.write("own/package.json", &own("own"));
    scene.open();
    assert_eq!(scene.list(), json!([]));
}

#[tokio::test]
async fn own_versions_of_an_override_need_no_attachment() {
    let scene = Scene::listing(&["over"]);
    let mut lost: Value = serde_json::from_str(MIXED).unwrap();
    lost["_attachments"] = json!({});
    scene.write("over/package.json", &lost.to_string());
    let opened = scene.open();
    let over = get(&opened, "over").await.unwrap();
    assert_eq!(keys(&over["versions"]), ["3.0.0-own.1"]);
    // Uplinks' versions are not ours where nothing but their address says so.
    lost["_distfiles"] = json!({});
    lost["_attachments"]["over-1.0.0.tgz"] = json!({ "shasum": "20462f" });
    scene.write("over/package.json", &lost.to_string());
    let over = get(&scene.open(), "over").await.unwrap();
    assert_eq!(keys(&over["versions"]), ["3.0.0-own.1"]);
}

#[tokio::test]
async fn cached_files_that_do_not_say_where_they_come_from_are_not_ours() {
    let scene = Scene::listing(&["other"]);
    let mut dep: Value = serde_json::from_str(&cached("dep")).unwrap();
    for nothing in [json!(null), json!({})] {
        dep["_uplinks"] = nothing.clone();
        dep["_distfiles"] = nothing;
        scene.write("dep/package.json", &dep.to_string());
        assert_eq!(get(&scene.open(), "dep").await, None);
        assert_eq!(scene.list(), json!(["other"]));
    }
}

#[tokio::test]
async fn versions_that_cannot_be_read_are_not_unpublished_ones() {
    let scene = Scene::listing(&["own"]);
    let whole = own("own");
    let own: Value = serde_json::from_str(&whole).unwrap();
    let with = |field: &str, value: Value| {
        let mut own = own.clone();
        own[field] = value;
        own.to_string()
    };
    for damaged in [
        with("versions", json!(null)),
        with("versions", json!([1])),
        with("_attachments", json!(null)),
        with("_distfiles", json!("x")),
        whole.replacen('{', r#"{"versions":{},"#, 1),
        whole.replacen(r#""1.0.0":{"#, r#""1.0.0":{},"1.0.0":{"#, 1),
    ] {
        scene.write("own/package.json", &damaged);
        let read = scene.open().manifests.get(&name("own")).await;
        assert!(
            matches!(read, Err(StorageError::Damaged { .. })),
            "{damaged}"
        );
    }
}

#[tokio::test]
async fn what_verdaccio_made_anew_stays_in_its_list() {
    let scene = Scene::listing(&["own", "bare"]);
    for package in ["own", "bare"] {
        scene.write(&format!("{package}/package.json"), &own(package));
        put(&scene.open(), package, &json!({ "versions": {} })).await;
        assert!(
            scene
                .path(&format!(".rustaccio/removed/{package}.json"))
                .exists()
        );
    }
    scene.write("own/package.json", &own("own"));
    scene.write("bare/package.json", r#"{"name":"bare","versions":{}}"#);
    scene.write(".verdaccio-db.json", r#"{"list":["own","bare"]}"#);
    let opened = scene.open();
    assert_eq!(scene.list(), json!(["own", "bare"]));
    assert!(!scene.path(".rustaccio/removed/own.json").exists());
    let own = get(&opened, "own").await.unwrap();
    assert_eq!(keys(&own["versions"]), ["1.0.0"]);
}

/// Puts `bytes` beside the manifest of `package` as a publish does, up to the manifest.
async fn place(scene: &Scene, opened: &Opened, package: &str, file: &str, bytes: &[u8]) {
    let path = scene.path("blob");
    write_atomic(&path, bytes, MODE_PUBLIC).unwrap();
    let blob = || FinishedBlob {
        path: &path,
        length: u64::try_from(bytes.len()).unwrap(),
    };
    let (name, file) = (name(package), file.parse().unwrap());
    let created = opened.tarballs.create(&name, &file, blob()).await.unwrap();
    if let crate::storage::Created::Taken(seen) = created {
        let replaced = opened.tarballs.replace(&name, &file, &seen, blob()).await;
        assert!(replaced.unwrap());
    }
    fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn what_lay_there_before_a_manifest_named_it_goes() {
    use sha1::Digest as _;

    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &own("own"));
    scene.write("own/own-1.0.0.tgz", "published");
    let shasum = hex::encode(sha1::Sha1::digest(b"downloaded"));
    let dep = cached("dep").replace("20462f", &shasum);
    scene.write("dep/package.json", &dep);
    scene.write("dep/dep-1.0.0.tgz", "downloaded");
    let opened = scene.open();
    place(&scene, &opened, "own", "own-2.0.0.tgz", b"new").await;
    place(&scene, &opened, "dep", "dep-2.0.0.tgz", b"not upstream's").await;
    place(&scene, &opened, "fresh", "fresh-1.0.0.tgz", b"new").await;
    let file = |file: &str| scene.path(file).exists();
    assert!(file("own/own-2.0.0.tgz") && file("dep/dep-2.0.0.tgz") && file("fresh"));
    // These were noted, and nothing happened to them.
    let doomed = ["own-1.0.0.tgz".parse().unwrap()];
    opened
        .tarballs
        .doom(&name("own"), doomed.to_vec())
        .await
        .unwrap();
    let cached = ["dep-1.0.0.tgz".parse().unwrap()];
    opened
        .tarballs
        .doom(&name("dep"), cached.to_vec())
        .await
        .unwrap();
    scene.open();
    assert!(!file("own/own-2.0.0.tgz") && !file("dep/dep-2.0.0.tgz") && !file("fresh"));
    assert!(file("own/own-1.0.0.tgz") && file("dep/dep-1.0.0.tgz"));
    assert_eq!(
        fs::read_dir(scene.path(".rustaccio/under-way"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn what_a_manifest_names_or_has_let_go_of_is_under_way_no_more() {
    let scene = Scene::listing(&[]);
    let opened = scene.open();
    let notes = || {
        let folder = scene.path(".rustaccio/under-way/own");
        fs::read_dir(folder).unwrap().count()
    };
    place(&scene, &opened, "own", "own-1.0.0.tgz", b"new").await;
    place(
        &scene,
        &opened,
        "own",
        "own-2.0.0.tgz",
        b"of another publish",
    )
    .await;
    assert_eq!(notes(), 2);
    put(&opened, "own", &serde_json::from_str(&own("own")).unwrap()).await;
    assert_eq!(notes(), 1);
    let (own, file) = (name("own"), "own-1.0.0.tgz".parse().unwrap());
    let doomed = opened.tarballs.doom(&own, vec![file]).await.unwrap();
    put(&opened, "own", &json!({ "versions": {} })).await;
    let revision = opened.manifests.get(&own).await.unwrap().unwrap().revision;
    assert_eq!(notes(), 2);
    opened
        .tarballs
        .delete(&own, doomed, &revision)
        .await
        .unwrap();
    assert_eq!(notes(), 1);
    assert!(!scene.path("own/own-1.0.0.tgz").exists());
}

#[tokio::test]
async fn files_belong_to_whom_the_folder_belongs_to() {
    // Only the system's administrator can give files away; for others they are theirs anyway.
    let scene = Scene::listing(&["over"]);
    scene.write("over/package.json", MIXED);
    for path in ["", ".verdaccio-db.json", "over", "over/package.json"] {
        let _ = std::os::unix::fs::chown(scene.path(path), Some(4873), Some(4873));
    }
    let owner = |path: &str| {
        let metadata = fs::metadata(scene.path(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    let expected = owner("");
    let opened = scene.open();
    let over = get(&opened, "over").await.unwrap();
    put(&opened, "over", &over).await;
    place(&scene, &opened, "@new/one", "one-1.0.0.tgz", b"new").await;
    put(
        &opened,
        "@new/one",
        &serde_json::from_str(&own("@new/one")).unwrap(),
    )
    .await;
    for path in [
        ".verdaccio-db.json",
        "over/package.json",
        "@new",
        "@new/one",
        "@new/one/package.json",
        "@new/one/one-1.0.0.tgz",
    ] {
        assert_eq!(owner(path), expected, "{path}");
    }
}

#[tokio::test]
async fn links_to_tarballs_lead_to_what_is_cached() {
    let scene = Scene::listing(&[]);
    scene.write("elsewhere/real.tgz", "downloaded");
    fs::create_dir(scene.path("dep")).unwrap();
    let link = scene.path("dep/dep-1.0.0.tgz");
    std::os::unix::fs::symlink(scene.path("elsewhere/real.tgz"), &link).unwrap();
    let opened = scene.open();
    TemporaryFolder::open(&scene.path(".rustaccio/tmp")).unwrap();
    let shasum = "8ee25e1cbcb1b3b2b6e9ab4f8a2d3b8fd7a5b0c1";
    let of = async |integrity: &Integrity| {
        let (dep, file) = (name("dep"), "dep-1.0.0.tgz".parse().unwrap());
        opened.cache.tarball(&dep, &file, integrity).await.unwrap()
    };
    assert!(of(&Integrity::from_shasum(shasum).unwrap()).await.is_none());
    let right = {
        use sha1::Digest as _;
        hex::encode(sha1::Sha1::digest(b"downloaded"))
    };
    let (own, length) = of(&Integrity::from_shasum(&right).unwrap()).await.unwrap();
    assert_eq!(length, 10);
    // What happens to the link from now on does not matter.
    fs::remove_file(&link).unwrap();
    assert_eq!(fs::read_to_string(own.path()).unwrap(), "downloaded");
    assert!(!fs::symlink_metadata(own.path()).unwrap().is_symlink());
}

#[tokio::test]
async fn what_writes_left_half_made_goes() {
    let scene = Scene::listing(&["own", "kept"]);
    for package in ["own", "kept"] {
        scene.write(&format!("{package}/package.json"), &own(package));
    }
    put(&scene.open(), "own", &json!({ "versions": {} })).await;
    let left = [
        "own/.own-1.0.0.tgz.0123456789abcdef.tmp",
        "kept/.package.json.0123456789abcdef.tmp",
        "..verdaccio-db.json.0123456789abcdef.tmp",
    ];
    for file in left {
        scene.write(file, "half");
    }
    scene.write("kept/.not-ours.tmp", "another's");
    scene.open();
    for file in left {
        assert!(!scene.path(file).exists(), "{file}");
    }
    assert!(scene.path("kept/.not-ours.tmp").exists());
}

#[test]
fn names_that_nobody_can_ask_for_are_told() {
    let scene = Scene::new(&json!({ "list": ["own", "_bad", 7] }));
    let opened = scene.open();
    let strangers = opened.manifests.parts.list.strangers();
    assert_eq!(strangers, ["_bad", "7"]);
}
