//! Uplinks in the settings: which there are, and what is asked of them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustaccio::{
    config::{Config, examples},
    models::UplinkName,
};

use super::{check_fine, check_problem, check_warnings, load, load_text};
use crate::support::{Package, Registry, Upstream};

#[test]
fn an_upstream_can_be_chosen_or_left_out() {
    let none = load(&[("RUSTACCIO_UPSTREAM", "none")]);
    assert!(none.problems().is_empty() && none.uplinks.uplinks.is_empty());
    assert!(none.packages.rules.iter().all(|rule| rule.proxy.is_empty()));
    let own = load(&[("RUSTACCIO_UPSTREAM", "http://npm.example/path/")]);
    assert_eq!(
        own.uplinks.uplinks[0].1.url.as_str(),
        "http://npm.example/path"
    );
    let npm = load(&[("npm_config_registry", "http://configured.example/")]);
    assert_eq!(
        npm.uplinks.uplinks[0].1.url.as_str(),
        "http://configured.example/"
    );
    let rules = load_text("packages:\n  '**': {access: $all, publish: $all, proxy: npmjs}\n");
    assert!(rules.problems().is_empty(), "{}", rules.describe_problems());
}

const UPLINKS: &str = "uplinks:\n  npmjs:\n  team: {url: 'http://team.example'}\n";

fn rules(proxy: &str) -> String {
    format!("packages:\n  '**': {{access: $all, publish: $all, proxy: {proxy}}}\n")
}

/// The names and addresses of the uplinks, and what the first rule proxies.
fn proxying(config: &Config) -> (Vec<String>, Vec<&str>) {
    check_fine(config);
    let uplinks = config.uplinks.uplinks.iter();
    let uplinks = uplinks.map(|(name, uplink)| format!("{name} {}", uplink.url));
    let proxy = config.packages.rules[0].proxy.iter();
    (uplinks.collect(), proxy.map(UplinkName::as_str).collect())
}

fn with_upstream(upstream: &str, text: &str) -> Config {
    let file = STANDARD.encode(text);
    load(&[
        ("RUSTACCIO_CONFIG_BASE64", &file),
        ("RUSTACCIO_UPSTREAM", upstream),
        ("npm_config_registry", "http://npm.example"),
    ])
}

#[test]
fn none_turns_the_uplinks_of_a_file_off_too() {
    let file = examples()
        .into_iter()
        .find(|example| example.path.ends_with("yml"))
        .unwrap();
    let all = format!("{UPLINKS}{}", rules("[npmjs, team]"));
    for text in [&file.text, UPLINKS, &all] {
        for none in ["none", "NONE"] {
            let config = with_upstream(none, text);
            assert_eq!(proxying(&config), (Vec::new(), Vec::new()), "{text}");
        }
        let config = load_text(&format!("{text}\nupstream: None\n"));
        assert_eq!(proxying(&config), (Vec::new(), Vec::new()), "{text}");
    }
    // A name that the file does not have is still pointed out.
    let config = with_upstream("none", &format!("{UPLINKS}{}", rules("tean")));
    check_fine(&config);
    check_warnings(&config, &["packages.**.proxy = `tean`"]);
}

#[test]
fn an_address_beside_the_uplinks_of_a_file_is_used_or_pointed_out() {
    const AT: &str = "http://at.example";
    let pair = |npmjs: &str| {
        vec![
            format!("npmjs {npmjs}/"),
            "team http://team.example/".into(),
        ]
    };
    // It is the address that `npmjs` lacks.
    let config = with_upstream(AT, &format!("{UPLINKS}{}", rules("npmjs team")));
    assert_eq!(proxying(&config), (pair(AT), vec!["npmjs", "team"]));
    check_warnings(&config, &[]);
    let config = with_upstream("", &format!("{UPLINKS}{}", rules("npmjs")));
    assert_eq!(proxying(&config).0, pair("http://npm.example"));
    // A rule asks for it.
    let one = "uplinks:\n  team: {url: 'http://team.example'}\n";
    for name in ["default", "npmjs"] {
        let config = with_upstream(AT, &format!("{one}{}", rules(name)));
        let uplinks = vec![
            "team http://team.example/".to_owned(),
            format!("default {AT}/"),
        ];
        assert_eq!(proxying(&config), (uplinks, vec![name]));
        check_warnings(&config, &[]);
    }
    // Nothing does.
    let config = with_upstream(AT, &format!("{one}{}", rules("team")));
    assert_eq!(proxying(&config).0, ["team http://team.example/"]);
    check_warnings(
        &config,
        &["RUSTACCIO_UPSTREAM = `http://at.example/`: is not asked"],
    );
}

#[test]
fn keys_of_uplinks_are_used_or_pointed_out() {
    let config = load_text(
        "uplinks:\n  \
         one: {url: 'http://one.example', agent_options: {keepAlive: true, maxSockets: 9, maxFreeSockets: 7}}\n  \
         two: {url: 'http://two.example', agent_options: {keepAlive: false, maxFreeSockets: 7}, retry: 2, publish: true}\n",
    );
    check_fine(&config);
    let idle = config.uplinks.uplinks.iter();
    let idle: Vec<usize> = idle.map(|(_, uplink)| uplink.pool_max_idle).collect();
    assert_eq!(idle, [7, 0]);
    check_warnings(
        &config,
        &["uplinks.one.agent_options.maxSockets", "uplinks.two.retry"],
    );
    let wrong = load_text("uplinks: {one: {url: 'http://x', agent_options: {keepAlive: maybe}}}\n");
    check_problem(
        &wrong,
        &["uplinks.one.agent_options", "`keepAlive` must be"],
    );
}

#[test]
fn everything_in_force_is_shown() {
    let config = load_text(
        "uplinks:\n  one:\n    url: http://one.example\n    ca: /ca.pem\n    strict_ssl: false\n    \
         https_proxy: http://user:s3cret@proxy.example\n    no_proxy: [a.example]\n    \
         headers: {x-key: s3cret}\n\
         packages:\n  '**': {access: $all, publish: $all, proxy: one, merge: false}\n\
         upstream: {allowed_origins: ['http://files.example:81']}\n",
    );
    check_fine(&config);
    let shown = config.show(false);
    for part in [
        "strict_ssl=false",
        "ca=/ca.pem",
        "https_proxy=http://proxy.example/",
        "no_proxy=a.example",
        "headers=x-key",
        "merge: false",
        "upstream_allowed_origins = http://files.example:81",
    ] {
        assert!(shown.contains(part), "`{part}` is not in: {shown}");
    }
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn tarballs_come_from_origins_that_the_settings_name() {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    let package = Package::new("away", "1.0.0");
    let mut document = upstream.document(&[&package]);
    document["versions"]["1.0.0"] = package.version_object(&files.url);
    upstream.answers("/away", &document);
    files.has_tarball(&package, package.tarball.clone());
    let file = format!(
        "uplinks:\n  one: {{url: '{}', auth: {{type: bearer, token: s3cret}}}}\n",
        upstream.url
    );
    let closed = Registry::with_file(&file).await;
    closed.tarball(&package).await.assert(502);
    let allowed = format!("{file}upstream_allowed_origins: ['{}']\n", files.url);
    let open = Registry::with_file(&allowed).await;
    let answer = open.tarball(&package).await.assert(200);
    assert_eq!(answer.body, package.tarball);
    let authorized =
        |(_, headers): &(String, http::HeaderMap)| headers.contains_key("authorization");
    assert!(upstream.seen().iter().all(authorized));
    assert!(!files.seen().is_empty() && !files.seen().iter().any(authorized));
}
