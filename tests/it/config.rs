//! Settings: where they come from, what is said about wrong ones, and the files made from the table.

#[cfg(feature = "object")]
mod buckets;
mod connections;
mod effects;
mod keys;
mod managed;
mod profiles;
mod settings_shown;
mod storage;
mod table;
mod uplinks;
mod verdaccio;

use std::{fs, path::Path, process::Output, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustaccio::config::{Config, Env, FEATURES, LogFormat, Registration, Sources, TrustProxy};

use crate::support::process::Process;

fn load(variables: &[(&str, &str)]) -> Config {
    load_with(variables, None)
}

fn load_with(variables: &[(&str, &str)], file: Option<&Path>) -> Config {
    Config::load(&Sources {
        env: variables.iter().copied().collect::<Env>(),
        file: file.map(Path::to_owned),
        ..Sources::default()
    })
}

/// The settings of a file with this text.
fn load_text(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, text).unwrap();
    load_with(&[], Some(&path))
}

fn listens(config: &Config) -> Vec<String> {
    config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn check_problem(config: &Config, parts: &[&str]) {
    let text = config.describe_problems();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Each warning contains its part, and there is no other.
#[track_caller]
fn check_warnings(config: &Config, parts: &[&str]) {
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), parts.len(), "{warnings:?}");
    for part in parts {
        let is_told = warnings.iter().any(|text| text.contains(part));
        assert!(is_told, "`{part}` is not in: {warnings:?}");
    }
}

#[track_caller]
fn check_fine(config: &Config) {
    assert!(
        config.problems().is_empty(),
        "{}",
        config.describe_problems()
    );
}

#[test]
fn nothing_set_is_a_useful_registry() {
    let config = load(&[]);
    assert!(config.problems().is_empty() && config.warnings().is_empty());
    assert_eq!(listens(&config), ["127.0.0.1:4873"]);
    assert_eq!(config.storage.data_dir, Path::new(".rustaccio-data"));
    assert_eq!(config.uplinks.uplinks.len(), 1);
    assert_eq!(config.uplinks.uplinks[0].0.as_str(), "default");
    assert_eq!(config.packages.rules.len(), 2);
    assert_eq!(config.auth.token_ttl, Some(Duration::from_secs(2_592_000)));
}

#[test]
fn later_sources_overrule_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let below = write(
        "below.yml",
        "listen: 1111\nweb:\n  title: Below\nmax_body_size: 1mb\n",
    );
    let above = write("above.yml", "listen: 2222\nweb: {title: Above}\n");
    let below = below.to_str().unwrap();
    let config = load(&[("RUSTACCIO_CONFIG", below)]);
    assert_eq!(listens(&config), ["localhost:1111"]);
    let config = load_with(&[("RUSTACCIO_CONFIG", below)], Some(&above));
    assert_eq!(
        (listens(&config), &*config.web.title),
        (vec!["localhost:2222".to_owned()], "Above")
    );
    // Layers merge: what the upper one does not say comes from the lower one.
    assert_eq!(config.server.max_body_size, 1 << 20);
    let env = [
        ("RUSTACCIO_CONFIG", below),
        ("RUSTACCIO_BIND", "127.0.0.2:3333, [::1]:3333"),
    ];
    let config = load_with(&env, Some(&above));
    assert_eq!(listens(&config), ["127.0.0.2:3333", "[::1]:3333"]);
    let env = [env[0], env[1], ("PORT", "4444")];
    let config = load_with(&env, Some(&above));
    assert_eq!(listens(&config), ["0.0.0.0:4444"]);
    assert!(config.show(true).contains("bind = 0.0.0.0:4444  # PORT"));
}

#[test]
fn a_file_can_come_in_a_variable() {
    let text = STANDARD.encode("web:\n  title: Encoded\n");
    let wrapped = format!("{}\n {}", &text[..8], &text[8..]);
    assert_eq!(
        load(&[("RUSTACCIO_CONFIG_BASE64", &wrapped)]).web.title,
        "Encoded"
    );
    let both = load(&[
        ("RUSTACCIO_CONFIG_BASE64", &text),
        ("RUSTACCIO_CONFIG", "/x.yml"),
    ]);
    check_problem(
        &both,
        &["RUSTACCIO_CONFIG", "RUSTACCIO_CONFIG_BASE64 is set too"],
    );
    check_problem(
        &load(&[("RUSTACCIO_CONFIG_BASE64", "***")]),
        &["is not standard base64"],
    );
    check_problem(
        &load(&[("RUSTACCIO_CONFIG", "/missing.yml")]),
        &["RUSTACCIO_CONFIG = `/missing.yml`", "cannot be read"],
    );
}

