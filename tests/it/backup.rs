//! `rustaccio backup` and `rustaccio restore`, and moving into a bucket: nothing that was acknowledged
//! is missing, and all of it can be verified.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use reqwest::StatusCode;

use crate::support::{Package, Registry, process::Process, registry::Start};

pub(crate) type Variables = Vec<(&'static str, String)>;

/// A command on the data folder with these settings: what it says, and whether it ended well.
pub(crate) async fn command(
    data: &Path,
    variables: &Variables,
    arguments: &[&str],
) -> (String, bool) {
    let pairs: Vec<_> = variables.iter().map(|(n, v)| (*n, &**v)).collect();
    let mut command = Process::command(data, &pairs);
    command.args(arguments);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap());
    let done = done.await.unwrap();
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    (said, done.status.success())
}

pub(crate) async fn fine(data: &Path, variables: &Variables, arguments: &[&str]) -> String {
    let (said, is_fine) = command(data, variables, arguments).await;
    assert!(is_fine, "{arguments:?}: {said}");
    // A pipe is no terminal.
    assert!(!said.contains('\r'), "{said}");
    said
}

/// The snapshots in `copy`, oldest first.
pub(crate) fn snapshots(copy: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(copy).unwrap() {
        let path = entry.unwrap().path();
        let is_made = path
            .extension()
            .is_none_or(|extension| extension != "partial");
        if is_made && path.join("rustaccio-backup").exists() {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The newest snapshot in `copy`.
pub(crate) fn newest(copy: &Path) -> PathBuf {
    snapshots(copy).pop().unwrap()
}

pub(crate) async fn serve(folder: Option<tempfile::TempDir>, variables: &Variables) -> Registry {
    Registry::with(Start {
        variables: variables.clone(),
        folder,
        ..Start::default()
    })
    .await
}

/// A backup of a registry that is written to all the time, restored into nothing.
async fn is_whole(source: Variables, target: Variables) {
    const BEFORE: u32 = 10;
    let registry = serve(None, &source).await;
    let alice = registry.user("alice").await;
    for version in 0..BEFORE {
        let package = Package::new("@team/app", &format!("{version}.0.0"));
        registry.publish(&alice, &package).await.assert(201);
    }
    let doomed = Package::new("doomed", "1.0.0");
    registry.publish(&alice, &doomed).await.assert(201);
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    let copy_text = copy.to_str().unwrap();
    let is_over = AtomicBool::new(false);
    let published = AtomicU32::new(BEFORE);
    let writing = async {
        while !is_over.load(Ordering::Relaxed) {
            let version = published.load(Ordering::Relaxed);
            let package = Package::new("@team/app", &format!("{version}.0.0"));
            registry.publish(&alice, &package).await.assert(201);
            published.store(version + 1, Ordering::Relaxed);
            let passing = Package::new(&format!("passing-{version}"), "1.0.0");
            registry.publish(&alice, &passing).await.assert(201);
            let path = format!("/passing-{version}/-rev/any");
            registry.delete(&alice, &path).await.assert(201);
        }
    };
    let data = registry.data();
    let backing_up = async {
        let said = fine(&data, &source, &["backup", copy_text]).await;
        assert!(said.contains("is complete"), "{said}");
        let acknowledged = published.load(Ordering::Relaxed);
        // The second one has most of it already.
        fine(&data, &source, &["backup", copy_text]).await;
        is_over.store(true, Ordering::Relaxed);
        acknowledged
    };
    let ((), acknowledged) = tokio::join!(writing, backing_up);
    registry
        .delete(&alice, "/doomed/-rev/any")
        .await
        .assert(201);
    drop(registry);

    // It is a data folder, which serves as it is.
    let none = Variables::new();
    for snapshot in snapshots(&copy) {
        fine(&snapshot, &none, &["fsck"]).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let said = fine(&data, &target, &["restore", copy_text]).await;
    assert!(said.contains("everything was restored"), "{said}");
    let said = fine(&data, &target, &["restore", copy_text]).await;
    assert!(said.contains("packages: 0 moved"), "{said}");
    assert!(said.contains("organisations: 0 moved"), "{said}");
    fine(&data, &target, &["fsck"]).await;
    let registry = serve(Some(folder), &target).await;
    for version in 0..acknowledged {
        let package = Package::new("@team/app", &format!("{version}.0.0"));
        let got = registry.tarball(&package).await.assert(200);
        assert!(got.body == package.tarball, "other bytes");
    }
    registry.tarball(&doomed).await.assert(200);
    let whoami = registry.get_as(&alice, "/-/whoami").await;
    assert_eq!(whoami.status, StatusCode::OK);
    let next = Package::new("@team/app", "10000.0.0");
    registry.publish(&alice, &next).await.assert(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_folder_in_use_is_whole() {
    is_whole(Variables::new(), Variables::new()).await;
}

#[tokio::test]
async fn only_a_whole_backup_is_restored_and_only_a_folder_of_its_own_is_written() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let (data, none) = (registry.data(), Variables::new());
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("mine"), "precious").unwrap();
    let text = other.path().to_str().unwrap();
    let (said, is_fine) = command(&data, &none, &["backup", text]).await;
    assert!(
        !is_fine && said.contains("something that is no snapshot: mine"),
        "{said}"
    );
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    let target = other.path().join("target");
    let (said, is_fine) = command(&target, &none, &["restore", text]).await;
    assert!(!is_fine && said.contains("is no backup"), "{said}");
    // Earlier versions had one copy in the folder itself.
    let copy = other.path().join("copy");
    let text = copy.to_str().unwrap();
    fine(&data, &none, &["backup", text]).await;
    let old = newest(&copy);
    let old_text = old.to_str().unwrap();
    let mark = old.join("rustaccio-backup");
    fs::write(&mark, "begun, and not complete\n").unwrap();
    let restore = ["restore", "--incomplete", old_text];
    let (said, is_fine) = command(&target, &none, &restore).await;
    assert!(!is_fine && said.contains("broken off"), "{said}");
    fs::write(&mark, "usable, and not complete\n").unwrap();
    let (said, is_fine) = command(&target, &none, &["restore", old_text]).await;
    assert!(!is_fine && said.contains("--incomplete"), "{said}");
    fs::write(&mark, "complete\n").unwrap();
    fine(&target, &none, &["restore", old_text]).await;
    let (said, is_fine) = command(&data, &none, &["backup", old_text]).await;
    assert!(!is_fine && said.contains("earlier version"), "{said}");
}

#[cfg(all(feature = "test-services", feature = "s3"))]
mod in_a_bucket {
    use super::*;
    use crate::support::bucket::Bucket;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_of_a_bucket_in_use_is_whole() {
        let (source, target) = (Bucket::s3().await, Bucket::s3().await);
        is_whole(source.variables.clone(), target.variables.clone()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_moves_into_a_bucket_and_back() {
        let bucket = Bucket::s3().await;
        let registry = Registry::alone().await;
        let alice = registry.user("alice").await;
        let packages = ["app", "@a/b__c"].map(|name| Package::new(name, "1.0.0"));
        for package in &packages {
            registry.publish(&alice, package).await.assert(201);
        }
        let folder = registry.stop().await;
        let data = folder.path().join("data");
        let said = fine(&data, &bucket.variables, &["migrate", "to-bucket"]).await;
        assert!(
            said.contains("tarballs: 2 moved, 0 there already"),
            "{said}"
        );
        let again = ["migrate", "to-bucket", "--overwrite"];
        let said = fine(&data, &bucket.variables, &again).await;
        assert!(said.contains("nothing was changed"), "{said}");
        // What is of before is not served as if it were of now.
        let (said, is_fine) = command(&data, &Variables::new(), &[]).await;
        assert!(!is_fine && said.contains("migrate from-bucket"), "{said}");
        let copy = folder.path().join("copy");
        let backup = ["backup", copy.to_str().unwrap()];
        let (said, is_fine) = command(&data, &Variables::new(), &backup).await;
        assert!(!is_fine && said.contains("migrate from-bucket"), "{said}");
        let registry = serve(Some(folder), &bucket.variables).await;
        let whoami = registry.get_as(&alice, "/-/whoami").await;
        assert_eq!(whoami.status, StatusCode::OK);
        for package in &packages {
            let got = registry.tarball(package).await.assert(200);
            assert_eq!(got.body, package.tarball);
        }
        let next = Package::new("app", "2.0.0");
        registry.publish(&alice, &next).await.assert(201);
        let folder = registry.stop().await;
        let back = ["migrate", "from-bucket", "--overwrite"];
        fine(&data, &bucket.variables, &back).await;
        let (said, is_fine) = command(&data, &bucket.variables, &[]).await;
        assert!(!is_fine && said.contains("migrate to-bucket"), "{said}");
        let (said, is_fine) = command(&data, &bucket.variables, &backup).await;
        assert!(!is_fine && said.contains("migrate to-bucket"), "{said}");
        assert!(!copy.exists());
        fine(&data, &Variables::new(), &["fsck"]).await;
        let registry = serve(Some(folder), &Variables::new()).await;
        assert_eq!(registry.tarball(&next).await.assert(200).body, next.tarball);
    }
}

#[cfg(all(feature = "test-services", feature = "postgres"))]
mod in_postgres {
    use super::*;
    use crate::support::postgres::{schema, variables};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_of_postgres_in_use_is_whole() {
        let (source, target) = (schema().await, schema().await);
        is_whole(variables(&source), variables(&target)).await;
    }

    #[cfg(feature = "s3")]
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_a_bucket_goes_into_postgres_and_back() {
        let bucket = crate::support::bucket::Bucket::s3().await;
        let url = schema().await;
        let registry = serve(None, &bucket.variables).await;
        let alice = registry.user("alice").await;
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
        let folder = registry.stop().await;
        let data = folder.path().join("data");
        let both = [bucket.variables.clone(), variables(&url)].concat();
        // Not before it is there: packages would be rebuilt without their restrictions.
        let (said, is_fine) = command(&data, &both, &[]).await;
        assert!(!is_fine && said.contains("migrate to-postgres"), "{said}");
        for text in ["packages: 1 moved, 0 there already", "nothing was changed"] {
            let said = fine(&data, &both, &["migrate", "to-postgres"]).await;
            assert!(said.contains(text), "{said}");
        }
        let (said, is_fine) = command(&data, &bucket.variables, &[]).await;
        assert!(!is_fine && said.contains("migrate from-postgres"), "{said}");
        let registry = serve(Some(folder), &both).await;
        let whoami = registry.get_as(&alice, "/-/whoami").await;
        assert_eq!(whoami.status, StatusCode::OK);
        let next = Package::new("app", "2.0.0");
        registry.publish(&alice, &next).await.assert(201);
        let folder = registry.stop().await;
        fine(&data, &both, &["migrate", "from-postgres", "--overwrite"]).await;
        let registry = serve(Some(folder), &bucket.variables).await;
        assert_eq!(registry.tarball(&next).await.assert(200).body, next.tarball);
    }
}
