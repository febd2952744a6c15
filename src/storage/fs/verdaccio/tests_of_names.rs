//! Names stay whose they are, whatever becomes of their files and of Verdaccio's list.

use std::fs;

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::{
    Opened,
    tests::{MIXED, Scene, cached, get, keys, name, own, put},
};
use crate::{
    models::PackageName,
    storage::{Blobs as _, MetadataStore as _, StorageError},
};

/// What Verdaccio writes when it has asked its uplink for a package that was published here: `2.0.0` came
/// from there and took the tag.
fn with_a_strangers_version(file: &str, package: &str) -> String {
    let mut value: Value = serde_json::from_str(file).unwrap();
    let tarball = format!("http://up.example/{package}/-/{package}-2.0.0.tgz");
    value["versions"]["2.0.0"] = json!({ "dist": { "shasum": "ee", "tarball": tarball } });
    value["dist-tags"]["latest"] = "2.0.0".into();
    value["_uplinks"] = json!({ "up": { "etag": "x", "fetched": 1 } });
    value["_distfiles"][format!("{package}-2.0.0.tgz")] = json!({ "url": tarball, "sha": "ee" });
    value.to_string()
}

#[tokio::test]
async fn a_strangers_version_never_becomes_ours_nor_is_it_shown_beside_ours() {
    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &own("own"));
    scene.open();
    // Verdaccio again.
    let mixed = with_a_strangers_version(&own("own"), "own");
    scene.write("own/package.json", &mixed);
    for opened in [scene.open_to_read(), scene.open()] {
        let manifest = get(&opened, "own").await.unwrap();
        assert_eq!(keys(&manifest["versions"]), ["1.0.0"]);
        assert_eq!(manifest["_rustaccio"], json!({ "origin": "local" }));
        assert_eq!(manifest["dist-tags"], json!({ "latest": "1.0.0" }));
    }
    // What we have written says it too, also where all we know of the folder is lost.
    let opened = scene.open();
    let manifest = get(&opened, "own").await.unwrap();
    put(&opened, "own", &manifest).await;
    fs::remove_dir_all(scene.path(".rustaccio")).unwrap();
    let manifest = get(&scene.open(), "own").await.unwrap();
    assert_eq!(manifest["_rustaccio"], json!({ "origin": "local" }));
}

#[tokio::test]
async fn a_name_that_uplinks_had_from_the_beginning_is_an_override() {
    let scene = Scene::listing(&["over"]);
    scene.write("over/package.json", MIXED);
    let manifest = get(&scene.open(), "over").await.unwrap();
    assert_eq!(manifest["_rustaccio"], json!({ "origin": "override" }));
    // Verdaccio has unpublished what was ours, and published something again.
    scene.write("over/package.json", &own("over"));
    let manifest = get(&scene.open(), "over").await.unwrap();
    assert_eq!(manifest["_rustaccio"], json!({ "origin": "override" }));
}

