//! What people see of an upstream that is in trouble, and of a registry that does not know them.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};

use super::{installing::Address, scene::project};
use crate::support::{Package, Registry, Upstream, client::Client};

/// Has a client install `lib` with `prepare`d settings; whether it could, and what it printed.
fn install(name: &str, at: Address<'_>, prepare: impl FnOnce(&mut Client)) -> (bool, String) {
    let installer = super::installer(name);
    let mut client = Client::new(name);
    installer.point(&mut client, at);
    installer.trust_what_is_new(&mut client);
    prepare(&mut client);
    let folder = client.project("project", &project("project", &["lib"]));
    let output = client.run_in(&folder, &installer.install());
    let text = [output.stdout, output.stderr].concat();
    let is_there = folder.join("node_modules/lib/package.json").is_file();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success() && is_there, text)
}

/// Whatever a client does by itself after a failure.
fn tries_again(client: &mut Client) {
    for prefix in ["npm_config", "pnpm_config"] {
        client.set(&format!("{prefix}_fetch_retries"), "3");
        client.set(&format!("{prefix}_fetch_retry_mintimeout"), "10");
    }
    client.set("YARN_HTTP_RETRY", "3");
}

/// An upstream that has too much to do makes us ask for patience, and clients have it.
async fn asks_again_after_503(name: &'static str) {
    let upstream = Upstream::start().await;
    let package = Package::new("lib", "1.0.0");
    upstream.has(&[&package]);
    let document = upstream.document(&[&package]).to_string();
    let is_busy = AtomicBool::new(true);
    upstream.plays("/lib", move |_| {
        let is_busy = is_busy.swap(false, Ordering::SeqCst);
        let document = document.clone();
        async move {
            if is_busy {
                let later = [(header::RETRY_AFTER, "3")];
                return (StatusCode::TOO_MANY_REQUESTS, later).into_response();
            }
            document.into_response()
        }
    });
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", &upstream.url)]).await;
    let url = registry.url.clone();
    let work = move || install(name, Address::of(&url), tries_again);
    let (is_ok, text) = tokio::task::spawn_blocking(work).await.unwrap();
    assert!(is_ok, "{text}");
    assert_eq!(upstream.asked("/lib"), 2);
}

/// A tarball that upstream cuts short installs nowhere, and installs as soon as it is whole.
async fn refuses_half_a_tarball(name: &'static str) {
    let upstream = Upstream::start().await;
    let package = Package::heavy("lib", "1.0.0", 500_000);
    upstream.has(&[&package]);
    let bytes = Bytes::from(package.tarball.clone());
    upstream.plays("/lib/-/lib-1.0.0.tgz", move |_| {
        let bytes = bytes.clone();
        async move {
            let length = bytes.len();
            let start = stream::iter([Ok(bytes.slice(..length / 2))]);
            let reset = stream::iter([Err(std::io::Error::other("reset"))]);
            let headers = [(header::CONTENT_LENGTH, length.to_string())];
            (headers, Body::from_stream(start.chain(reset))).into_response()
        }
    });
    // Some clients wait for as long as an uplink that is left alone is; that is another matter.
    let url = &upstream.url;
    let file = format!("uplinks:\n  default:\n    url: {url}\n    max_fails: 0\n");
    let registry = Registry::with_file(&file).await;
    let try_it = async || {
        let url = registry.url.clone();
        let work = move || install(name, Address::of(&url), tries_again);
        tokio::task::spawn_blocking(work).await.unwrap()
    };
    let (is_ok, text) = try_it().await;
    assert!(!is_ok, "{text}");
    upstream.has(&[&package]);
    let (is_ok, text) = try_it().await;
    assert!(is_ok, "{text}");
}

/// Yarn shows its token for names without a scope only where it is told to, and hears why it is
/// refused.
async fn hears_that_nobody_knows_it(name: &'static str) {
    let rules = "packages:\n  '**': {access: $authenticated, publish: $authenticated}\n";
    let registry = Registry::with_file(rules).await;
    let alice = registry.user("alice").await;
    let lib = Package::new("lib", "1.0.0");
    registry.publish(&alice, &lib).await.assert(201);
    let url = registry.url.clone();
    let work = move || {
        let at = |token| Address {
            token,
            ..Address::of(&url)
        };
        let (is_ok, text) = install(name, at(Some(&alice.token)), |_| {});
        assert!(is_ok, "{text}");
        let (is_ok, text) = install(name, at(None), |client| {
            let (_, host) = url.split_once("//").unwrap();
            let token = &alice.token;
            client.configure(
                ".npmrc",
                &format!("//{host}/:_authToken={token}\nalways-auth=false\n"),
            );
            client.configure(".yarnrc.yml", &format!("npmAuthToken: \"{token}\"\n"));
        });
        // Yarn 4 has words of its own for a 401.
        let why = match name {
            "yarn-4" => "Invalid authentication (as an anonymous user)",
            _ => "authorization required to access package lib",
        };
        assert!(!is_ok && text.contains(why), "{text}");
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

macro_rules! tests_of {
    ($what:ident: $($test:ident $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $what($name).await;
            }
        )*
    };
}

tests_of! {
    asks_again_after_503: npm_12_asks_again "npm-12", npm_6_asks_again "npm-6",
    pnpm_12_asks_again "pnpm-12", yarn_1_asks_again "yarn-1", yarn_4_asks_again "yarn-4",
    bun_1_asks_again "bun-1", deno_2_asks_again "deno-2",
}
tests_of! {
    refuses_half_a_tarball: npm_12_refuses_half "npm-12", pnpm_12_refuses_half "pnpm-12",
    yarn_4_refuses_half "yarn-4", bun_1_refuses_half "bun-1",
}
tests_of! {
    hears_that_nobody_knows_it: yarn_1_is_refused "yarn-1", yarn_4_is_refused "yarn-4",
}