#[test]
fn empty_means_unset_and_numbers_are_clamped() {
    let config = load(&[
        ("RUSTACCIO_WEB_TITLE", "  "),
        ("RUSTACCIO_REQUEST_TIMEOUT_SECS", "9999"),
        ("RUSTACCIO_TOKIO_MAX_BLOCKING_THREADS", "-5"),
        ("RUSTACCIO_AUTH_TOKEN_TTL_SECS", "0"),
        ("RUSTACCIO_PUBLISH_CHECK_OWNERS", "Yes"),
        ("RUSTACCIO_LOG_FORMAT", "JSON"),
        ("RUSTACCIO_TRUST_PROXY", "10.0.0.0/8"),
    ]);
    assert!(
        config.problems().is_empty(),
        "{}",
        config.describe_problems()
    );
    assert_eq!(config.web.title, "Rustaccio");
    assert_eq!(config.server.request_timeout, Duration::from_secs(300));
    assert_eq!(config.server.max_blocking_threads, 8);
    assert_eq!(config.auth.token_ttl, None);
    assert!(config.publish.check_owners);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(matches!(config.server.trust_proxy, TrustProxy::From(_)));
    assert_eq!(config.warnings().len(), 2);
}

#[test]
fn all_problems_are_told_at_once_with_their_source() {
    let config = load(&[
        ("RUSTACCIO_BIND", "somewhere"),
        ("RUSTACCIO_MAX_BODY_SIZE", "huge"),
        ("RUSTACCIO_WEB_ENABLE", "maybe"),
        ("RUSTACCIO_PUBLIC_URL", "ftp://x"),
        ("RUSTACCIO_UPSTREAM", "nowhere"),
        ("RUSTACCIO_TARBALL_BACKEND", "tape"),
        ("PORT", "99999999"),
    ]);
    assert_eq!(config.problems().len(), 7, "{}", config.describe_problems());
    check_problem(
        &config,
        &[
            "RUSTACCIO_MAX_BODY_SIZE = `huge`: must be a size such as `50mb`",
            "PORT",
            "RUSTACCIO_TARBALL_BACKEND = `tape`: must be one of `local`, `s3`, `gcs`, `azure`",
        ],
    );
    let file = load_text(
        "uplinks:\n  bad name: {url: 'x'}\n  two: {}\n  three: {url: 'http://x', maxage: soon, typo: 1}\npackages:\n  a: {proxy: missing}\n  b: 7\n  c: {storage: ../x}\n",
    );
    check_problem(
        &file,
        &[
            "bad name",
            "uplinks.two.url",
            "uplinks.three.maxage = `soon`",
            "uplinks.three.typo",
            "packages.b",
            "packages.c.storage",
            "config.yml",
        ],
    );
}

#[test]
fn what_does_nothing_is_pointed_out() {
    let config = load(&[
        ("RUSTACCIO_WEB_TITEL", "x"),
        ("RUSTACCIO_COMPLETELY_ELSE", "x"),
    ]);
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("did you mean `RUSTACCIO_WEB_TITLE`")),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2);
    let config = load_text("web:\n  title: x\nmax_body_sise: 1mb\nsecret: x\ni18n: {web: en}\n");
    assert_eq!(config.warnings().len(), 1);
    assert!(config.warnings()[0].to_string().contains("max_body_size"));
}

const MODE: &str = "RUSTACCIO_PACKAGE_DISCOVERY_MODE";
const TTL: &str = "RUSTACCIO_PACKAGE_CACHE_TTL_SECS";
const REFRESH: &str = "RUSTACCIO_PACKAGE_DISCOVERY_REFRESH_SECS";

