//! What came from upstream may be deleted, damaged, shared, or impossible to keep; upstream has it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use reqwest::Method;
use rustaccio::{lifecycle::ManualClock, models::Timestamp};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use crate::support::{Answer, Package, Registry, Upstream, pipe::Pipe, registry::Start};

/// A document is asked about each time.
async fn proxy(upstream: &Upstream) -> Registry {
    Registry::with_file(&settings(upstream)).await
}

fn settings(upstream: &Upstream) -> String {
    format!(
        "uplinks:\n  default:\n    url: {}\n    maxage: 0s\n    max_fails: 1000\n",
        upstream.url
    )
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let found = entries.map(|entry| entry.unwrap().path()).map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path.display().to_string()]
        }
    });
    found.flatten().collect()
}

/// Deletes a folder that somebody still writes to.
async fn delete(folder: &Path) {
    let deleting = async {
        while folder.exists() {
            let _ = std::fs::remove_dir_all(folder);
            tokio::task::yield_now().await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), deleting).await;
    done.expect("it comes back for ever");
}

#[tokio::test]
async fn it_may_be_deleted_at_any_time() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let clock = ManualClock::at(Timestamp::from_unix_millis(1_800_000_000_000));
    let registry = Registry::with(Start {
        file: &settings(&upstream),
        clock: Some(Arc::clone(&clock)),
        ..Start::default()
    })
    .await;
    let cache = registry.data().join("cache");
    let first = registry.get("/lib").await.assert(200);
    registry.tarball(&package).await.assert(200);
    for _ in 0..2 {
        delete(&cache).await;
        let again = registry.get("/lib").await.assert(200);
        assert_eq!(again.header("warning"), None);
        assert_eq!(again.body, first.body);
        let bytes = registry.tarball(&package).await.assert(200);
        assert_eq!(bytes.body, package.tarball);
    }
    // What is asked for again is kept again, and serves when upstream is gone. A short tarball is
    // in memory, and looked for on disk now and then.
    clock.advance(Duration::from_secs(60));
    for _ in 0..2 {
        registry.get("/lib").await.assert(200);
        registry.tarball(&package).await.assert(200);
    }
    assert_eq!(upstream.asked("/lib/-/lib-1.0.0.tgz"), 1);
    upstream.stop().await;
    let folder = registry.stop().await;
    let file = "uplinks:\n  default:\n    url: http://127.0.0.1:9\n";
    let registry = Registry::with(Start {
        file,
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    registry.get("/lib").await.assert(200);
    registry.tarball(&package).await.assert(200);
}

#[tokio::test]
async fn without_it_everything_is_asked_upstream() {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0"));
    let cold = Package::heavy("cold", "1.0.0", 1_000_000);
    upstream.has(&[&one]);
    upstream.has(&[&cold]);
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(200);
    let cache = registry.data().join("cache");
    // Until what still runs in the background does not make it again.
    while std::fs::write(&cache, b"in the way").is_err() {
        delete(&cache).await;
    }
    for _ in 0..2 {
        registry.get("/lib").await.assert(200);
        registry.get("/cold").await.assert(200);
        assert_eq!(registry.tarball(&cold).await.assert(200).body, cold.tarball);
        let head = registry.request(Method::HEAD, "/lib/-/lib-1.0.0.tgz");
        registry.send(head).await.assert(200);
    }
    upstream.has(&[&one, &two]);
    registry.get("/lib/2.0.0").await.assert(200);
    assert_eq!(registry.tarball(&two).await.assert(200).body, two.tarball);
    registry.get("/never").await.assert(404);
    upstream.forgets("/lib");
    registry.get("/lib").await.assert(404);
    // And a failure is one.
    upstream.fails("/other", 500);
    registry.get("/other").await.assert(502);
}

/// Asks until the answer is as wanted: the registry does something behind the client's back.
async fn until(registry: &Registry, path: &str, is_right: impl Fn(&Answer) -> bool) {
    let asking = async {
        while !is_right(&registry.get(path).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), asking).await;
    done.expect("it never came");
}

#[tokio::test]
async fn an_answer_that_comes_late_counts_all_the_same() {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0"));
    let gone = Package::new("gone", "1.0.0");
    upstream.has(&[&one]);
    upstream.has(&[&gone]);
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(200);
    registry.get("/gone").await.assert(200);
    // Upstream thinks until somebody has waited in vain, and fails from then on.
    let (open, opened) = watch::channel(false);
    let slowly = |path: &str, answer: Option<Value>| {
        let (opened, asked) = (opened.clone(), Arc::new(AtomicUsize::new(0)));
        upstream.plays(path, move |_| {
            let (mut opened, answer) = (opened.clone(), answer.clone());
            let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if !is_first {
                    return StatusCode::INTERNAL_SERVER_ERROR.into_response();
                }
                opened.wait_for(|is_open| *is_open).await.unwrap();
                answer.map_or_else(
                    || StatusCode::NOT_FOUND.into_response(),
                    |answer| -> Response { answer.to_string().into_response() },
                )
            }
        });
    };
    slowly("/lib", Some(upstream.document(&[&one, &two])));
    slowly("/gone", None);
    let (lib, other) = tokio::join!(registry.get("/lib"), registry.get("/gone"));
    for stale in [lib, other] {
        assert!(stale.assert(200).header("warning").is_some());
    }
    open.send(true).unwrap();
    let has_two = |answer: &Answer| answer.json()["versions"]["2.0.0"].is_object();
    until(&registry, "/lib", has_two).await;
    until(&registry, "/gone", |answer| answer.status == 404).await;
    // Nor does a tarball of an old document come back.
    registry.tarball(&gone).await.assert(404);
}

