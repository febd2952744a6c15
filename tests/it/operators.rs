//! Accounts and tokens from the command line, while a registry runs on them: what HTTP does, without
//! anybody's password.

pub(crate) mod commands;
mod folder;
#[cfg(feature = "test-clients")]
mod terminal;

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;

use crate::support::{
    Registry, User,
    process::Process,
    registry::{STORED_IN, client},
};

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Said {
    /// It went well.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        // No bar in a pipe.
        assert!(!self.err.contains(['\r', '\x1b']), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.well();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap()
    }

    /// It failed with this code, said why in these words, and answered nothing.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in {self:?}");
        }
    }
}

/// The command, with the storage of `registry`.
pub(crate) fn command(registry: &Registry, variables: &[(&str, &str)]) -> Command {
    let stored_in = std::fs::read(registry.folder().join(STORED_IN));
    let stored_in: Vec<(String, String)> = match stored_in {
        Ok(json) => serde_json::from_slice(&json).unwrap(),
        Err(_) => Vec::new(),
    };
    let mut command = Process::command(&registry.data(), variables);
    command.envs(stored_in);
    command
}

/// Runs `command`, with `input` on its standard input.
pub(crate) async fn run(mut command: Command, arguments: &[&str], input: &str) -> Said {
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // One that is refused reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let Output {
        status,
        stdout,
        stderr,
    } = done.await.unwrap();
    Said {
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
        code: status.code().unwrap(),
    }
}

/// Runs the program on the storage of `registry`.
pub(crate) async fn operate(registry: &Registry, arguments: &[&str]) -> Said {
    run(command(registry, &[]), arguments, "").await
}

/// Waits until the status of `path` for `user` is this: in a bucket, nodes notice within two seconds.
#[track_caller]
fn soon<'r>(
    registry: &'r Registry,
    user: &'r User,
    path: &'r str,
    status: u16,
) -> impl Future<Output = ()> + 'r {
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        loop {
            let answer = registry.get_as(user, path).await;
            if answer.status == status {
                return;
            }
            // What is in a folder shows at once.
            let patience = if registry.is_in_folder() { 0 } else { 20 };
            let is_late = begun.elapsed() >= Duration::from_secs(patience);
            assert!(!is_late, "{caller}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

const WHOAMI: &str = "/-/whoami";

#[tokio::test]
pub(crate) async fn an_operator_makes_accounts_and_lists_them() {
    let registry = Registry::start(&[("RUSTACCIO_REGISTRATION", "closed")]).await;
    let add = [
        "user",
        "add",
        "alice",
        "--email",
        "a@x.example",
        "--password-stdin",
    ];
    let said = run(command(&registry, &[]), &add, "correct horse\nmore\n").await;
    assert_eq!(said.well(), "alice has an account now\n");
    // Without a restart.
    registry.sign_in("alice", "correct horse").await.assert(201);
    registry.sign_in("alice", "more").await.assert(401);
    let list = operate(&registry, &["user", "list"]).await.well();
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["USER", "STATE", "2FA", "TOKENS", "CREATED", "E-MAIL"]
    );
    assert_eq!(rows[1][..4], ["alice", "active", "no", "1"], "{list}");
    assert_eq!(rows[1][5], "a@x.example", "{list}");
    let json = operate(&registry, &["user", "list", "--json"]).await.json();
    let alice = &json["users"][0];
    assert_eq!(alice["name"], "alice");
    assert_eq!(alice["disabled"], false);
    assert_eq!(alice["tokens"], 1);
    assert_eq!(alice["email"], "a@x.example");
    assert!(alice["created"].is_string(), "{json}");
    assert!(!list.contains("argon2") && !json.to_string().contains("argon2"));
}

#[tokio::test]
pub(crate) async fn what_cannot_be_an_account_is_refused_with_what_to_do() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let strict = [
        ("RUSTACCIO_PASSWORD_MIN", "10"),
        ("RUSTACCIO_PASSWORD_PATTERN", "[0-9]"),
    ];
    let add = async |name: &str, password: &str| {
        let arguments = ["user", "add", name, "--password-stdin"];
        run(command(&registry, &strict), &arguments, password).await
    };
    let weak = add("bob", "too short\n").await;
    weak.refused(1, &["at least 10 characters", "RUSTACCIO_PASSWORD_MIN"]);
    let weak = add("bob", "long enough but\n").await;
    weak.refused(
        1,
        &[
            "match `[0-9]`",
            "RUSTACCIO_PASSWORD_PATTERN",
            "choose another",
        ],
    );
    add("bob", "")
        .await
        .refused(1, &["standard input has no password"]);
    add("bob smith", "x")
        .await
        .refused(2, &["letters of ASCII"]);
    add("$all", "long enough 1\n")
        .await
        .refused(1, &["`$all` is reserved"]);
    let twice = add("alice", "long enough 1\n").await;
    twice.refused(1, &["`alice` already", "rustaccio user passwd alice"]);
    let arguments = ["user", "add", "bob"];
    let asked = run(command(&registry, &[]), &arguments, "x\n").await;
    asked.refused(1, &["--password-stdin"]);
    for unknown in [
        &["user", "disable", "bob"][..],
        &["user", "enable", "bob"],
        &["user", "reset-second-factor", "bob"],
        &["user", "passwd", "bob", "--password-stdin"],
        &["token", "list", "--user", "bob"],
        &["token", "create", "--user", "bob"],
        &["token", "revoke", "--all", "--user", "bob"],
    ] {
        let said = operate(&registry, unknown).await;
        said.refused(1, &["no user `bob`", "rustaccio user list"]);
    }
    operate(&registry, &["user"])
        .await
        .refused(2, &["Usage: rustaccio user"]);
    assert_eq!(
        operate(&registry, &["user", "list", "--json"]).await.json()["users"][0]["name"],
        "alice"
    );
}

