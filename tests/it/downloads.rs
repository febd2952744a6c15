//! Downloads of tarballs: what is read from memory, from disk and from upstream, and what damage does.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    publishing::registry_with,
    reading::get_with,
    support::{Package, Registry, Upstream, registry::Start},
};

/// Longer than what is kept in memory.
const LONG: usize = 1_500_000;

async fn proxy(upstream: &Upstream, folder: Option<tempfile::TempDir>) -> Registry {
    Registry::with(Start {
        variables: vec![("RUSTACCIO_UPSTREAM", upstream.url.clone())],
        folder,
        ..Start::default()
    })
    .await
}

fn path_of(package: &Package) -> String {
    format!("/{}/-/{}", package.name, package.file())
}

fn hosted(registry: &Registry, package: &Package) -> PathBuf {
    let folder = registry.data().join("tarballs").join(&package.name);
    folder.join(package.file())
}

/// The file of the only tarball in the cache, once it is there.
async fn cached(data: &Path, package: &Package) -> PathBuf {
    let folder = data.join("cache/packages").join(&package.name);
    let looking = async {
        loop {
            let entries = std::fs::read_dir(&folder).into_iter().flatten();
            let mut paths = entries.map(|entry| entry.unwrap().path());
            match paths.find(|path| path.extension().is_some_and(|extension| extension == "tgz")) {
                Some(path) => return path,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), looking).await;
    found.expect("it is not kept")
}

#[tokio::test]
pub(crate) async fn a_short_one_is_read_once() {
    let upstream = Upstream::start().await;
    let (ours, theirs) = (
        Package::heavy("ours", "1.0.0", 300_000),
        Package::heavy("theirs", "1.0.0", 300_000),
    );
    upstream.has(&[&theirs]);
    let registry = proxy(&upstream, None).await;
    let alice = registry.user("alice").await;
    registry.publish(&alice, &ours).await.assert(201);
    for package in [&ours, &theirs] {
        assert_eq!(
            registry.tarball(package).await.assert(200).body,
            package.tarball
        );
    }
    std::fs::remove_file(hosted(&registry, &ours)).unwrap();
    std::fs::remove_file(cached(&registry.data(), &theirs).await).unwrap();
    for package in [&ours, &theirs] {
        let again = registry.tarball(package).await.assert(200);
        assert_eq!(again.body, package.tarball);
        assert_eq!(
            again.header("content-length"),
            Some(&*package.tarball.len().to_string())
        );
        let part = [("range", "bytes=1000-1999")];
        let part = get_with(&registry, &path_of(package), &part).await;
        assert_eq!(part.assert(206).body, package.tarball[1000..2000]);
    }
    assert_eq!(upstream.asked("/theirs/-/theirs-1.0.0.tgz"), 1);
}

#[tokio::test]
pub(crate) async fn one_that_is_read_from_disk_stays_in_memory() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let registry = proxy(&upstream, None).await;
    registry.tarball(&package).await.assert(200);
    let registry = proxy(&upstream, Some(registry.stop().await)).await;
    registry.tarball(&package).await.assert(200);
    std::fs::remove_file(cached(&registry.data(), &package).await).unwrap();
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
    assert_eq!(upstream.asked("/lib/-/lib-1.0.0.tgz"), 1);
}

#[tokio::test]
pub(crate) async fn what_is_unpublished_is_gone_from_memory_too() {
    let package = Package::new("app", "1.0.0");
    let (registry, alice) = registry_with(&[&package]).await;
    let etag = registry.tarball(&package).await.assert(200);
    let etag = etag.header("etag").unwrap().to_owned();
    let document = crate::publishing::for_writing(&registry, &alice, "app").await;
    let revision = document["_rev"].as_str().unwrap();
    let path = format!("/app/-rev/{revision}");
    registry.delete(&alice, &path).await.assert(201);
    registry.tarball(&package).await.assert(404);
    for header in [("range", "bytes=0-3"), ("if-none-match", &*etag)] {
        let answer = get_with(&registry, &path_of(&package), &[header]).await;
        answer.assert(404);
    }
    // The same name with other bytes is another tarball.
    let other = Package::heavy("app", "1.0.0", 1000);
    registry.publish(&alice, &other).await.assert(201);
    assert_eq!(
        registry.tarball(&other).await.assert(200).body,
        other.tarball
    );
}

#[tokio::test]
pub(crate) async fn whoever_has_it_is_told_so_without_a_look_at_it() {
    let package = Package::heavy("app", "1.0.0", LONG);
    let (registry, _) = registry_with(&[&package]).await;
    let etag = registry.tarball(&package).await.assert(200);
    let etag = etag.header("etag").unwrap().to_owned();
    std::fs::remove_file(hosted(&registry, &package)).unwrap();
    let known = [("if-none-match", &*etag)];
    let answer = get_with(&registry, &path_of(&package), &known).await;
    let answer = answer.assert(304);
    assert_eq!(answer.header("etag"), Some(&*etag));
    assert!(answer.header("cache-control").unwrap().contains("private"));
    registry.tarball(&package).await.assert(503);
}

