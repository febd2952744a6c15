//! `rustaccio backup` where something is wrong: it is named, all else is copied, and what an earlier
//! backup has is never lost.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    backup::{Variables, command, fine, newest},
    support::{Package, Registry, User},
};

const COMPLETE: &str = "complete\n";

/// What the newest snapshot in `copy` says of itself.
fn state(copy: &Path) -> String {
    fs::read_to_string(newest(copy).join("rustaccio-backup")).unwrap()
}

/// All files below `folder`, but for locks, and what is in them.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("lock") {
                let bytes = fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
    }
    files
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Where the tarball of `package` is below `folder`.
pub(crate) fn tarball(folder: &Path, package: &Package) -> PathBuf {
    let name = package.name.replace('/', "__");
    folder.join("tarballs").join(name).join(package.file())
}

/// As long, and other bytes.
pub(crate) fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    for byte in &mut bytes {
        *byte = !*byte;
    }
    fs::write(path, bytes).unwrap();
}

pub(crate) async fn publish(
    registry: &Registry,
    user: &User,
    name: &str,
    version: &str,
) -> Package {
    let package = Package::new(name, version);
    registry.publish(user, &package).await.assert(201);
    package
}

/// Backs up, which ends badly, and what it says. Nothing of it says that it is complete.
pub(crate) async fn fails(data: &Path, variables: &Variables, copy: &Path) -> String {
    let (said, is_fine) = command(data, variables, &["backup", text(copy)]).await;
    assert!(!is_fine && !said.contains("is complete"), "{said}");
    said
}

#[tokio::test]
async fn a_backup_that_fails_leaves_the_earlier_one_complete() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = publish(&registry, &alice, "app", "1.0.0").await;
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fine(&data, &none, &["backup", text(&copy)]).await;
    let before = tree(&copy);
    let is_as_before = || state(&copy) == COMPLETE && tree(&copy) == before;

    // A wrong folder is not there, or has nothing; nothing is made of it.
    let wrong = folder.path().join("wrong");
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(&wrong).unwrap();
        }
        let said = fails(&wrong, &none, &copy).await;
        assert!(said.contains("RUSTACCIO_DATA_DIR"), "{said}");
        assert!(said.contains("not there, or empty"), "{said}");
        assert!(!wrong.join("tarballs").exists() && is_as_before());
    }
    // One that was only ever started has nothing either.
    fs::create_dir(wrong.join("tarballs")).unwrap();
    let said = fails(&wrong, &none, &copy).await;
    assert!(said.contains("neither packages nor accounts"), "{said}");
    // One without keys, users or packages is the wrong one too.
    let manifest = json!({ "name": "other", "versions": {} }).to_string();
    fs::create_dir(wrong.join("tarballs/other")).unwrap();
    fs::write(wrong.join("tarballs/other/package.json"), manifest).unwrap();
    let said = fails(&wrong, &none, &copy).await;
    assert!(said.contains("has no secret.key"), "{said}");
    for key in ["secret.key", "signing-keys.json"] {
        fs::copy(data.join(key), wrong.join(key)).unwrap();
    }
    let said = fails(&wrong, &none, &copy).await;
    assert!(said.contains("no users at all"), "{said}");
    assert!(said.contains("RUSTACCIO_DATA_DIR"), "{said}");
    fs::remove_dir_all(wrong.join("tarballs/other")).unwrap();
    fs::copy(data.join("state.json"), wrong.join("state.json")).unwrap();
    let said = fails(&wrong, &none, &copy).await;
    assert!(said.contains("no packages at all"), "{said}");
    assert!(is_as_before());
    // Another registry has another key; one that was moved has a mark.
    let other = Registry::alone().await;
    let bob = other.user("bob").await;
    publish(&other, &bob, "app", "9.0.0").await;
    let said = fails(&other.data(), &none, &copy).await;
    assert!(said.contains("secret.key") && is_as_before(), "{said}");
    fs::write(data.join("moved-to-bucket"), "moved").unwrap();
    let said = fails(&data, &none, &copy).await;
    assert!(said.contains("migrate from-bucket"), "{said}");
    assert!(is_as_before());

    let target = folder.path().join("target");
    fine(&target, &none, &["restore", text(&copy)]).await;
    assert_eq!(
        fs::read(tarball(&target, &package)).unwrap(),
        package.tarball
    );
}