#[tokio::test]
pub(crate) async fn a_disabled_user_is_nobody_until_she_is_enabled() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let bob = registry.user("bob").await;
    registry.get_as(&alice, WHOAMI).await.assert(200);
    let basic = || {
        registry
            .request(Method::GET, WHOAMI)
            .basic_auth("alice", Some("password"))
    };
    registry.send(basic()).await.assert(200);
    let said = operate(&registry, &["user", "disable", "alice"])
        .await
        .well();
    assert!(said.starts_with("alice is disabled"), "{said}");
    soon(&registry, &alice, WHOAMI, 401).await;
    registry.send(basic()).await.assert(401);
    let refused = registry.sign_in("alice", "password").await.assert(403);
    assert!(refused.error().contains("disabled"), "{refused:?}");
    // Who does not know her password learns nothing.
    let wrong = registry.sign_in("alice", "wrong").await.assert(401);
    assert!(!wrong.error().contains("disabled"), "{wrong:?}");
    registry.get_as(&bob, WHOAMI).await.assert(200);
    let list = operate(&registry, &["user", "list", "--json"]).await.json();
    assert_eq!(list["users"][0]["disabled"], true);
    let again = operate(&registry, &["user", "disable", "alice", "--json"])
        .await
        .json();
    assert_eq!(
        (&again["user"], &again["changed"]),
        (&"alice".into(), &false.into())
    );
    let said = operate(&registry, &["user", "enable", "alice", "--json"])
        .await
        .json();
    assert_eq!(
        (&said["user"], &said["changed"]),
        (&"alice".into(), &true.into())
    );
    soon(&registry, &alice, WHOAMI, 200).await;
    registry.send(basic()).await.assert(200);
    registry.sign_in("alice", "password").await.assert(201);
}

#[tokio::test]
pub(crate) async fn another_password_ends_logins_and_no_other_tokens() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let create = ["token", "create", "--user", "alice", "--name", "ci"];
    let token = operate(&registry, &create).await.well();
    let ci = User {
        token: token.trim_end().to_owned(),
    };
    registry.get_as(&ci, WHOAMI).await.assert(200);
    let passwd = ["user", "passwd", "alice", "--password-stdin"];
    let said = run(command(&registry, &[]), &passwd, "another one")
        .await
        .well();
    assert!(said.contains("logins are ended"), "{said}");
    soon(&registry, &alice, WHOAMI, 401).await;
    registry.sign_in("alice", "password").await.assert(401);
    registry.sign_in("alice", "another one").await.assert(201);
    registry.get_as(&ci, WHOAMI).await.assert(200);
}

