//! Snapshots that `rustaccio backup` makes: none of them ever changes another, and none is worse than the
//! one before.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    backup::{Variables, command, fine, newest, serve, snapshots},
    backup_faults::{damage, fails, publish, tarball, text, tree},
    support::{Package, Registry, User},
};

/// The same version with other bytes.
fn other_bytes(name: &str, version: &str) -> Package {
    Package::with(name, version, &json!({}), &[("index.js", b"// other\n")])
}

pub(crate) async fn unpublish(registry: &Registry, user: &User, package: &Package) {
    let path = format!("/{}/-/{}/-rev/any", package.name, package.file());
    registry.delete(user, &path).await.assert(201);
}

fn state(snapshot: &Path) -> String {
    fs::read_to_string(snapshot.join("rustaccio-backup")).unwrap()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Files and their modes and times, for what nothing may touch.
fn modes(folder: &Path) -> BTreeMap<PathBuf, (u32, i64)> {
    let files = tree(folder).into_keys().map(|path| {
        let metadata = fs::metadata(&path).unwrap();
        (path, (metadata.permissions().mode(), metadata.mtime_nsec()))
    });
    files.collect()
}

/// Serves the snapshot itself.
async fn serve_snapshot(snapshot: &Path) -> Registry {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(snapshot, folder.path().join("data")).unwrap();
    serve(Some(folder), &Variables::new()).await
}

#[tokio::test]
async fn each_tarball_is_on_the_disk_once_and_serving_a_snapshot_changes_no_other() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let one = publish(&registry, &alice, "app", "1.0.0").await;
    let two = publish(&registry, &alice, "app", "2.0.0").await;
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let backup = ["backup", text(&copy)];
    fine(&data, &none, &backup).await;
    let said = fine(&data, &none, &backup).await;
    assert!(
        said.contains("tarballs: 0 copied, 2 in an earlier"),
        "{said}"
    );
    let (first, served) = (snapshots(&copy)[0].clone(), newest(&copy));
    let of = |snapshot: &Path| inode(&tarball(snapshot, &one));
    assert_eq!(of(&first), of(&served));
    assert_ne!(of(&first), of(&data));

    let before = tree(&first);
    let again = serve_snapshot(&served).await;
    publish(&again, &alice, "app", "3.0.0").await;
    publish(&again, &alice, "only-there", "1.0.0").await;
    unpublish(&again, &alice, &one).await;
    unpublish(&again, &alice, &two).await;
    let republished = other_bytes("app", "2.0.0");
    again.publish(&alice, &republished).await.assert(201);
    again.user("carl").await;
    // What it has is another's by now, and what is common is right.
    fine(&data, &none, &["backup", "--keep", "1", text(&copy)]).await;
    again.stop().await;
    fine(&served, &none, &["fsck", "--repair"]).await;
    // Nobody serves it now, and it is still somebody's.
    fine(&data, &none, &["backup", "--keep", "1", text(&copy)]).await;
    for (path, bytes) in before {
        // The first one was removed as it was; the one that was served is left.
        assert!(!path.exists(), "{}: {}", path.display(), bytes.len());
    }
    assert_eq!(
        fs::read(tarball(&served, &two)).unwrap(),
        republished.tarball
    );
    assert!(served.join("tarballs/only-there/package.json").exists());
    let last = newest(&copy);
    assert_eq!(state(&last), "complete\n");
    for package in [&one, &two] {
        assert_eq!(fs::read(tarball(&last, package)).unwrap(), package.tarball);
    }
    assert!(!last.join("tarballs/only-there").exists());
    let accounts = fs::read_to_string(last.join("state.json")).unwrap();
    assert!(!accounts.contains("carl"), "{accounts}");
    fine(&last, &none, &["fsck"]).await;
}

#[tokio::test]
async fn what_is_done_in_a_snapshot_reaches_no_other() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let one = publish(&registry, &alice, "app", "1.0.0").await;
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let backup = ["backup", text(&copy)];
    for _ in 0..3 {
        fine(&data, &none, &backup).await;
    }
    let all = snapshots(&copy);
    let others = [&all[0], &all[2]];
    let before = others.map(|other| tree(other));
    let again = serve_snapshot(&all[1]).await;
    unpublish(&again, &alice, &one).await;
    let republished = other_bytes("app", "1.0.0");
    again.publish(&alice, &republished).await.assert(201);
    again.stop().await;
    damage(&tarball(&all[1], &republished));
    command(&all[1], &none, &["fsck", "--repair"]).await;
    fine(&data, &none, &backup).await;
    assert_eq!(others.map(|other| tree(other)), before);
}