#[tokio::test]
async fn what_was_left_half_made_is_swept_at_start() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let data = registry.data();
    let folder = registry.stop().await;
    let half = [
        data.join(".state.json.0011223344556677.tmp"),
        data.join("cache/tmp/00112233445566778899aabbccddeeff"),
        data.join("tmp/00112233445566778899aabbccddeeff"),
    ];
    for path in &half {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"half").unwrap();
    }
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    for path in &half {
        assert!(!path.exists(), "{}", path.display());
    }
    registry.get_as(&alice, "/-/whoami").await.assert(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_registries_may_share_one() {
    let upstream = Upstream::start().await;
    let packages: Arc<Vec<Package>> = Arc::new(
        (0..10)
            .map(|number| Package::heavy(&format!("lib{number}"), "1.0.0", 300_000 + number))
            .collect(),
    );
    for package in packages.iter() {
        upstream.has(&[package]);
    }
    let shared = tempfile::tempdir().unwrap();
    let cache = shared.path().join("cache");
    let start = async |url: &str| {
        let variables = vec![
            ("RUSTACCIO_UPSTREAM", url.to_owned()),
            ("RUSTACCIO_CACHE_DIR", cache.display().to_string()),
        ];
        Registry::with(Start {
            variables,
            ..Start::default()
        })
        .await
    };
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let registry = Arc::new(start(&upstream.url).await);
        let packages = Arc::clone(&packages);
        readers.spawn(async move {
            for package in packages.iter() {
                registry
                    .get(&format!("/{}", package.name))
                    .await
                    .assert(200);
                let bytes = registry.tarball(package).await.assert(200).body;
                assert_eq!(bytes, package.tarball);
            }
            registry
        });
    }
    // Both have written all that they keep.
    for registry in readers.join_all().await {
        Arc::into_inner(registry).unwrap().stop().await;
    }
    assert_eq!(files(&cache.join("tmp")), Vec::<String>::new());
    upstream.stop().await;
    let third = start("http://127.0.0.1:9").await;
    for package in packages.iter() {
        third.get(&format!("/{}", package.name)).await.assert(200);
        let bytes = third.tarball(package).await.assert(200).body;
        assert_eq!(bytes, package.tarball);
    }
}

#[tokio::test]
async fn an_uplink_may_have_none_for_its_tarballs() {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 600_000);
    upstream.has(&[&package]);
    let file = format!("{}    cache: false\n", settings(&upstream));
    let registry = Registry::with_file(&file).await;
    for _ in 0..2 {
        let bytes = registry.tarball(&package).await.assert(200).body;
        assert_eq!(bytes, package.tarball);
    }
    assert_eq!(upstream.asked("/lib/-/lib-1.0.0.tgz"), 2);
    assert_eq!(
        files(&registry.data().join("cache/tarballs")),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_a_power_cut_left_half_written_is_fetched_again() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let start = async |folder| {
        Registry::with(Start {
            file: &file,
            folder,
            ..Start::default()
        })
        .await
    };
    let registry = start(None).await;
    registry.get("/lib").await.assert(200);
    let mut folder = registry.stop().await;
    let mut asked = 1;
    let path = folder.path().join("data/cache/packages/lib/default.json");
    let good = std::fs::read(&path).unwrap();
    let head = good.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let mut other_bytes = good.clone();
    *other_bytes.last_mut().unwrap() = b' ';
    let damages = [
        &good[..good.len() / 2],
        &good[..head],
        &good[head..],
        &vec![0; good.len()],
        &other_bytes,
        b"",
    ];
    for damage in damages {
        std::fs::write(&path, damage).unwrap();
        let registry = start(Some(folder)).await;
        registry.get("/lib/1.0.0").await.assert(200);
        asked += 1;
        assert_eq!(upstream.asked("/lib"), asked);
        folder = registry.stop().await;
        // It is whole again.
        let registry = start(Some(folder)).await;
        registry.get("/lib/1.0.0").await.assert(200);
        assert_eq!(upstream.asked("/lib"), asked);
        folder = registry.stop().await;
    }
}