#[tokio::test]
pub(crate) async fn tokens_are_made_listed_and_revoked_without_a_password() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let create = [
        "token",
        "create",
        "--user",
        "alice",
        "--name",
        "ci\x1b",
        "--readonly",
        "--cidr",
        "127.0.0.0/8",
        "--scope",
        "@acme",
        "--package",
        "app",
        "--expires",
        "90d",
        "--json",
    ];
    let made = operate(&registry, &create).await.json();
    let ci = User {
        token: made["token"].as_str().unwrap().to_owned(),
    };
    assert!(
        ci.token.starts_with("rca_") && ci.token.len() > 40,
        "{made}"
    );
    assert_eq!(
        registry.get_as(&ci, WHOAMI).await.assert(200).json()["username"],
        "alice"
    );
    let body = serde_json::json!("1.0.0");
    registry
        .put(&ci, "/-/package/app/dist-tags/beta", &body)
        .await
        .assert(403);

    let list = operate(&registry, &["token", "list"]).await.well();
    let heading = "KEY       USER   TOKEN      KIND   NAME";
    assert!(list.starts_with(heading), "{list}");
    assert!(list.contains("  read 127.0.0.0/8 app @acme\n"), "{list}");
    let login = list.lines().find(|line| line.contains("  login  "));
    assert!(
        login.is_some_and(|line| line.chars().count() <= 80),
        "{list}"
    );
    assert!(
        !list.contains('\x1b') && list.contains("ci\\u{1b}  "),
        "{list}"
    );
    assert!(!list.contains(&ci.token), "{list}");
    let json = operate(&registry, &["token", "list", "--user", "alice", "--json"])
        .await
        .json();
    let kinds: Vec<&str> = json["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["login", "token"]);
    assert_eq!(json["tokens"][1]["readonly"], true);
    assert_eq!(json["tokens"][1]["scopes"][0], "@acme");
    assert!(json["tokens"][1]["expires"].is_string());

    let key = json["tokens"][1]["key"].as_str().unwrap();
    let said = operate(&registry, &["token", "revoke", &key[..8]])
        .await
        .well();
    assert_eq!(said, "1 token is revoked\n");
    soon(&registry, &ci, WHOAMI, 401).await;
    registry.get_as(&alice, WHOAMI).await.assert(200);
    let said = operate(&registry, &["token", "revoke", &alice.token, "--json"])
        .await
        .json();
    assert_eq!(said["revoked"], 1);
    soon(&registry, &alice, WHOAMI, 401).await;
}

#[tokio::test]
pub(crate) async fn all_tokens_of_a_user_are_revoked_at_once() {
    let registry = Registry::alone().await;
    let (one, two) = (registry.user("alice").await, registry.user("alice").await);
    let bob = registry.user("bob").await;
    let all = ["token", "revoke", "--all", "--user", "alice"];
    assert_eq!(
        operate(&registry, &all).await.well(),
        "2 tokens are revoked\n"
    );
    soon(&registry, &one, WHOAMI, 401).await;
    soon(&registry, &two, WHOAMI, 401).await;
    registry.get_as(&bob, WHOAMI).await.assert(200);
}

#[tokio::test]
pub(crate) async fn what_can_be_no_token_is_refused_with_what_to_do() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let said = operate(&registry, &["token", "revoke", "0123456789ab"]).await;
    said.refused(1, &["no such token", "rustaccio token list"]);
    // Too little to be meant.
    operate(&registry, &["token", "revoke", "0"])
        .await
        .refused(1, &["no such token"]);
    for (wrong, words) in [
        (&["token", "create"][..], "--user"),
        (&["token", "revoke"][..], "TOKEN"),
        (&["token", "revoke", "--all"][..], "--user"),
        (
            &["token", "create", "--user", "alice", "--expires", "soon"][..],
            "soon",
        ),
        (
            &["token", "create", "--user", "alice", "--scope", "acme"][..],
            "begins with @",
        ),
        (
            &["token", "create", "--user", "alice", "--package", "../x"][..],
            "../x",
        ),
    ] {
        operate(&registry, wrong).await.refused(2, &[words]);
    }
    let network = ["token", "create", "--user", "alice", "--cidr", "here"];
    operate(&registry, &network).await.refused(1, &["here"]);
    assert_eq!(
        client().get(&registry.url).send().await.unwrap().status(),
        200
    );
}
