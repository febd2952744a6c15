//! A bucket with thousands of packages.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};

use super::manifest;
use crate::support::{
    Package,
    bucket::{Bucket, s3_at, s3_endpoint},
    wire::Line,
};

const PACKAGES: usize = 5000;

fn name_of(number: usize) -> String {
    match number % 3 {
        0 => format!("plain-{number}"),
        _ => format!("@scope-{}/app-{number}", number % 7),
    }
}

/// A start costs as much as with an empty bucket, and the first read of a package next to nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_packages_cost_a_start_nothing() {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    // Whose keys are made at the first start.
    let node = bucket.node().await;
    let alice = node.user("alice").await;
    drop(node.stop().await);
    line.take_asked();
    drop(bucket.node().await.stop().await);
    let with_none = line.take_asked();

    let direct = Bucket::of(
        bucket
            .variables
            .iter()
            .map(|(name, value)| match *name {
                "RUSTACCIO_S3_ENDPOINT" => (*name, s3_endpoint()),
                _ => (*name, value.clone()),
            })
            .collect(),
    )
    .await;
    stream::iter(0..PACKAGES)
        .for_each_concurrent(32, async |number| {
            let package = Package::new(&name_of(number), "1.0.0");
            let key = match number % 2 {
                0 => format!("{}/package.json", package.name),
                _ => format!("{}/package.json", package.name.replace('/', "__")),
            };
            direct.put(&key, manifest(&[&package])).await;
        })
        .await;
    let node = bucket.node().await;
    let asked = line.take_asked();
    let is_listing = |line: &&String| line.contains("list-type=") && !line.contains(".rustaccio");
    assert!(asked.iter().find(is_listing).is_none(), "{asked:?}");
    assert!(
        asked.len() <= with_none.len(),
        "{asked:?}, and without packages {with_none:?}"
    );
    for number in [0, 1, 2, 3, 4998, 4999] {
        let name = name_of(number);
        let path = format!("/{}", name.replace('/', "%2f"));
        let shown = node.get(&path).await.assert(200).json();
        assert_eq!(shown["dist-tags"]["latest"], "1.0.0");
        // All packages may be listed meanwhile, in the background.
        let mine = name.rsplit('/').next().unwrap();
        let asked = line.take_asked();
        let reads = asked
            .iter()
            .filter(|line| line.contains(&format!("{mine}/")));
        assert!((1..=3).contains(&reads.count()), "{name}: {asked:?}");
    }
    node.get_as(&alice, "/-/whoami").await.assert(200);
    // A search finds all of them in the end.
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let found = node.get("/-/v1/search?text=&size=1").await.assert(200);
        if found.json()["total"] == PACKAGES {
            break;
        }
        assert!(Instant::now() < patience, "{}", found.json()["total"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