#[tokio::test]
async fn documents_are_kept_as_small_as_they_came() {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    let document = upstream.document(&[&package]).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, document.as_bytes()).unwrap();
    let small = gzip.finish().unwrap();
    let encoded = |path: &str, coding: &'static str, body: &[u8]| {
        let body = body.to_vec();
        upstream.plays(path, move |_| {
            let body = body.clone();
            async move { ([("content-encoding", coding)], body).into_response() }
        });
    };
    encoded("/lib", "gzip", &small);
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let start = async |folder| {
        Registry::with(Start {
            file: &file,
            folder,
            ..Start::default()
        })
        .await
    };
    let registry = start(None).await;
    let first = registry.get("/lib").await.assert(200);
    assert_eq!(first.json()["versions"]["1.0.0"]["name"], "lib");
    let (_, asked) = upstream.seen().remove(0);
    assert_eq!(asked["accept-encoding"], "gzip");
    // What is damaged or encoded as nobody asked is no document, and nothing to keep.
    encoded("/broken", "gzip", &small[..small.len() / 2]);
    encoded("/other", "br", &small);
    encoded("/twice", "gzip, gzip", &small);
    for path in ["/broken", "/other", "/twice"] {
        registry.get(path).await.assert(502);
    }
    let folder = registry.stop().await;
    let packages = folder.path().join("data/cache/packages");
    let kept = std::fs::read(packages.join("lib/default.json")).unwrap();
    assert!(kept.ends_with(&small));
    assert!(!packages.join("broken").exists());
    let registry = start(Some(folder)).await;
    let again = registry.get("/lib/1.0.0").await.assert(200);
    assert_eq!(
        again.json()["dist"]["shasum"],
        first.json()["versions"]["1.0.0"]["dist"]["shasum"]
    );
    assert_eq!(upstream.asked("/lib"), 1);
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_answer_back() {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0"));
    upstream.has(&[&one]);
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(200);
    let kept = registry.data().join("cache/packages/lib/default.json");
    until(&registry, "/-/ping", |_| kept.exists()).await;
    // Nobody gets to the end of what is read from here, which happens before something is kept.
    let pipe = Pipe::instead_of(&kept);
    for _ in 0..3 {
        let current = registry.get("/lib").await.assert(200);
        assert_eq!(current.header("warning"), None);
    }
    upstream.has(&[&one, &two]);
    registry.get("/lib/2.0.0").await.assert(200);
    pipe.release();
    let folder = registry.stop().await;
    // The newest is what is kept.
    let kept = std::fs::read(folder.path().join("data/cache/packages/lib/default.json")).unwrap();
    let head = kept.iter().position(|&byte| byte == b'\n').unwrap();
    let kept: Value = serde_json::from_slice(&kept[head..]).unwrap();
    assert!(kept["versions"]["2.0.0"].is_object());
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_client_for_ever() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let registry = proxy(&upstream).await;
    registry.get("/lib").await.assert(200);
    let folder = registry.stop().await;
    let pipe = Pipe::instead_of(&folder.path().join("data/cache/packages/lib/default.json"));
    let registry = Registry::with(Start {
        file: &settings(&upstream),
        folder: Some(folder),
        tune: Some(|config| config.server.request_timeout = Duration::from_millis(300)),
        ..Start::default()
    })
    .await;
    let (one, two) = tokio::join!(registry.get("/lib"), registry.get("/lib"));
    pipe.release();
    for given_up in [one, two] {
        given_up.assert(503);
    }
    until(&registry, "/lib", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_clock_that_was_wrong_keeps_nothing_fresh() {
    let upstream = Upstream::start().await;
    let (one, two) = (Package::new("lib", "1.0.0"), Package::new("lib", "2.0.0"));
    upstream.has(&[&one]);
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let now = 1_800_000_000_000;
    let start = async |folder, at| {
        Registry::with(Start {
            file: &file,
            folder,
            clock: Some(ManualClock::at(Timestamp::from_unix_millis(at))),
            ..Start::default()
        })
        .await
    };
    let tomorrow = start(None, now + 86_400_000).await;
    tomorrow.get("/lib").await.assert(200);
    let folder = tomorrow.stop().await;
    upstream.has(&[&one, &two]);
    let today = start(Some(folder), now).await;
    let shown = today.get("/lib").await.assert(200).json();
    assert_eq!(shown["dist-tags"]["latest"], "2.0.0");
}
