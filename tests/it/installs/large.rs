//! A project of a thousand packages, cold: nothing of it is known to the registry or the client.

use super::*;
use crate::support::packages::forest;

async fn installs(name: &'static str) {
    const COUNT: usize = 1000;
    let upstream = Upstream::start().await;
    let packages = forest(COUNT);
    for package in packages.values() {
        upstream.has(&[package]);
    }
    let registry = proxy(&upstream, None).await;
    let url = registry.url.clone();
    let names: Vec<String> = packages.keys().cloned().collect();
    beside(move || {
        let client = client_at(name, &url);
        let needs: Vec<&str> = names.iter().map(String::as_str).collect();
        let folder = install(&client, &needs);
        for name in needs {
            assert_eq!(version_of(&folder, name), "1.0.0", "{name}");
        }
    })
    .await;
    for package in packages.values() {
        let path = format!("/{}/-/{}", package.name, package.file());
        assert_eq!(upstream.asked(&path), 1, "{path}");
    }
}

mod installs {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12() {
        super::installs("npm-12").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_12() {
        super::installs("pnpm-12").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn yarn_4() {
        super::installs("yarn-4").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bun_1() {
        super::installs("bun-1").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn deno_2() {
        super::installs("deno-2").await;
    }
}