#[tokio::test]
async fn what_is_missing_or_damaged_is_named() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let mut apps = Vec::new();
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        apps.push(publish(&registry, &alice, "@a/app", version).await);
    }
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before");
    fine(&data, &none, &["backup", text(&before)]).await;
    // What Verdaccio knows of and has never fetched lacks nothing.
    let dist = json!({ "tarball": "http://localhost/far/-/far-1.0.0.tgz" });
    let far = json!({
        "name": "far", "versions": { "1.0.0": { "name": "far", "version": "1.0.0", "dist": dist } },
        "_distfiles": { "far-1.0.0.tgz": { "url": "http://localhost/far/-/far-1.0.0.tgz" } },
        "_attachments": {}, "dist-tags": { "latest": "1.0.0" },
    });
    let stored = data.join("tarballs/far");
    fs::create_dir(&stored).unwrap();
    fs::write(stored.join("package.json"), far.to_string()).unwrap();
    let said = fine(&data, &none, &["backup", text(&before)]).await;
    assert!(said.contains("never fetched: 1"), "{said}");
    let mut fetched = far.clone();
    fetched["_attachments"] = json!({ "far-1.0.0.tgz": {} });
    fs::write(stored.join("package.json"), fetched.to_string()).unwrap();

    fs::remove_file(tarball(&data, &apps[0])).unwrap();
    damage(&tarball(&data, &apps[1]));
    publish(&registry, &alice, "@a/app", "4.0.0").await;
    let after = folder.path().join("after");
    let far_is_missing = "missing in the source: far/-/far-1.0.0.tgz\n";
    let apps_are = [
        "missing in the source: @a/app/-/app-1.0.0.tgz\n",
        "damaged in the source: @a/app/-/app-2.0.0.tgz\n",
    ];
    let said = fails(&data, &none, &after).await;
    for line in [far_is_missing].into_iter().chain(apps_are) {
        assert!(said.contains(line), "{said}");
        assert!(state(&after).contains(line), "{}", state(&after));
    }
    assert!(state(&after).starts_with("incomplete\n"));
    assert!(!said.contains("app-3.0.0"), "{said}");
    // What an earlier snapshot has is better than damage, or nothing.
    let said = fails(&data, &none, &before).await;
    assert!(said.contains(far_is_missing), "{said}");
    for line in apps_are {
        let unless_verified = line.starts_with("missing");
        let line = format!("from the snapshot before: {line}");
        assert_eq!(said.contains(&line), unless_verified, "{said}");
    }
    assert_eq!(state(&before), format!("incomplete\n{far_is_missing}"));
    for package in &apps {
        let there = fs::read(tarball(&newest(&before), package)).unwrap();
        assert_eq!(there, package.tarball);
    }
    assert!(!tarball(&newest(&after), &apps[1]).exists());
    let target = folder.path().join("target");
    let restore = ["restore", "--incomplete", text(&after)];
    let (said, is_fine) = command(&target, &none, &restore).await;
    assert!(
        !is_fine && said.contains("@a/app/-/app-2.0.0.tgz"),
        "{said}"
    );
    assert_eq!(
        fs::read(tarball(&target, &apps[2])).unwrap(),
        apps[2].tarball
    );
    let restore = ["restore", "--incomplete", "--overwrite", text(&before)];
    command(&target, &none, &restore).await;
    assert_eq!(
        fs::read(tarball(&target, &apps[1])).unwrap(),
        apps[1].tarball
    );
    // Once it is there again, all is well.
    for package in &apps {
        fs::write(tarball(&data, package), &package.tarball).unwrap();
    }
    fs::write(stored.join("package.json"), far.to_string()).unwrap();
    for copy in [&before, &after] {
        fine(&data, &none, &["backup", text(copy)]).await;
        assert_eq!(state(copy), COMPLETE);
    }
}