/// The variables of a generated file.
fn preset(path: &str) -> Vec<(String, String)> {
    let mut examples = rustaccio::config::examples().into_iter();
    let text = examples.find(|example| example.path == path).unwrap().text;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let plain = |value: &str| value.trim_matches('\'').to_owned();
    pairs
        .map(|(name, value)| (name.to_owned(), plain(value)))
        .collect()
}

fn problems_of(pairs: &[(String, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
    load(&pairs).describe_problems()
}

const VERDACCIO: &str = "
storage: ./storage
web:
  title: Team
auth:
  htpasswd:
    file: ./htpasswd
    max_users: -1
uplinks:
  npmjs:
    maxage: 10m
    cache: false
    headers: {x-team: yes}
    auth: {type: bearer, token: s3cret}
  other:
    url: https://other.example/npm/
    timeout: 5s
    max_fails: 4
    fail_timeout: 1h
    strict_ssl: false
    no_proxy: [a.example, b.example]
packages:
  '@team/*':
    access: $authenticated
    publish: alice bob
    unpublish:
    proxy: []
  'secret':
    publish: [alice]
  '**':
    access: $all
    publish: $authenticated
    unpublish: false
    proxy: npmjs other
middlewares:
  audit: {enabled: true}
server:
  keepAliveTimeout: 60
security:
  api: {legacy: true}
log: {type: stdout, format: pretty, level: http}
listen: http://0.0.0.0:4873/
max_body_size: 10mb
url_prefix: npm
publish: {check_owners: true}
notify: {}
";

#[test]
fn a_file_of_verdaccios_works() {
    let config = load_text(VERDACCIO);
    assert!(
        config.problems().is_empty(),
        "{}",
        config.describe_problems()
    );
    assert!(config.storage.data_dir.is_absolute() && config.storage.data_dir.ends_with("storage"));
    assert_eq!(listens(&config), ["0.0.0.0:4873"]);
    assert_eq!((&*config.url_prefix, &*config.web.title), ("/npm", "Team"));
    assert_eq!(config.auth.registration, Registration::Closed);
    assert!(config.publish.check_owners);
    assert_eq!(config.server.keep_alive_timeout, Duration::from_secs(60));
    let (npmjs, other) = (&config.uplinks.uplinks[0], &config.uplinks.uplinks[1]);
    assert_eq!(
        (npmjs.0.as_str(), npmjs.1.maxage, npmjs.1.cache),
        ("npmjs", Duration::from_secs(600), false)
    );
    assert_eq!(other.1.url.as_str(), "https://other.example/npm");
    assert_eq!((other.1.max_fails, other.1.strict_ssl), (4, false));
    assert_eq!(other.1.no_proxy, ["a.example", "b.example"]);
    let rules = &config.packages.rules;
    let counts: Vec<[usize; 4]> = rules
        .iter()
        .map(|rule| {
            [
                rule.access.len(),
                rule.publish.len(),
                rule.unpublish.len(),
                rule.proxy.len(),
            ]
        })
        .collect();
    assert_eq!(counts, [[1, 2, 0, 0], [0, 1, 1, 0], [1, 1, 1, 2]]);
    // `access` of `secret` is missing: nobody.
    check_warnings(&config, &["packages.secret.access"]);
    let shown = config.show(true);
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn plugins_of_verdaccio_are_refused_by_name() {
    let config = load_text(
        "auth: {ldap: {url: x}}\nstore: {google-cloud: {bucket: x}}\nfilters: {security: {}}\nmiddlewares: {custom: {}}\n",
    );
    check_problem(
        &config,
        &[
            "auth.ldap",
            "store.google-cloud",
            "filters.security",
            "does not run here",
        ],
    );
    check_warnings(&config, &["middlewares.custom"]);
}

#[test]
fn blank_values_of_a_file_are_unset() {
    let config = load_text(
        "listen: ''\nstorage: ' '\nmax_body_size:\nweb: {title: ''}\nlog: {level: ''}\ntls: {cert: ''}\n\
         uplinks: {one: {url: 'http://one.example', ca: '', timeout: '', auth: , http_proxy: ''}}\n",
    );
    check_fine(&config);
    check_warnings(&config, &[]);
    assert_eq!(listens(&config), ["127.0.0.1:4873"]);
    assert_eq!(config.storage.data_dir, Path::new(".rustaccio-data"));
    assert_eq!(config.web.title, "Rustaccio");
    assert_eq!(config.uplinks.uplinks[0].1.ca, None);
    for text in ["listen: []", "listen: ['']", "storage: []"] {
        assert_eq!(load_text(text).problems().len(), 1, "{text}");
    }
    check_problem(
        &load(&[("RUSTACCIO_BIND", ",")]),
        &["RUSTACCIO_BIND = `,`: names no address"],
    );
}

#[test]
fn secrets_are_not_shown() {
    let config = load(&[
        ("RUSTACCIO_S3_SECRET_ACCESS_KEY", "s3cret"),
        ("RUSTACCIO_UPSTREAM", "http://user:s3cret@npm.example/"),
    ]);
    let shown = config.show(true);
    assert!(shown.contains("s3_secret_access_key = (hidden)  # RUSTACCIO_S3_SECRET_ACCESS_KEY"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(&folder.path().join("data"), variables);
    command.args(arguments).output().unwrap()
}

#[test]
fn the_command_line_says_what_it_can_do() {
    let help = run(&["--help"], &[]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success() && text.contains("fsck") && text.contains("--config"),
        "{text}"
    );
    let wrong = run(&["--frobnicate"], &[]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(run(&["--config"], &[]).status.code(), Some(2));
    let missing = run(&["-c", "/missing.yml", "config", "check"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    let bad = run(&[], &[("RUSTACCIO_MAX_BODY_SIZE", "huge"), ("PORT", "x")]);
    assert_eq!(bad.status.code(), Some(2));
    let text = String::from_utf8(bad.stderr).unwrap();
    assert!(
        text.contains("RUSTACCIO_MAX_BODY_SIZE = `huge`") && text.contains("PORT = `x`"),
        "{text}"
    );
    let good = run(&["config", "check"], &[]);
    assert!(good.status.success());
    let shown = run(
        &["config", "show", "--sources"],
        &[("RUSTACCIO_WEB_TITLE", "Mine")],
    );
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.contains("web_title = Mine  # RUSTACCIO_WEB_TITLE"),
        "{text}"
    );
    let reference = run(&["config", "reference"], &[]);
    assert!(
        String::from_utf8(reference.stdout)
            .unwrap()
            .contains("| `RUSTACCIO_BIND` |")
    );
}

#[test]
fn problems_of_files_and_patterns_are_told_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let config = file(
        "config.yml",
        "uplinks:\n  one: {url: 'http://one.example', ca: /missing.pem}\n\
         packages:\n  '': {access: $all, publish: $all}\n  '{1..9999}{1..9999}': {access: $all, publish: $all}\n\
         https: {key: /missing.key}\n",
    );
    let certificate = file("cert.pem", "no certificate");
    let variables = [
        ("RUSTACCIO_CONFIG", config.as_str()),
        ("RUSTACCIO_TLS_CERT", &certificate),
        ("RUST_LOG", "rustaccio=loud"),
        ("RUSTACCIO_UPSTREAM", ""),
        ("RUSTACCIO_MAX_BODY_SIZE", "huge"),
    ];
    for arguments in [&["config", "check"][..], &[]] {
        let output = run(arguments, &variables);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in [
            "uplinks.one.ca = `/missing.pem`",
            "packages. ",
            "packages.{1..9999}{1..9999}",
            "RUSTACCIO_TLS_CERT = `",
            "no certificate is in it",
            "tls_key = `/missing.key`",
            "RUST_LOG = `rustaccio=loud`",
            "RUSTACCIO_MAX_BODY_SIZE = `huge`",
        ] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }
}

#[test]
fn what_keeps_a_server_from_starting_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&[], &[("RUSTACCIO_BIND", &address)]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&address) && text.contains("another program listens there"),
        "{text}"
    );
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("state.json"), "{ broken").unwrap();
    let output = Process::command(&data, &[]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("state.json"),
        "{text}"
    );
    assert_eq!(
        fs::read_to_string(data.join("state.json")).unwrap(),
        "{ broken"
    );
}
