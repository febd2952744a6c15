//! `npm login` that ends in a browser.

use serde_json::json;
use tokio::runtime::Handle;

use super::browser::run;
use crate::support::{
    Registry,
    client::{Client, Turn},
};

/// npm signs in by a page that is seen in this view.
async fn signs_in(name: &'static str, prefix: &str, view: usize) {
    let registry = Registry::start(&[
        ("RUSTACCIO_WEB_LOGIN", "true"),
        ("RUSTACCIO_URL_PREFIX", prefix),
    ])
    .await;
    registry.user("alice").await;
    let url = registry.url.clone();
    let work = move || {
        let client = Client::new(name);
        client.configure(
            ".npmrc",
            &format!("registry={url}/\nbrowser=false\nupdate-notifier=false\n"),
        );
        let page = format!("{url}/-/web/login?next=");
        let answer = |text: &str| {
            let (_, rest) = text.split_once(&page).unwrap();
            let rest = rest.split_whitespace().next().unwrap();
            let report = run(
                "npm",
                &json!({ "url": url, "page": format!("{page}{rest}"), "view": view }),
            );
            report.assert_contains("asks", "127.0.0.1");
            report.assert_contains("asks", "npm/");
            report.assert_contains("wrong", "bad username/password");
            report.assert_contains("done", "go back to the terminal");
        };
        // Enough of what follows the marker has come when the next line begins.
        client.converse(
            "login --auth-type=web",
            vec![
                Turn::then("/-/v1/login_cli/", |_| ()),
                Turn::then("\n", answer),
            ],
        );
        client.ok(&["whoami"]).trim().to_owned()
    };
    let work = Handle::current().spawn_blocking(work);
    assert_eq!(work.await.unwrap(), "alice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_12_signs_in_at_a_desk() {
    signs_in("npm-12", "", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_9_signs_in_on_a_phone_without_scripts() {
    signs_in("npm-9", "/npm/private", 2).await;
}
