//! `rustaccio fsck`: every kind of damage is found, and what can be is put right without losing a
//! byte.

use std::{fs, path::Path};

use serde_json::json;

use crate::support::{Package, Registry, Upstream, process::Process, registry::Start};

fn fsck(data: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Process::command(data, &[]);
    let output = command.arg("fsck").args(arguments).output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[tokio::test]
pub(crate) async fn damage_is_found_and_repaired() {
    let upstream = Upstream::start().await;
    let cached = Package::new("cached", "1.0.0");
    upstream.has(&[&cached]);
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let alice = registry.user("alice").await;
    for name in ["whole", "lost", "@s/hurt", "broken"] {
        for version in ["1.0.0", "2.0.0", "3.0.0"] {
            registry
                .publish(&alice, &Package::new(name, version))
                .await
                .assert(201);
        }
    }
    registry.tarball(&cached).await.assert(200);
    let data = registry.data();
    let folder = registry.stop().await;
    assert_eq!(
        fsck(&data, &[]),
        (true, "4 packages, 12 tarballs: all fine\n".to_owned())
    );

    let tarballs = data.join("tarballs");
    fs::write(tarballs.join("@s__hurt/hurt-1.0.0.tgz"), "other bytes").unwrap();
    fs::remove_file(tarballs.join("@s__hurt/hurt-3.0.0.tgz")).unwrap();
    fs::write(tarballs.join("whole/whole-9.0.0.tgz"), "orphan").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tarballs.join("whole/whole-8.0.0.tgz")).unwrap();
    fs::remove_file(tarballs.join("lost/package.json")).unwrap();
    fs::write(tarballs.join("broken/package.json"), "{ half").unwrap();
    let cache = fs::read_dir(data.join("cache/packages/cached")).unwrap();
    let mut cached = cache.map(|file| file.unwrap().path());
    let kept = cached
        .find(|path| path.extension().unwrap() == "tgz")
        .unwrap();
    fs::write(&kept, "rot").unwrap();

    let (is_clean, report) = fsck(&data, &[]);
    assert!(!is_clean);
    for line in [
        "@s/hurt@1.0.0: the tarball is damaged",
        "@s/hurt@3.0.0: the tarball is missing",
        "whole: no version names whole-9.0.0.tgz",
        "lost: tarballs, and no manifest",
        "broken: the manifest cannot be read",
        "is damaged",
    ] {
        assert!(report.contains(line), "`{line}` is not in:\n{report}");
    }
    assert!(!report.contains("whole-8"), "a link was followed");
    let (is_clean, report) = fsck(&data, &["--repair"]);
    // A manifest that cannot be read is for people.
    assert!(!is_clean, "{report}");
    fs::remove_file(tarballs.join("broken/package.json")).unwrap();
    fsck(&data, &["--repair"]);
    assert!(fsck(&data, &[]).0, "{}", fsck(&data, &[]).1);
    let aside: Vec<String> = ["@s__hurt", "whole"]
        .iter()
        .flat_map(|name| fs::read_dir(data.join("quarantine").join(name)).unwrap())
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert_eq!(aside, ["other bytes", "orphan"]);
    assert!(!kept.exists());

    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let tags = registry.get("/-/package/@s%2fhurt/dist-tags").await.json();
    assert_eq!(tags, json!({ "latest": "2.0.0" }));
    for name in ["whole", "lost", "broken"] {
        for version in ["1.0.0", "2.0.0", "3.0.0"] {
            let package = Package::new(name, version);
            assert_eq!(
                registry.tarball(&package).await.assert(200).body,
                package.tarball
            );
        }
    }
}

#[tokio::test]
async fn the_old_manifest_is_kept_and_what_cannot_be_read_is_left_alone() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for name in ["first", "@s/second"] {
        for version in ["1.0.0", "2.0.0"] {
            let package = Package::new(name, version);
            registry.publish(&alice, &package).await.assert(201);
        }
    }
    let data = registry.data();
    let _folder = registry.stop().await;
    let tarballs = data.join("tarballs");
    // A folder cannot be read as a manifest, not even by root.
    let manifest = tarballs.join("first/package.json");
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    fs::remove_file(tarballs.join("@s__second/second-1.0.0.tgz")).unwrap();
    let (is_clean, report) = fsck(&data, &["--repair"]);
    assert!(!is_clean, "{report}");
    for line in [
        "first: the manifest could not be read",
        "@s/second@1.0.0: the tarball is missing",
        "2 problems, 1 put right",
    ] {
        assert!(report.contains(line), "`{line}` is not in:\n{report}");
    }
    assert!(manifest.is_dir() && tarballs.join("first/first-1.0.0.tgz").exists());
    let mut kept = fs::read_dir(data.join("quarantine/.manifests")).unwrap();
    let kept = fs::read(kept.next().unwrap().unwrap().path()).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert!(kept["versions"]["1.0.0"].is_object(), "{kept}");
}

#[tokio::test]
pub(crate) async fn every_manifest_that_is_rebuilt_is_counted() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for name in ["one", "two", "@s/three"] {
        for version in ["1.0.0", "2.0.0"] {
            registry
                .publish(&alice, &Package::new(name, version))
                .await
                .assert(201);
        }
    }
    let data = registry.data();
    let _folder = registry.stop().await;
    let tarballs = data.join("tarballs");
    for folder in ["one", "two", "@s__three"] {
        fs::remove_file(tarballs.join(folder).join("package.json")).unwrap();
    }
    fs::write(tarballs.join("two/two-3.0.0.tgz"), "no tarball").unwrap();
    let (is_clean, report) = fsck(&data, &[]);
    let found = "@s/three: tarballs, and no manifest\none: tarballs, and no manifest\n\
                 two: tarballs, and no manifest\n";
    let expected =
        format!("{found}3 packages, 0 tarballs: 3 problems; --repair puts right what can be\n");
    assert_eq!((is_clean, report), (false, expected));
    // What was rebuilt is looked at as well: what is no tarball of it is put aside.
    let (is_clean, report) = fsck(&data, &["--repair"]);
    let expected = format!(
        "{found}two: no version names two-3.0.0.tgz\n\
         3 packages, 6 tarballs: 4 problems, 4 put right\n"
    );
    assert_eq!((is_clean, report), (true, expected));
    assert_eq!(
        fsck(&data, &[]),
        (true, "3 packages, 6 tarballs: all fine\n".to_owned())
    );
}