fn damages(good: &[u8]) -> Vec<Vec<u8>> {
    let mut flipped = good.to_vec();
    flipped[good.len() / 2] ^= 1;
    let longer = [good, b"x"].concat();
    let half = good[..good.len() / 2].to_vec();
    vec![flipped, longer, half, vec![0; good.len()], Vec::new()]
}

#[tokio::test]
pub(crate) async fn damage_of_a_hosted_one_is_a_failure() {
    let package = Package::new("app", "1.0.0");
    let (registry, _) = registry_with(&[&package]).await;
    let blob = hosted(&registry, &package);
    for damage in damages(&package.tarball) {
        std::fs::write(&blob, &damage).unwrap();
        let answer = registry.tarball(&package).await.assert(503);
        assert_eq!(answer.json()["code"], "STORAGE_UNAVAILABLE");
        assert_eq!(std::fs::read(&blob).unwrap(), damage, "it is left alone");
    }
    std::fs::write(&blob, &package.tarball).unwrap();
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

#[tokio::test]
pub(crate) async fn a_damaged_one_of_upstream_is_fetched_again() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let registry = proxy(&upstream, None).await;
    registry.tarball(&package).await.assert(200);
    let mut folder = registry.stop().await;
    for (round, damage) in damages(&package.tarball).into_iter().enumerate() {
        let file = cached(&folder.path().join("data"), &package).await;
        std::fs::write(&file, damage).unwrap();
        let registry = proxy(&upstream, Some(folder)).await;
        assert_eq!(
            registry.tarball(&package).await.assert(200).body,
            package.tarball
        );
        assert_eq!(upstream.asked("/lib/-/lib-1.0.0.tgz"), round + 2);
        folder = registry.stop().await;
        assert_eq!(std::fs::read(&file).unwrap(), package.tarball);
    }
}

#[tokio::test]
pub(crate) async fn a_long_one_that_shrinks_while_it_is_read_breaks_off() {
    let package = Package::heavy("app", "1.0.0", LONG);
    let (registry, _) = registry_with(&[&package]).await;
    // Longer than what fits between the two.
    let blob = File::options()
        .write(true)
        .open(hosted(&registry, &package))
        .unwrap();
    blob.set_len(256 << 20).unwrap();
    let url = format!("{}{}", registry.url, path_of(&package));
    let mut response = registry.client.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.content_length(), Some(256 << 20));
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!(first, package.tarball[..first.len()]);
    blob.set_len(1000).unwrap();
    response.bytes().await.unwrap_err();
}

/// Serves `package` in steps of 100 kB, as many as `steps` has.
fn steps(upstream: &Upstream, package: &Package, steps: &Arc<Semaphore>) {
    let (bytes, steps) = (Bytes::from(package.tarball.clone()), Arc::clone(steps));
    upstream.plays(&path_of(package), move |_| {
        let (bytes, steps) = (bytes.clone(), Arc::clone(&steps));
        async move {
            let length = bytes.len();
            let pieces = stream::unfold(0, move |at| {
                let (bytes, steps) = (bytes.clone(), Arc::clone(&steps));
                async move {
                    steps.acquire().await.unwrap().forget();
                    let end = (at + 100_000).min(length);
                    (at < length).then(|| (Ok::<_, std::io::Error>(bytes.slice(at..end)), end))
                }
            });
            let headers = [(header::CONTENT_LENGTH, length.to_string())];
            (headers, Body::from_stream(pieces)).into_response()
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(crate) async fn who_comes_late_catches_up_with_those_who_follow() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 4_000_000);
    upstream.has(&[&package]);
    let gate = Arc::new(Semaphore::new(0));
    steps(&upstream, &package, &gate);
    let registry = proxy(&upstream, None).await;
    registry.get("/lib").await.assert(200);
    let url = format!("{}{}", registry.url, path_of(&package));
    let get = async || {
        let client = registry.client.clone();
        client.get(&url).send().await.unwrap()
    };
    gate.add_permits(20);
    let mut follower = get().await;
    let mut seen = Vec::new();
    while seen.len() < 1_500_000 {
        seen.extend_from_slice(&follower.chunk().await.unwrap().unwrap());
    }
    let mut readers = JoinSet::new();
    for _ in 0..10 {
        let late = get().await;
        readers.spawn(async move { late.bytes().await.unwrap() });
    }
    gate.add_permits(100);
    for whole in readers.join_all().await {
        assert!(whole == package.tarball);
    }
    while let Some(chunk) = follower.chunk().await.unwrap() {
        seen.extend_from_slice(&chunk);
    }
    assert!(seen == package.tarball);
    assert_eq!(upstream.asked(&path_of(&package)), 1);
}
