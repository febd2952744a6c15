//! Files and variables of Verdaccio's: which start, what is said of them, and what they change.

use std::{collections::BTreeSet, fs, path::Path};

use http::Method;
use rustaccio::config::{FEATURES, Problem, TarballBackend};
use secrecy::ExposeSecret as _;

use super::{check_fine, check_problem, load, load_text, load_with, run};
use crate::support::{
    Package, Registry, Upstream,
    process::Process,
    registry::{Answer, Start},
};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/verdaccio");

fn settings_of(problems: &[Problem]) -> BTreeSet<&str> {
    problems
        .iter()
        .map(|problem| problem.setting.as_str())
        .collect()
}

/// The words behind `# key` at the beginning of a file.
fn expected<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    let comments = text.lines().take_while(|line| line.starts_with('#'));
    let mut rest = comments.filter_map(|line| line.strip_prefix("# ")?.strip_prefix(key));
    rest.next().unwrap_or_default().split_whitespace().collect()
}

/// Each file of the corpus says at its top whether it starts, and which of its keys are told of.
#[test]
fn files_as_people_have_them_start_or_are_refused_as_they_say() {
    let mut count = 0;
    for entry in fs::read_dir(CORPUS).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let config = load_with(&[], Some(&path));
        let refused: BTreeSet<&str> = if text.starts_with("# refused the file") {
            ["the file"].into()
        } else {
            expected(&text, "refused")
        };
        let name = path.display();
        let problems = config.describe_problems();
        assert_eq!(
            settings_of(config.problems()),
            refused,
            "{name}: {problems}"
        );
        assert_eq!(text.starts_with("# starts"), refused.is_empty(), "{name}");
        if refused.is_empty() {
            let warned = settings_of(config.warnings());
            assert_eq!(warned, expected(&text, "warns"), "{name}");
        }
        for feature in expected(&text, "needs") {
            let without = FEATURES.map(|(name, _)| (name, name != feature));
            assert_eq!(config.missing_features(&without).len(), 1, "{name}");
        }
        count += 1;
    }
    assert!(count > 40, "{count}");
}

/// What Verdaccio itself would begin with.
#[cfg(feature = "test-clients")]
#[test]
fn the_files_that_verdaccio_comes_with_start() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/verdaccio/node_modules/@verdaccio/config/build/conf"
    );
    for (file, warned) in [("default.yaml", vec![]), ("docker.yaml", vec!["plugins"])] {
        let config = load_with(&[], Some(&Path::new(folder).join(file)));
        check_fine(&config);
        assert_eq!(settings_of(config.warnings()), warned.into_iter().collect());
        assert_eq!(config.uplinks.uplinks.len(), 1);
        assert_eq!(config.packages.rules.len(), 2);
    }
}

#[test]
fn paths_are_from_the_folder_of_the_file_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let text =
        "storage: ./data\nauth: {htpasswd: {file: users/htpasswd}}\ntls: {cert: /etc/cert.pem}\n";
    fs::write(&file, text).unwrap();
    let config = load_with(&[], Some(&file));
    assert_eq!(config.storage.data_dir, folder.path().join("data"));
    let htpasswd = config.auth.htpasswd.unwrap();
    assert_eq!(htpasswd.file, folder.path().join("users/htpasswd"));
    let certificate = config.server.tls.certificate.unwrap();
    assert_eq!(certificate, Path::new("/etc/cert.pem"));
    // Variables are from where the program is started.
    let config = load_with(&[("RUSTACCIO_DATA_DIR", "data")], Some(&file));
    assert_eq!(config.storage.data_dir, Path::new("data"));
}

#[test]
fn variables_of_verdaccio_and_its_image_count_where_ours_are_not_set() {
    let listen = |variables: &[(&str, &str)]| super::listens(&load(variables));
    assert_eq!(listen(&[("VERDACCIO_PORT", "5000")]), ["0.0.0.0:5000"]);
    let image = [
        ("VERDACCIO_PORT", "5000"),
        ("VERDACCIO_ADDRESS", "127.0.0.1"),
    ];
    assert_eq!(listen(&image), ["127.0.0.1:5000"]);
    let both = [
        ("VERDACCIO_PORT", "5000"),
        ("RUSTACCIO_BIND", "localhost:1"),
    ];
    assert_eq!(listen(&both), ["localhost:1"]);
    let config = load(&[
        ("VERDACCIO_PUBLIC_URL", "https://npm.example/team/"),
        ("VERDACCIO_STORAGE_PATH", "/srv/packages"),
        ("VERDACCIO_FORWARDED_PROTO", "CloudFront-Forwarded-Proto"),
    ]);
    check_fine(&config);
    let public = config.server.public_url.unwrap();
    assert_eq!(public.as_str(), "https://npm.example/team");
    assert_eq!(config.storage.data_dir, Path::new("/srv/packages"));
    assert_eq!(
        config.server.forwarded_proto.as_str(),
        "cloudfront-forwarded-proto"
    );
}