#[tokio::test]
async fn damage_in_the_target_is_healed_by_restoring() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = publish(&registry, &alice, "app", "1.0.0").await;
    let none = Variables::new();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fine(&registry.data(), &none, &["backup", text(&copy)]).await;
    let target = folder.path().join("target");
    fine(&target, &none, &["restore", text(&copy)]).await;
    damage(&tarball(&target, &package));
    let (said, is_fine) = command(&target, &none, &["restore", text(&copy)]).await;
    assert!(
        !is_fine && said.contains("app/-/app-1.0.0.tgz is another"),
        "{said}"
    );
    fine(&target, &none, &["restore", "--overwrite", text(&copy)]).await;
    assert_eq!(
        fs::read(tarball(&target, &package)).unwrap(),
        package.tarball
    );
}

#[tokio::test]
async fn what_cannot_be_read_stops_nothing_else() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let mut packages = Vec::new();
    // More than go wrong in a row, on both sides.
    for number in 0..20 {
        packages.push(publish(&registry, &alice, &format!("app-{number}"), "1.0.0").await);
    }
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    for number in 0..10 {
        let broken = data.join(format!("tarballs/broken-{number}"));
        fs::create_dir(&broken).unwrap();
        fs::write(broken.join("package.json"), "{").unwrap();
    }
    for number in 0..7 {
        let looped = data.join(format!("tarballs/looped-{number}"));
        fs::create_dir(&looped).unwrap();
        std::os::unix::fs::symlink("package.json", looped.join("package.json")).unwrap();
    }

    let copy = folder.path().join("copy");
    let said = fails(&data, &Variables::new(), &copy).await;
    for number in 0..7 {
        let line = format!("failed: the package `looped-{number}`: ");
        assert!(said.contains(&line), "{said}");
    }
    for number in 0..10 {
        let line = format!("failed: the package `broken-{number}`: ");
        assert!(said.contains(&line), "{said}");
    }
    for package in &packages {
        let there = tarball(&newest(&copy), package);
        assert_eq!(fs::read(&there).unwrap(), package.tarball);
        let manifest = there.with_file_name("package.json");
        assert!(manifest.exists());
    }
    let accounts: Value =
        serde_json::from_slice(&fs::read(newest(&copy).join("state.json")).unwrap()).unwrap();
    assert!(accounts["users"]["alice"].is_object(), "{accounts}");
    let target = folder.path().join("target");
    let restore = ["restore", "--incomplete", text(&copy)];
    fine(&target, &Variables::new(), &restore).await;
    fine(&target, &Variables::new(), &["fsck"]).await;
}