#[tokio::test]
async fn a_name_stays_ours_when_everything_is_unpublished() {
    let scene = Scene::listing(&["own", "theirs"]);
    for package in ["own", "theirs"] {
        scene.write(&format!("{package}/package.json"), &own(package));
    }
    let opened = scene.open();
    put(&opened, "own", &json!({ "versions": {} })).await;
    // Verdaccio unpublishes the other, and caches what strangers have.
    scene.write(".verdaccio-db.json", r#"{"list":[],"secret":"s3cret"}"#);
    for package in ["own", "theirs"] {
        scene.write(&format!("{package}/package.json"), &cached(package));
    }
    for package in ["own", "theirs"] {
        let opened = scene.open();
        let manifest = get(&opened, package).await.unwrap();
        assert_eq!(manifest["versions"], json!({}));
        assert_eq!(manifest["_rustaccio"]["origin"], "local");
        let mut next: Value = serde_json::from_str(&own(package)).unwrap();
        next["_rustaccio"] = manifest["_rustaccio"].clone();
        put(&opened, package, &next).await;
        let manifest = get(&scene.open(), package).await.unwrap();
        // Upstream had this version; it is ours now.
        assert_eq!(keys(&manifest["versions"]), ["1.0.0"]);
        assert_eq!(manifest["_rustaccio"]["origin"], "local");
    }
}

async fn is_lost(opened: &Opened, package: &str) -> bool {
    let read = opened.manifests.get(&name(package)).await;
    matches!(read, Err(StorageError::Lost { .. }))
}

#[tokio::test]
async fn what_is_left_of_a_package_puts_it_into_the_list_again() {
    let unnamed =
        |package: &str| own(package).replace(r#","version":"1.0.0"}},"_rev""#, r#"}},"_rev""#);
    for list in [r#"{"list":["other"]}"#, r#"{"list":[]}"#] {
        let scene = Scene::listing(&["other", "own-a", "own-b", "own-c", "over"]);
        for package in ["own-a", "own-b", "own-c"] {
            scene.write(&format!("{package}/package.json"), &own(package));
            scene.write(&format!("{package}/{package}-1.0.0.tgz"), "published");
        }
        scene.write("over/package.json", MIXED);
        scene.write("over/over-3.0.0-own.1.tgz", "published");
        scene.open();
        // Verdaccio does none of this when it unpublishes.
        scene.write(".verdaccio-db.json", list);
        fs::remove_file(scene.path("own-a/package.json")).unwrap();
        scene.write("own-b/package.json", "");
        scene.write("own-c/package.json", &unnamed("own-c"));
        fs::remove_file(scene.path("over/package.json")).unwrap();
        for opened in [scene.open_to_read(), scene.open()] {
            assert!(is_lost(&opened, "own-a").await && is_lost(&opened, "over").await);
            let read = opened.manifests.get(&name("own-b")).await;
            assert!(matches!(read, Err(StorageError::Damaged { .. })));
            let manifest = get(&opened, "own-c").await.unwrap();
            assert_eq!(keys(&manifest["versions"]), ["1.0.0"]);
            let packages = opened.tarballs.packages();
            let packages: Vec<PackageName> = packages.try_collect().await.unwrap();
            for package in ["own-a", "own-b", "own-c", "over"] {
                assert!(packages.contains(&name(package)), "{package}");
            }
        }
        for package in ["own-a", "own-b", "own-c", "over"] {
            let list = scene.list();
            assert!(
                list.as_array().unwrap().contains(&json!(package)),
                "{package}"
            );
        }
    }
}

#[tokio::test]
async fn tarballs_are_ours_only_where_none_can_have_come_from_an_uplink() {
    let scene = Scene::listing(&["own", "over"]);
    scene.write("own/own-1.0.0.tgz", "published");
    scene.write("over/over-1.0.0.tgz", "downloaded");
    let opened = scene.open();
    assert!(is_lost(&opened, "own").await && is_lost(&opened, "over").await);
    let lost: Vec<PackageName> = opened.tarballs.perhaps_lost().try_collect().await.unwrap();
    assert_eq!(lost, [name("own")]);
    assert_eq!(opened.tarballs.list(&name("own")).await.unwrap().len(), 1);
    assert!(
        opened
            .tarballs
            .list(&name("over"))
            .await
            .unwrap()
            .is_empty()
    );
    let error = opened.manifests.get(&name("over")).await.unwrap_err();
    assert!(
        error.to_string().contains("rule without `proxy`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_name_that_is_taken_out_of_the_list_while_it_is_open_stays_ours() {
    let scene = Scene::listing(&["own", "other"]);
    scene.write("own/package.json", &own("own"));
    let opened = scene.open();
    fs::remove_dir_all(scene.path("own")).unwrap();
    assert!(is_lost(&opened, "own").await);
    scene.write(".verdaccio-db.json", r#"{"list":["other"]}"#);
    let manifest = get(&opened, "own").await.unwrap();
    assert_eq!(manifest["versions"], json!({}));
    assert_eq!(manifest["_rustaccio"]["origin"], "local");
    // Whatever a manifest says that comes from elsewhere.
    let mut next: Value = serde_json::from_str(&own("own")).unwrap();
    next["_rustaccio"] = json!({ "origin": "override" });
    put(&opened, "own", &next).await;
    let manifest = get(&opened, "own").await.unwrap();
    assert_eq!(manifest["_rustaccio"]["origin"], "local");
}

#[tokio::test]
async fn a_file_that_was_replaced_by_what_an_uplink_has_says_nothing_of_ours() {
    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &cached("own"));
    scene.write("own/own-7.0.0.tgz", "published");
    let opened = scene.open();
    assert!(is_lost(&opened, "own").await);
    // Nothing is concluded from it.
    scene.write("own/package.json", &own("own"));
    let manifest = get(&scene.open(), "own").await.unwrap();
    assert!(manifest["_rustaccio"].is_null());
}

#[tokio::test]
async fn what_verdaccio_published_again_and_lost_is_lost_and_not_gone() {
    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &own("own"));
    put(&scene.open(), "own", &json!({ "versions": {} })).await;
    scene.write(".verdaccio-db.json", r#"{"list":["own"]}"#);
    scene.write("own/own-2.0.0.tgz", "published");
    assert!(is_lost(&scene.open(), "own").await);
    assert_eq!(scene.list(), json!(["own"]));
}

#[test]
fn nothing_that_lies_about_keeps_it_from_starting() {
    let scene = Scene::listing(&["own"]);
    scene.write("own/package.json", &own("own"));
    scene.write("file", "where a package's folder should be");
    let under_way = |file: &str| scene.write(&format!(".rustaccio/under-way/{file}"), "");
    under_way("readme");
    under_way("file/file-1.0.0.tgz");
    under_way("own/own-2.0.0.tgz");
    scene.write(
        "own/own-2.0.0.tgz/deep",
        "a folder where a tarball should be",
    );
    scene.write("own/.x.0123456789abcdef.tmp/deep", "the same");
    scene.open();
    assert!(scene.path("own/own-2.0.0.tgz/deep").exists());
    assert!(!scene.path(".rustaccio/under-way/file").exists());
}
