//! Backups of buckets that refuse, change meanwhile, or are empty.

use super::*;
use crate::{
    backup::serve,
    support::{bucket::Bucket, front::Front},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tarball_that_cannot_be_read_stops_nothing_else() {
    let bucket = Bucket::s3().await;
    let registry = serve(None, &bucket.variables).await;
    let alice = registry.user("alice").await;
    let bad = publish(&registry, &alice, "app", "1.0.0").await;
    let good = [
        publish(&registry, &alice, "app", "2.0.0").await,
        publish(&registry, &alice, "lib", "1.0.0").await,
    ];
    let (front, through) = through_a_front(&bucket).await;
    front.refuse("app-1.0.0.tgz");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let said = fails(&registry.data(), &through, &copy).await;
    assert!(said.contains("failed: app/-/app-1.0.0.tgz: "), "{said}");
    let snapshot = newest(&copy);
    for package in &good {
        let there = fs::read(tarball(&snapshot, package)).unwrap();
        assert_eq!(there, package.tarball);
    }
    assert!(!tarball(&snapshot, &bad).exists());
    let manifest = fs::read_to_string(snapshot.join("tarballs/app/package.json")).unwrap();
    assert!(manifest.contains("app-2.0.0.tgz"), "{manifest}");
    let accounts = fs::read_to_string(newest(&copy).join("state.json")).unwrap();
    assert!(accounts.contains("alice"), "{accounts}");
    fine(
        &registry.data(),
        &bucket.variables,
        &["backup", text(&copy)],
    )
    .await;
    let there = fs::read(tarball(&newest(&copy), &bad)).unwrap();
    assert_eq!(there, bad.tarball);
}

/// A proxy before the store of `bucket`, and the variables of a registry behind it.
async fn through_a_front(bucket: &Bucket) -> (Front, Variables) {
    let mut through = bucket.variables.clone();
    let (_, endpoint) = through
        .iter_mut()
        .find(|(name, _)| *name == "RUSTACCIO_S3_ENDPOINT")
        .unwrap();
    let front = Front::before(endpoint).await;
    endpoint.clone_from(&front.url);
    (front, through)
}

/// Its manifest is read anew when a tarball of it is gone: what it names is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_changes_meanwhile_is_taken_as_it_is_then() {
    let bucket = Bucket::s3().await;
    let registry = serve(None, &bucket.variables).await;
    let alice = registry.user("alice").await;
    let old = publish(&registry, &alice, "app", "1.0.0").await;
    let (front, through) = through_a_front(&bucket).await;
    let held = front.hold("app-1.0.0.tgz");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let backup = ["backup", text(&copy)];
    let data = registry.data();
    let meanwhile = async {
        held.comes().await;
        let new = publish(&registry, &alice, "app", "2.0.0").await;
        crate::snapshots::unpublish(&registry, &alice, &old).await;
        held.release();
        new
    };
    let (_, new) = tokio::join!(fine(&data, &through, &backup), meanwhile);
    let snapshot = newest(&copy);
    assert_eq!(fs::read(tarball(&snapshot, &new)).unwrap(), new.tarball);
    fine(&snapshot, &Variables::new(), &["fsck"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_bucket_is_not_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let said = fails(&data, &Bucket::s3().await.variables, &copy).await;
    assert!(said.contains("RUSTACCIO_S3_BUCKET"), "{said}");
    assert!(!copy.exists());
}