/// Backs up, which does `something` in the middle: a manifest that cannot be read to its end for as long
/// as somebody has it open holds it up.
async fn fails_while(
    data: &Path,
    copy: &Path,
    something: impl FnOnce() + Send + 'static,
) -> String {
    let slow = data.join("tarballs/slow");
    fs::create_dir(&slow).unwrap();
    let manifest = slow.join("package.json");
    let made = Command::new("mkfifo").arg(&manifest).status();
    assert!(made.unwrap().success());
    let meanwhile = tokio::task::spawn_blocking(move || {
        let held = fs::File::options().write(true).open(manifest).unwrap();
        something();
        drop(held);
    });
    let said = fails(data, &Variables::new(), copy).await;
    meanwhile.await.unwrap();
    assert!(said.contains("the package `slow`"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_read_last_and_never_written_to_the_source() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    publish(&registry, &alice, "app", "1.0.0").await;
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    let path = data.join("state.json");
    // As an earlier version has left it: with tokens that are not hashed.
    let mut accounts: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    accounts["auth_tokens"]["raw-token"] = json!({ "user": "alice", "created_at": 1 });
    fs::write(&path, accounts.to_string()).unwrap();
    accounts["users"]["carol"] = accounts["users"]["alice"].clone();
    accounts["auth_tokens"]["raw-token"]["user"] = json!("carol");
    let (later, source) = (accounts.to_string(), path.clone());
    let copy = folder.path().join("copy");
    fails_while(&data, &copy, move || fs::write(source, later).unwrap()).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), accounts.to_string());
    let copied = fs::read_to_string(newest(&copy).join("state.json")).unwrap();
    assert!(!copied.contains("raw-token"), "{copied}");
    let copied: Value = serde_json::from_str(&copied).unwrap();
    assert!(copied["users"]["carol"].is_object(), "{copied}");
    let tokens = copied["auth_tokens"].as_object().unwrap();
    assert!(tokens.values().any(|token| token["user"] == "carol"));
    fs::remove_dir_all(data.join("tarballs/slow")).unwrap();
    fine(&data, &Variables::new(), &["backup", text(&copy)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_goes_away_takes_nothing_from_the_copy() {
    for (gone, what) in [
        (
            "state.json",
            "as they were in the snapshot before: accounts: ",
        ),
        ("tarballs", "the package `slow`"),
    ] {
        let registry = Registry::alone().await;
        let alice = registry.user("alice").await;
        publish(&registry, &alice, "app", "1.0.0").await;
        let folder = registry.stop().await;
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        fine(&data, &Variables::new(), &["backup", text(&copy)]).await;
        let before = newest(&copy);
        let tree_before = tree(&before);
        let (from, to) = (data.join(gone), folder.path().join("gone"));
        let said = fails_while(&data, &copy, move || fs::rename(from, to).unwrap()).await;
        assert!(said.contains(what), "{said}");
        assert!(state(&copy).starts_with("incomplete\n"));
        assert_eq!(tree(&before), tree_before);
        let after = newest(&copy);
        assert_ne!(after, before);
        // It has what the one before has.
        for file in ["state.json", "tarballs/app/package.json"] {
            let (one, other) = (fs::read(before.join(file)), fs::read(after.join(file)));
            assert_eq!(one.unwrap(), other.unwrap());
        }
        let restored = folder.path().join("restored");
        fine(&restored, &Variables::new(), &["restore", text(&copy)]).await;
    }
}

#[cfg(all(feature = "test-services", feature = "postgres"))]
mod in_postgres {
    use super::*;
    use crate::{
        backup::serve,
        support::postgres::{schema, variables},
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_with_folders_of_their_own_make_one_copy() {
        let settings = variables(&schema().await);
        let (one, other) = (serve(None, &settings).await, serve(None, &settings).await);
        let alice = one.user("alice").await;
        let mut packages = vec![
            publish(&one, &alice, "app", "1.0.0").await,
            publish(&other, &alice, "app", "2.0.0").await,
            publish(&other, &alice, "lib", "1.0.0").await,
        ];
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        let said = fails(&one.data(), &settings, &copy).await;
        assert!(
            said.contains("missing in the source: app/-/app-2.0.0.tgz"),
            "{said}"
        );
        assert!(
            said.contains("missing in the source: lib/-/lib-1.0.0.tgz"),
            "{said}"
        );
        assert!(!said.contains("app-1.0.0"), "{said}");
        let backup = ["backup", text(&copy)];
        for node in [&other, &one] {
            fine(&node.data(), &settings, &backup).await;
        }
        // What one of them has published since is only with it.
        packages.push(publish(&one, &alice, "app", "3.0.0").await);
        fails(&other.data(), &settings, &copy).await;
        fine(&one.data(), &settings, &backup).await;
        for package in &packages {
            let there = fs::read(tarball(&newest(&copy), package)).unwrap();
            assert_eq!(there, package.tarball);
        }
        fine(&newest(&copy), &Variables::new(), &["fsck"]).await;
        // What is damaged in a snapshot is found where that is asked for.
        damage(&tarball(&newest(&copy), &packages[1]));
        let verify = ["backup", "--verify", text(&copy)];
        let (said, is_fine) = command(&one.data(), &settings, &verify).await;
        assert!(
            !is_fine && said.contains("missing in the source: app/-/app-2.0.0.tgz"),
            "{said}"
        );
        fine(&other.data(), &settings, &verify).await;
        fine(&newest(&copy), &Variables::new(), &["fsck"]).await;
    }

    #[cfg(feature = "s3")]
    #[tokio::test(flavor = "multi_thread")]
    async fn tarballs_that_move_alone_are_compared_with_what_manifests_say() {
        let bucket = crate::support::bucket::Bucket::s3().await;
        let database = variables(&schema().await);
        let both = [bucket.variables.clone(), database.clone()].concat();
        let registry = serve(None, &database).await;
        let alice = registry.user("alice").await;
        let right = publish(&registry, &alice, "app", "1.0.0").await;
        let bad = publish(&registry, &alice, "app", "2.0.0").await;
        let folder = registry.stop().await;
        let data = folder.path().join("data");
        // As long as what should be there, in a bucket that has been used before, and here.
        let other = vec![0; right.tarball.len()];
        bucket.put("app/app-1.0.0.tgz", other).await;
        damage(&tarball(&data, &bad));
        let (said, is_fine) = command(&data, &both, &["migrate", "to-bucket"]).await;
        assert!(!is_fine, "{said}");
        for line in [
            "left as it is: app/-/app-1.0.0.tgz is another in the target",
            "damaged in the source: app/-/app-2.0.0.tgz",
        ] {
            assert!(said.contains(line), "{said}");
        }
        assert!(!data.join("moved-to-bucket").exists());
        fs::write(tarball(&data, &bad), &bad.tarball).unwrap();
        let again = ["migrate", "to-bucket", "--overwrite"];
        let said = fine(&data, &both, &again).await;
        assert!(
            said.contains("tarballs: 2 moved, 0 there already"),
            "{said}"
        );
        let registry = serve(Some(folder), &both).await;
        for package in [&right, &bad] {
            let got = registry.tarball(package).await.assert(200);
            assert!(got.body == package.tarball, "other bytes");
        }
    }

    #[cfg(feature = "s3")]
    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_with_folders_of_their_own_move_into_one_bucket() {
        let bucket = crate::support::bucket::Bucket::s3().await;
        let database = variables(&schema().await);
        let both = [bucket.variables.clone(), database.clone()].concat();
        let (one, other) = (serve(None, &database).await, serve(None, &database).await);
        let alice = one.user("alice").await;
        let packages = [
            publish(&one, &alice, "app", "1.0.0").await,
            publish(&other, &alice, "app", "2.0.0").await,
        ];
        let (one, other) = (one.stop().await, other.stop().await);
        let move_it = ["migrate", "to-bucket"];
        let (said, is_fine) = command(&one.path().join("data"), &both, &move_it).await;
        assert!(!is_fine, "{said}");
        assert!(
            said.contains("missing in the source: app/-/app-2.0.0.tgz"),
            "{said}"
        );
        fine(&other.path().join("data"), &both, &move_it).await;
        let registry = serve(Some(one), &both).await;
        for package in &packages {
            let got = registry.tarball(package).await.assert(200);
            assert!(got.body == package.tarball, "other bytes");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_that_is_away_or_empty_leaves_the_backup_complete() {
        let settings = variables(&schema().await);
        let registry = serve(None, &settings).await;
        let alice = registry.user("alice").await;
        publish(&registry, &alice, "app", "1.0.0").await;
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fine(&registry.data(), &settings, &["backup", text(&copy)]).await;
        let away = variables("postgres://127.0.0.1:1/none");
        fails(&registry.data(), &away, &copy).await;
        let empty = variables(&schema().await);
        let said = fails(&registry.data(), &empty, &copy).await;
        assert!(said.contains("RUSTACCIO_METADATA_POSTGRES_URL"), "{said}");
        assert_eq!(state(&copy), COMPLETE);
    }
}

#[cfg(all(feature = "test-services", feature = "s3"))]
mod in_a_bucket;