#[tokio::test]
async fn another_registry_is_refused_whatever_tells_it() {
    const KEY: &str = "RUSTACCIO_SECRET_KEY";
    let (none, own) = (
        Variables::new(),
        vec![(KEY, "a-key-of-its-own-that-is-long-enough".to_owned())],
    );
    let with_file = serve(None, &none).await;
    let with_given = serve(None, &own).await;
    let other_given = serve(None, &own).await;
    let all = [
        (&with_file, &none),
        (&with_given, &own),
        (&other_given, &own),
    ];
    for (registry, _) in all {
        let alice = registry.user("alice").await;
        publish(registry, &alice, "app", "1.0.0").await;
    }
    for (registry, variables) in all {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fine(&registry.data(), variables, &["backup", text(&copy)]).await;
        let before = tree(&copy);
        for (other, variables) in all {
            if other.data() != registry.data() {
                let said = fails(&other.data(), variables, &copy).await;
                assert!(said.contains("key"), "{said}");
                assert_eq!(tree(&copy), before);
            }
        }
    }
    // Neither within the data folder, nor around it.
    let data = with_file.data();
    for inside in [data.clone(), data.join("backups"), data.join("..")] {
        let said = fails(&data, &none, &inside).await;
        assert!(said.contains("lies within the other"), "{said}");
    }
    assert!(!data.join("backups").exists());
}

#[tokio::test]
async fn two_backups_at_a_time_do_not_go_into_one_folder() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let folder = tempfile::tempdir().unwrap();
    let lock = fs::File::create(folder.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let said = fails(&registry.data(), &Variables::new(), folder.path()).await;
    assert!(said.contains("another backup may be going"), "{said}");
    assert!(snapshots(folder.path()).is_empty());
}

#[tokio::test]
async fn a_version_that_cannot_be_had_spoils_no_earlier_snapshot() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let mut old = Vec::new();
    for version in ["0.9.0", "1.0.0", "1.1.0"] {
        old.push(publish(&registry, &alice, "app", version).await);
    }
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fine(&data, &none, &["backup", text(&copy)]).await;
    let (first, before) = (newest(&copy), tree(&copy));
    let mut new = Vec::new();
    for package in &old[1..] {
        unpublish(&registry, &alice, package).await;
        let again = other_bytes("app", &package.version);
        registry.publish(&alice, &again).await.assert(201);
        new.push(again);
    }
    unpublish(&registry, &alice, &old[0]).await;
    let (there, aside) = (tarball(&data, &new[1]), folder.path().join("aside"));
    fs::rename(&there, &aside).unwrap();
    let said = fails(&data, &none, &copy).await;
    assert!(
        said.contains("missing in the source: app/-/app-1.1.0.tgz"),
        "{said}"
    );
    let second = newest(&copy);
    assert_eq!(fs::read(tarball(&second, &new[0])).unwrap(), new[0].tarball);
    assert!(!tarball(&second, &new[1]).exists());
    assert!(!tarball(&second, &old[0]).exists());
    let kept = tree(&first);
    assert!(
        before
            .iter()
            .all(|(path, bytes)| kept.get(path) == Some(bytes))
    );
    // The newest complete one is what is restored.
    let target = folder.path().join("target");
    let said = fine(&target, &none, &["restore", text(&copy)]).await;
    assert!(
        said.contains(text(&first)) && said.contains("incomplete"),
        "{said}"
    );
    fine(&target, &none, &["fsck"]).await;
    let newer = folder.path().join("newer");
    let restore = ["restore", "--incomplete", text(&copy)];
    let (said, is_fine) = command(&newer, &none, &restore).await;
    assert!(!is_fine && said.contains(text(&second)), "{said}");
    fs::rename(&aside, &there).unwrap();
    fine(&data, &none, &["backup", text(&copy)]).await;
    fine(&newest(&copy), &none, &["fsck"]).await;
}

#[tokio::test]
async fn a_package_whose_manifest_is_lost_is_kept_and_named() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = publish(&registry, &alice, "app", "1.0.0").await;
    publish(&registry, &alice, "lib", "1.0.0").await;
    let source = registry.stop().await;
    let (data, none) = (source.path().join("data"), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    fine(&data, &none, &["backup", text(&before)]).await;
    let manifest = data.join("tarballs/app/package.json");
    let json = fs::read(&manifest).unwrap();
    let later = other_bytes("app", "1.0.1");
    fs::write(tarball(&data, &later), &later.tarball).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::write(&manifest, "{").unwrap();
        } else {
            fs::remove_file(&manifest).unwrap();
        }
        let said = fails(&data, &none, &before).await;
        let line = "as it was in the snapshot before: the package `app`: ";
        assert!(said.contains(line), "{said}");
        let kept = newest(&before).join("tarballs/app/package.json");
        assert_eq!(fs::read(kept).unwrap(), json);
        let said = fails(&data, &none, &after).await;
        let line = "without its manifest: the package `app`: ";
        assert!(
            said.contains(line) && state(&newest(&after)).contains(line),
            "{said}"
        );
        for snapshot in [newest(&before), newest(&after)] {
            for package in [&package, &later] {
                let there = fs::read(tarball(&snapshot, package)).unwrap();
                assert_eq!(there, package.tarball);
            }
        }
    }
    // A start recovers it.
    let target = tempfile::tempdir().unwrap();
    let restored = target.path().join("data");
    let restore = ["restore", "--incomplete", text(&after)];
    fine(&restored, &none, &restore).await;
    let registry = serve(Some(target), &none).await;
    let got = registry.tarball(&package).await.assert(200);
    assert!(got.body == package.tarball, "other bytes");
    // What is gone altogether was lost: an unpublished package leaves its name.
    fs::remove_dir_all(data.join("tarballs/app")).unwrap();
    let said = fails(&data, &none, &before).await;
    assert!(
        said.contains("the package `app`: its manifest is not there"),
        "{said}"
    );
    let there = fs::read(tarball(&newest(&before), &package)).unwrap();
    assert_eq!(there, package.tarball);
}