#[test]
fn a_bucket_of_the_plugin_for_s3_is_ours() {
    let file = Path::new(CORPUS).join("s3.yaml");
    // A value that is the name of a variable is that variable's.
    let config = load_with(&[("abc", "from the environment")], Some(&file));
    assert_eq!(config.storage.tarballs, TarballBackend::S3);
    let s3 = &config.storage.s3;
    assert_eq!((&*s3.bucket, &*s3.prefix), ("packages", "npm/"));
    assert_eq!(s3.endpoint.as_deref(), Some("https://storage.example"));
    let shown = config.show(false);
    assert!(!shown.contains("from the environment"), "{shown}");
    let key = s3.access_key_id.as_ref().unwrap();
    assert_eq!(key.expose_secret(), "from the environment");
}

#[test]
fn a_folder_that_verdaccio_made_is_known_by_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let text = "storage: storage\npackages:\n  '@team/*': {access: $all, publish: $all, storage: team}\n  \
                '**': {access: $all, publish: $all}\n";
    fs::write(&file, text).unwrap();
    let storage = folder.path().join("storage");
    fs::create_dir(&storage).unwrap();
    let config = || load_with(&[], Some(&file));
    assert_eq!(config().storage.verdaccio, None);
    for list in [".verdaccio-db.json", ".sinopia-db.json"] {
        fs::write(storage.join(list), "{}").unwrap();
        let config = config();
        let verdaccio = config.storage.verdaccio.as_ref().unwrap();
        // The older name counts as long as it is there.
        assert_eq!(verdaccio.database, storage.join(list));
        assert_eq!(verdaccio.root, storage);
        let team = ("@team/*".to_owned(), Some("team".into()));
        assert_eq!(verdaccio.subfolders, [team, ("**".to_owned(), None)]);
        assert_eq!(config.storage.data_dir, storage.join(".rustaccio"));
        assert!(config.warnings().is_empty());
        let htpasswd = config.auth.htpasswd.as_ref().unwrap();
        assert_eq!(htpasswd.file, folder.path().join("htpasswd"));
    }
    // Without its list, one that was used so stays one: nothing in it becomes a stranger's.
    for list in [".verdaccio-db.json", ".sinopia-db.json"] {
        fs::remove_file(storage.join(list)).unwrap();
    }
    assert_eq!(config().storage.verdaccio, None);
    fs::create_dir(storage.join(".rustaccio")).unwrap();
    let verdaccio = config().storage.verdaccio.unwrap();
    assert_eq!(verdaccio.database, storage.join(".verdaccio-db.json"));
}

#[test]
fn a_folder_of_ours_in_which_verdaccio_was_started_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Process::start(&data, &[]).stop();
    fs::write(data.join(".verdaccio-db.json"), r#"{"list":[]}"#).unwrap();
    let refusal = |ours: &str| {
        let refusal = Process::refusal(Process::command(&data, &[]));
        let list = ".verdaccio-db.json";
        for expected in ["RUSTACCIO_DATA_DIR", ours, list, "rustaccio import"] {
            assert!(refusal.contains(expected), "{expected}: {refusal}");
        }
    };
    refusal("data/tarballs");
    // As soon as anybody has an account.
    fs::write(data.join("state.json"), "{}").unwrap();
    refusal("data/state.json");
    fs::remove_file(data.join("state.json")).unwrap();
    fs::remove_file(data.join(".verdaccio-db.json")).unwrap();
    Process::start(&data, &[]).stop();
}

#[test]
fn a_check_says_what_each_line_means() {
    let file = Path::new(CORPUS).join("ldap.yaml");
    let output = run(
        &["--config", file.to_str().unwrap(), "config", "check"],
        &[],
    );
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stdout).unwrap();
    for part in [
        "storage: ./storage\n    The folder of everything that is kept. (RUSTACCIO_DATA_DIR)\n",
        "auth.ldap:\n    REFUSED is a plugin of Verdaccio",
        "packages.**.publish: $authenticated\n    who may publish them\n",
    ] {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
    let file = Path::new(CORPUS).join("several-uplinks.yaml");
    let output = run(&["-c", file.to_str().unwrap(), "config", "check"], &[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.ends_with("\nthe settings are fine\n"), "{told}");
    assert!(told.contains("\nwarning: uplinks.company.agent_options.maxSockets"));
    assert!(!told.contains("abc"), "a secret is shown: {told}");
}

#[test]
fn a_check_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let text = "secret: s3cret\nhttp_proxy: user:s3cret@proxy.example:3128\nhttps_proxy: \
                http://user:s3cret@proxy.example:3128/\nnotify: {endpoint: 'https://chat.example/s3cret', \
                content: s3cret, headers: [{authorization: s3cret}]}\nstore: {aws-s3-storage: {bucket: x, \
                accessKeyId: s3cret, secretAccessKey: s3cret}}\nuplinks: {one: {url: 'http://user:s3cret@one.example', \
                auth: {type: bearer, token: s3cret}, headers: {authorization: s3cret}}}\n";
    fs::write(&file, text).unwrap();
    let output = run(&["-c", file.to_str().unwrap(), "config", "check"], &[]);
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("https://chat.example") && told.contains("proxy.example"));
    assert!(!told.contains("s3cret"), "{told}");
}

