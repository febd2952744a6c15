//! Keys that only files have, by what they change.

use std::time::Duration;

use crate::support::{Package, Registry, Upstream, process::Process, registry::Start};

/// A registry with this file and these variables.
async fn registry(file: &str, variables: &[(&'static str, &str)]) -> Registry {
    let variables = variables.iter();
    Registry::with(Start {
        variables: variables
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        file,
        ..Start::default()
    })
    .await
}

#[tokio::test]
async fn an_uplink_may_fail_as_often_as_it_shall() {
    for most in [1, 4] {
        let upstream = Upstream::start().await;
        let names: Vec<String> = (0..8).map(|number| format!("/p{number}")).collect();
        let url = &upstream.url;
        let file = format!("uplinks:\n  default:\n    url: {url}\n    max_fails: {most}\n");
        let registry = Registry::with_file(&file).await;
        for name in &names {
            upstream.fails(name, 500);
            assert!(registry.get(name).await.status.is_server_error());
        }
        let asked = names.iter().filter(|name| upstream.asked(name) > 0);
        assert_eq!(asked.count(), most);
    }
}

#[tokio::test]
async fn an_uplink_that_failed_is_asked_again_when_it_shall() {
    let upstream = Upstream::start().await;
    upstream.fails("/broken", 500);
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let file = format!(
        "uplinks:\n  default:\n    url: {}\n    max_fails: 1\n    fail_timeout: 100ms\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    let broken = registry.get("/broken").await;
    assert!(broken.status.is_server_error());
    let again = async {
        while registry.get("/lib").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(30), again).await;
    assert!(again.is_ok(), "it is left alone for ever");
}

#[tokio::test]
async fn tokens_of_uplinks_may_be_in_the_environment() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let variables = [("NPM_TOKEN", "npms"), ("OTHER_TOKEN", "others")];
    for (auth, sent) in [
        ("type: bearer, token: own", "Bearer own"),
        ("type: basic, token: own", "Basic own"),
        ("type: bearer, token_env: OTHER_TOKEN", "Bearer others"),
        ("type: basic, tokenEnv: OTHER_TOKEN", "Basic others"),
        ("type: bearer, token_env: true", "Bearer npms"),
        ("type: bearer", "Bearer npms"),
    ] {
        let url = &upstream.url;
        let file = format!("uplinks:\n  default:\n    url: {url}\n    auth: {{{auth}}}\n");
        let registry = registry(&file, &variables).await;
        registry.get("/lib").await.assert(200);
        let (_, headers) = upstream.seen().pop().unwrap();
        assert_eq!(headers["authorization"], sent, "{auth}");
    }
    let file = "uplinks:\n  default:\n    url: http://x\n    auth: {token_env: NOBODYS}\n";
    let config = super::load_text(file);
    super::check_problem(&config, &["uplinks.default.auth", "NOBODYS"]);
}

#[tokio::test]
async fn rights_have_older_names_too() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    let file = format!(
        "uplinks:\n  default:\n    url: {}\npackages:\n  lib:\n    allow_access: alice\n    \
         proxy_access: default\n  own:\n    allow_access: $all\n    allow_publish: alice\n",
        upstream.url
    );
    let registry = Registry::with_file(&file).await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    registry.get_as(&bob, "/lib").await.assert(403);
    registry.get_as(&alice, "/lib").await.assert(200);
    let own = Package::new("own", "1.0.0");
    registry.publish(&bob, &own).await.assert(403);
    registry.publish(&alice, &own).await.assert(201);
    registry.get("/own").await.assert(200);
}

/// Verdaccio's older files have a list, of which the last one counts.
#[tokio::test]
async fn a_log_may_be_a_list() {
    for key in ["log", "logs"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yml");
        let text = format!("{key}:\n  - {{type: stdout, format: json, level: http}}\n");
        std::fs::write(&file, text).unwrap();
        let variables = [("RUSTACCIO_CONFIG", file.to_str().unwrap())];
        let process = Process::start(&folder.path().join("data"), &variables);
        let log = process.stop();
        let lines: Vec<&str> = log.lines().collect();
        assert!(!lines.is_empty(), "{key}");
        assert!(lines.iter().all(|line| line.starts_with('{')), "{log}");
    }
}
