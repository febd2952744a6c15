//! `rustaccio mirror`: what lockfiles name is at hand when upstream is gone.

use serde_json::json;

use super::{
    Here, get,
    lockfiles::{source, written},
};

const TARBALLS: [&str; 8] = [
    "@lock/leaf/-/leaf-1.0.0.tgz",
    "@lock/leaf/-/leaf-2.0.0.tgz",
    "lock-darwin/-/lock-darwin-1.0.0.tgz",
    "lock-dev/-/lock-dev-0.1.0.tgz",
    "lock-linux/-/lock-linux-1.0.0.tgz",
    "lock-mid/-/lock-mid-1.0.0.tgz",
    "lock-peer/-/lock-peer-1.0.0.tgz",
    "lock-top/-/lock-top-1.2.0.tgz",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_is_there_without_an_upstream() {
    let upstream = source().await;
    for is_running in [false, true] {
        let here = Here::with(&[("RUSTACCIO_UPSTREAM", &upstream.url)]);
        let files = written(&upstream.url);
        let path = here.file("lock", &files[usize::from(is_running)].1);
        if is_running {
            let registry = here.serve();
            here.run(&["mirror", "--lockfile", &path])
                .await
                .fails("--registry");
            let arguments = [
                "mirror",
                "--lockfile",
                &path,
                "--registry",
                &registry.url,
                "--json",
            ];
            let said = here.run(&arguments).await.fine();
            assert_eq!(said.json()["tarballs"], 8);
            registry.stop();
        } else {
            let said = here
                .run(&["mirror", "--lockfile", &path, "--json"])
                .await
                .fine();
            let mut said = said.json();
            let conclusion = said["conclusion"].take();
            assert!(
                conclusion.as_str().unwrap().contains("can be installed"),
                "{conclusion}"
            );
            assert_eq!(
                said,
                json!({ "packages": 7, "tarballs": 8, "hosted": 0, "failures": [], "ok": true, "conclusion": null })
            );
        }
        let before = upstream.seen().len();
        // Nothing is asked for again.
        here.run(&["mirror", "--lockfile", &path]).await.fine();
        let again = upstream.seen().len() - before;
        assert!(again <= 7, "{again} questions");
        let there = Here {
            variables: vec![(
                "RUSTACCIO_UPSTREAM".to_owned(),
                "http://127.0.0.1:1".to_owned(),
            )],
            ..here
        };
        let registry = there.serve();
        for path in TARBALLS {
            let (status, _) = get(&format!("{}/{path}", registry.url)).await;
            assert_eq!(status, 200, "{path}");
        }
        let (status, _) = get(&format!("{}/@lock%2fleaf", registry.url)).await;
        assert_eq!(status, 200);
        registry.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_named() {
    let upstream = source().await;
    upstream.forgets("/lock-mid");
    upstream.forgets("/lock-peer/-/lock-peer-1.0.0.tgz");
    let here = Here::with(&[("RUSTACCIO_UPSTREAM", &upstream.url)]);
    let files = written(&upstream.url);
    let npm = files
        .iter()
        .find(|(name, _)| name == "npm-12.json")
        .unwrap();
    let yarn = files
        .iter()
        .find(|(name, _)| name == "yarn-4.lock")
        .unwrap();
    let path = here.file("lock", &npm.1);
    let said = here
        .run(&["mirror", "--lockfile", &path, "--production"])
        .await;
    let said = said.fails("could not be had: lock-mid:");
    assert!(
        said.text.contains("could not be had: lock-peer@1.0.0:"),
        "{}",
        said.text
    );
    assert!(said.text.contains("tarballs: 5 at hand"), "{}", said.text);
    assert_eq!(upstream.asked("/lock-dev"), 0);
    let path = here.file("lock", &yarn.1);
    let said = here
        .run(&["mirror", "--lockfile", &path, "--production"])
        .await;
    said.fails("does not say what only development needs");
}