#[test]
fn arguments_of_verdaccio_are_ours() {
    let output = run(&["-v"], &[]);
    assert_eq!(output.stdout, run(&["--version"], &[]).stdout);
    let told = String::from_utf8(run(&["-i"], &[]).stdout).unwrap();
    assert!(
        told.contains("features:") && told.contains("system:"),
        "{told}"
    );
    let variables = [("PORT", "1"), ("RUSTACCIO_BIND", "localhost:2")];
    let output = run(
        &["-l", "localhost:3", "config", "show", "--sources"],
        &variables,
    );
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("bind = localhost:3  # --listen\n"), "{told}");
    let output = run(&["-l", "nowhere", "config", "check"], &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("--listen") && told.contains("`nowhere`"),
        "{told}"
    );
}

async fn get_with(registry: &Registry, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = registry.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    registry.send(request).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// A registry with this file.
async fn of_file(file: &str) -> Registry {
    Registry::with(Start {
        file,
        ..Start::default()
    })
    .await
}

/// Two that are told the same, by Verdaccio's file and by a variable.
async fn both(file: &str, variable: &str, value: &str) -> [Registry; 2] {
    [
        of_file(file).await,
        Registry::start(&[(variable, value)]).await,
    ]
}

#[tokio::test]
async fn pages_have_the_language_of_the_file_for_who_asks_for_none() {
    for registry in both("i18n: {web: de-DE}\n", "RUSTACCIO_WEB_LANGUAGE", "de").await {
        let page = get_with(&registry, "/", &[("accept", "text/html")]).await;
        assert!(text(&page).contains("<html lang=\"de\""));
        let asked = [("accept", "text/html"), ("accept-language", "fr")];
        let page = get_with(&registry, "/", &asked).await;
        assert!(text(&page).contains("<html lang=\"fr\""));
    }
}

#[tokio::test]
async fn nobody_signs_in_on_pages_where_the_file_says_so() {
    for registry in both("web: {login: false}\n", "RUSTACCIO_WEB_SIGN_IN", "false").await {
        let page = get_with(&registry, "/", &[("accept", "text/html")]).await;
        assert_eq!(page.status, 200);
        assert!(!text(&page).contains("/-/web/login"));
        registry.get("/-/web/login").await.assert(404);
        registry.get("/-/web/settings").await.assert(404);
        let body = serde_json::json!({"username": "alice", "password": "secret"});
        let path = "/-/verdaccio/sec/login";
        let login = registry.send_json(None, Method::POST, path, &body).await;
        login.assert(404);
        // npm's ways are as they were.
        let alice = registry.user("alice").await;
        registry.get_as(&alice, "/-/whoami").await.assert(200);
    }
}

#[tokio::test]
async fn uplinks_are_not_searched_where_the_file_says_so() {
    // The variable is RUSTACCIO_UPSTREAM_SEARCH.
    for (flags, asked) in [("searchRemote: true", 1), ("searchRemote: false", 0)] {
        let upstream = Upstream::start().await;
        upstream.has(&[&Package::new("lib", "1.0.0")]);
        let url = &upstream.url;
        let file = format!("flags: {{{flags}}}\nuplinks: {{default: {{url: '{url}'}}}}\n");
        let registry = of_file(&file).await;
        registry.get("/-/v1/search?text=lib").await.assert(200);
        let seen = upstream.seen();
        let searches = seen
            .iter()
            .filter(|(path, _)| path.starts_with("/-/v1/search"));
        assert_eq!(searches.count(), asked, "{flags}");
    }
}

#[tokio::test]
async fn new_passwords_match_what_the_file_wants() {
    let file = "server: {passwordValidationRegex: '/^[a-z]{8}$/i'}\n";
    for registry in both(file, "RUSTACCIO_PASSWORD_PATTERN", "^[A-Za-z]{8}$").await {
        let path = "/-/user/org.couchdb.user:alice";
        for (password, status) in [("secret", 400), ("secret12", 400), ("SecretXY", 201)] {
            let body = serde_json::json!({"name": "alice", "password": password});
            let answer = registry.send_json(None, Method::PUT, path, &body).await;
            answer.assert(status);
        }
    }
    let config = load_text("server: {passwordValidationRegex: '/[/'}\n");
    check_problem(
        &config,
        &["password_pattern", "must be a regular expression"],
    );
}

#[tokio::test]
async fn a_proxy_may_say_https_in_a_header_of_its_own() {
    let variables = [
        ("RUSTACCIO_TRUST_PROXY", "true"),
        ("RUSTACCIO_FORWARDED_PROTO_HEADER", "X-Scheme"),
    ];
    let registry = Registry::start(&variables).await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("lib", "1.0.0"))
        .await
        .assert(201);
    for (header, begins) in [("x-scheme", "https://"), ("x-forwarded-proto", "http://")] {
        let packument = get_with(&registry, "/lib", &[(header, "https")])
            .await
            .json();
        let tarball = packument["versions"]["1.0.0"]["dist"]["tarball"].clone();
        assert!(tarball.as_str().unwrap().starts_with(begins), "{header}");
    }
}