#[tokio::test]
async fn only_as_many_complete_snapshots_stay_as_are_asked_for() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = publish(&registry, &alice, "app", "1.0.0").await;
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let backup = ["backup", text(&copy)];
    let keep = ["backup", "--keep", "2", text(&copy)];
    for _ in 0..3 {
        fine(&data, &none, &backup).await;
    }
    let all = snapshots(&copy);
    assert_eq!(all.len(), 3);
    let lib = publish(&registry, &alice, "lib", "1.0.0").await;
    let aside = folder.path().join("aside");
    fs::rename(tarball(&data, &lib), &aside).unwrap();
    // An incomplete one removes nothing.
    let (said, is_fine) = command(&data, &none, &keep).await;
    assert!(!is_fine && snapshots(&copy).len() == 4, "{said}");
    fs::rename(&aside, tarball(&data, &lib)).unwrap();
    fine(&data, &none, &keep).await;
    let left = snapshots(&copy);
    assert_eq!(left.len(), 3);
    assert_eq!(left[0], all[2]);
    fine(&data, &none, &keep).await;
    assert_eq!(snapshots(&copy).len(), 2);
    let there = fs::read(tarball(&newest(&copy), &package)).unwrap();
    assert_eq!(there, package.tarball);
}

#[tokio::test]
async fn nothing_is_written_to_the_source() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    publish(&registry, &alice, "app", "1.0.0").await;
    let source = registry.stop().await;
    let data = source.path().join("data");
    fs::remove_dir_all(data.join("locks")).unwrap();
    for file in ["state.json", "secret.key", "signing-keys.json"] {
        let open = fs::Permissions::from_mode(0o640);
        fs::set_permissions(data.join(file), open).unwrap();
    }
    let before = modes(&data);
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    for _ in 0..2 {
        fine(&data, &Variables::new(), &["backup", text(&copy)]).await;
    }
    assert_eq!(modes(&data), before);
    assert!(!data.join("locks").exists());
    for file in ["state.json", "secret.key", "signing-keys.json"] {
        let mode = fs::metadata(newest(&copy).join(file)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn damage_in_a_snapshot_is_found_where_that_is_asked_for() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = publish(&registry, &alice, "app", "1.0.0").await;
    let (data, none) = (registry.data(), Variables::new());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fine(&data, &none, &["backup", text(&copy)]).await;
    damage(&tarball(&newest(&copy), &package));
    let said = fine(&data, &none, &["backup", "--verify", text(&copy)]).await;
    assert!(said.contains("1 copied, 0 in an earlier"), "{said}");
    fine(&newest(&copy), &none, &["fsck"]).await;
}

#[cfg(feature = "crash-points")]
#[tokio::test]
async fn a_backup_that_is_killed_leaves_the_others_as_they_were() {
    for point in crate::crash::SNAPSHOT_POINTS {
        let registry = Registry::alone().await;
        let alice = registry.user("alice").await;
        let one = publish(&registry, &alice, "app", "1.0.0").await;
        let gone = publish(&registry, &alice, "app", "1.1.0").await;
        let (data, none) = (registry.data(), Variables::new());
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fine(&data, &none, &["backup", text(&copy)]).await;
        let first = newest(&copy);
        let before = tree(&first);
        unpublish(&registry, &alice, &gone).await;
        publish(&registry, &alice, "lib", "1.0.0").await;
        let crash = vec![("RUSTACCIO_CRASH_AT", format!("{point}:1"))];
        fails(&data, &crash, &copy).await;
        let is_placed = point == "snapshot-placed";
        assert_eq!(
            snapshots(&copy).len(),
            1 + usize::from(is_placed),
            "{point}"
        );
        assert_eq!(fs::read_dir(&copy).unwrap().count(), 3, "{point}");
        assert_eq!(tree(&first), before);
        let target = folder.path().join("target");
        fine(&target, &none, &["restore", text(&copy)]).await;
        // The next one is fine, and nothing is left over.
        fine(&data, &none, &["backup", text(&copy)]).await;
        let last = newest(&copy);
        assert_eq!(state(&last), "complete\n");
        assert!(tarball(&last, &one).exists() && !tarball(&last, &gone).exists());
        assert_eq!(tree(&first), before);
        for entry in fs::read_dir(&copy).unwrap() {
            let path = entry.unwrap().path();
            assert!(!text(&path).ends_with(".partial"), "{point}");
        }
        fine(&last, &none, &["fsck"]).await;
        let manifest = fs::read(last.join("tarballs/app/package.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert!(manifest["versions"]["1.1.0"].is_null(), "{manifest}");
    }
}
