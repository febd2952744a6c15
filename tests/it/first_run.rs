//! The program as somebody starts it who has read nothing: what it says, and that it works.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Package, Upstream, publish_body, registry::client};

/// A home, and a folder to work in.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Starts the program with these variables, on any free port.
    fn start(&self, variables: &[(&str, &str)]) -> Started {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rustaccio"))
            .env_clear()
            .env("HOME", self.path("home"))
            .env("RUSTACCIO_BIND", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .current_dir(self.path("work"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !said.contains("npm config set registry") {
            let Some(line) = lines.next() else {
                panic!("it did not start: {}", log.join().unwrap());
            };
            said.push_str(&line.unwrap());
            said.push('\n');
        }
        Started { said, child, log }
    }
}

struct Started {
    /// What it printed until it told how to use it.
    said: String,
    child: Child,
    log: JoinHandle<String>,
}

impl Started {
    /// What stands behind `label`.
    #[track_caller]
    fn line(&self, label: &str) -> &str {
        let mut lines = self.said.lines().map(str::trim);
        let rest = lines.find_map(|line| line.strip_prefix(label));
        rest.unwrap_or_else(|| panic!("`{label}` is not in: {}", self.said))
            .trim()
    }

    /// Asks it to stop. Its log.
    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        Command::new("kill").arg(&id).status().unwrap();
        assert!(self.child.wait().unwrap().success());
        self.log.join().unwrap()
    }
}

async fn register(url: &str, name: &str) -> String {
    let body = serde_json::json!({ "name": name, "password": "password" });
    let path = format!("{url}-/user/org.couchdb.user:{name}");
    let request = client().put(path).body(body.to_string());
    let answer = request.send().await.unwrap().bytes().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

async fn tarball(url: &str, package: &Package) -> Vec<u8> {
    let path = format!("{url}{}/-/{}", package.name, package.file());
    let answer = client().get(path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn the_first_run_says_what_there_is_and_the_second_goes_on() {
    let upstream = Upstream::start().await;
    let (theirs, ours) = (
        Package::new("theirs", "1.0.0"),
        Package::new("ours", "1.0.0"),
    );
    upstream.has(&[&theirs]);
    let machine = Machine::new();
    let host = upstream.url.trim_start_matches("http:");
    let npmrc = format!("registry={}/\n{host}/:_authToken=secret\n", upstream.url);
    fs::write(machine.path("home/.npmrc"), npmrc).unwrap();
    // A project may be anybody's.
    fs::write(
        machine.path("work/.npmrc"),
        "registry=http://127.0.0.1:9/\n",
    )
    .unwrap();

    let first = machine.start(&[]);
    let url = first.line("npm config set registry").to_owned();
    let address = first.line("listening on").to_owned();
    assert!(address.starts_with("http://127.0.0.1:") && url == format!("{address}/"));
    let data = fs::canonicalize(machine.path("work"))
        .unwrap()
        .join(".rustaccio-data");
    assert_eq!(Path::new(first.line("data in")), data);
    assert_eq!(first.line("uplink"), format!("default: {}", upstream.url));
    assert_eq!(tarball(&url, &theirs).await, theirs.tarball);
    let token = register(&url, "alice").await;
    let body = publish_body(&ours, "latest").to_string();
    let request = client().put(format!("{url}ours")).bearer_auth(&token);
    assert_eq!(request.body(body).send().await.unwrap().status(), 201);
    let log = first.stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let seen = upstream.seen();
    assert!(
        !seen
            .iter()
            .any(|(_, headers)| headers.contains_key("authorization"))
    );

    upstream.stop().await;
    let second = machine.start(&[]);
    let url = second.line("npm config set registry").to_owned();
    for package in [&theirs, &ours] {
        assert_eq!(tarball(&url, package).await, package.tarball);
    }
    let request = client().get(format!("{url}-/whoami")).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 200);
    second.stop();
}

const OPEN: &str = "may make an account";
const STRANGERS: &str = "that nobody has registered";

#[tokio::test]
async fn it_warns_of_open_doors() {
    let machine = Machine::new();
    let everywhere = machine.start(&[("PORT", "0"), ("RUSTACCIO_UPSTREAM", "none")]);
    let port = everywhere.line("listening on").rsplit(':').next().unwrap();
    assert_eq!(
        everywhere.line("listening on"),
        format!("http://0.0.0.0:{port}")
    );
    // Nobody can be sent to 0.0.0.0.
    let url = format!("http://localhost:{port}/");
    assert_eq!(everywhere.line("npm config set registry"), url);
    assert_eq!(everywhere.line("uplinks"), "none");
    let log = everywhere.stop();
    assert!(log.contains(OPEN) && !log.contains(STRANGERS), "{log}");
    for variables in [
        &[("RUSTACCIO_UPSTREAM", "none")][..],
        &[
            ("PORT", "0"),
            ("RUSTACCIO_REGISTRATION", "closed"),
            ("RUSTACCIO_UPSTREAM", "none"),
        ],
        // Accounts are made elsewhere.
        &[
            ("PORT", "0"),
            ("RUSTACCIO_AUTH_EXTERNAL_MODE", "true"),
            ("RUSTACCIO_UPSTREAM", "none"),
        ],
    ] {
        let log = machine.start(variables).stop();
        assert!(!log.contains(OPEN), "{log}");
    }
}

const ALL_ADMINISTER: &str = "everybody who makes an account is an administrator";
const NOBODY_ADMINISTERS: &str = "nobody is an administrator";

/// Settings, and which of the two warnings is given.
type Case<'a> = (&'a [(&'a str, &'a str)], bool, bool);

#[tokio::test]
async fn it_warns_of_administrators_who_may_be_anybody() {
    let machine = Machine::new();
    let any = |value| ("RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED", value);
    let everywhere = ("PORT", "0");
    let closed = ("RUSTACCIO_REGISTRATION", "closed");
    let external = ("RUSTACCIO_AUTH_EXTERNAL_MODE", "true");
    let cases: [Case<'_>; 9] = [
        (&[], false, false),
        (&[everywhere], false, true),
        (
            &[everywhere, ("RUSTACCIO_ADMIN_USERS", "root")],
            false,
            false,
        ),
        (&[everywhere, closed], false, false),
        (&[any("true")], true, false),
        (&[any("true"), closed], false, false),
        (&[everywhere, any("false")], false, false),
        // Who has an account there is not known here.
        (&[everywhere, external], false, true),
        (&[everywhere, external, any("true")], false, false),
    ];
    for (variables, all, nobody) in cases {
        let variables = [variables, &[("RUSTACCIO_UPSTREAM", "none")]].concat();
        let log = machine.start(&variables).stop();
        assert_eq!(log.contains(ALL_ADMINISTER), all, "{variables:?}: {log}");
        assert_eq!(
            log.contains(NOBODY_ADMINISTERS),
            nobody,
            "{variables:?}: {log}"
        );
    }
}

#[tokio::test]
async fn it_lists_names_with_rights_that_nobody_has() {
    let machine = Machine::new();
    let rules = "packages:\n  '@a/*': {access: $all, publish: alice bob staff}\n  \
                 '**': {access: $authenticated, publish: [carol, bob]}\n";
    fs::write(machine.path("work/config.yml"), rules).unwrap();
    let mut variables = vec![
        ("RUSTACCIO_CONFIG", "config.yml"),
        ("RUSTACCIO_UPSTREAM", "none"),
        ("RUSTACCIO_ADMIN_USERS", "root, alice"),
        ("RUSTACCIO_ADMIN_GROUPS", "staff"),
    ];
    let first = machine.start(&variables);
    register(first.line("npm config set registry"), "alice").await;
    let log = first.stop();
    assert!(
        log.contains("alice, bob, carol, root") && log.contains(STRANGERS),
        "{log}"
    );
    variables.push(("RUSTACCIO_REGISTRATION", "closed"));
    let log = machine.start(&variables).stop();
    assert!(
        log.contains("\"bob, carol, root\"") && log.contains(STRANGERS),
        "{log}"
    );
}
