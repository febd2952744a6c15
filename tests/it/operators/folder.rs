//! Accounts in files, which a registry and commands change at the same time.

use std::{
    fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{WHOAMI, command, operate, run};
use crate::support::{
    Package, Registry, User, process::Process, registry::Start, second_factor::with_second_factor,
};

#[tokio::test]
async fn nothing_is_lost_where_a_registry_and_commands_write_at_once() {
    let registry = Registry::alone().await;
    let by_http = async {
        for index in 0..12 {
            registry.user(&format!("web{index:02}")).await;
        }
    };
    let by_hand = async {
        for index in 0..6 {
            let name = format!("hand{index}");
            let add = ["user", "add", &name, "--password-stdin"];
            run(command(&registry, &[]), &add, "password").await.well();
        }
    };
    tokio::join!(by_http, by_hand);
    let list = operate(&registry, &["user", "list", "--json"]).await.json();
    assert_eq!(list["users"].as_array().unwrap().len(), 18, "{list}");
    for name in ["web00", "web11", "hand0", "hand5"] {
        registry.sign_in(name, "password").await.assert(201);
    }
    let folder = registry.stop().await;
    let state = fs::read(folder.path().join("data/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["users"].as_object().unwrap().len(), 18);
    let mode = fs::metadata(folder.path().join("data/state.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_damaged_file_of_accounts_is_never_written_over() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let path = registry.data().join("state.json");
    fs::write(&path, "{ by hand").unwrap();
    registry.get_as(&alice, WHOAMI).await.assert(503);
    registry.sign_in("bob", "password").await.assert(503);
    let said = operate(&registry, &["user", "list"]).await;
    said.refused(1, &["state.json"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ by hand");
}

#[tokio::test]
async fn users_of_a_file_that_verdaccio_reads_are_changed_there() {
    let folder = tempfile::tempdir().unwrap();
    let htpasswd = folder.path().join("htpasswd");
    // `test:test`, as Verdaccio wrote it.
    let line = "test:$2b$10$4rfNcoAhqL2jRZ6dUZWa1eVqmZcwWf6ykdRlCnCbzfBaFHNIE/Aoy:autocreated 2026-01-02T03:04:05.678Z\n";
    fs::write(&htpasswd, format!("# ours\n{line}")).unwrap();
    let file = htpasswd.display().to_string();
    let variables = [("RUSTACCIO_AUTH_HTPASSWD_FILE", &*file)];
    let registry = Registry::start(&variables).await;
    let operate = async |arguments: &[&str], input: &str| {
        run(command(&registry, &variables), arguments, input).await
    };
    let alice = registry.user("alice").await;
    operate(&["user", "add", "bob", "--password-stdin"], "password")
        .await
        .well();
    registry.sign_in("bob", "password").await.assert(201);
    assert!(fs::read_to_string(&htpasswd).unwrap().contains("\nbob:$2"));
    operate(&["user", "disable", "alice"], "").await.well();
    registry.get_as(&alice, WHOAMI).await.assert(401);
    registry.sign_in("alice", "password").await.assert(403);
    // The file cannot say it, and stays as it was.
    assert!(
        fs::read_to_string(&htpasswd)
            .unwrap()
            .contains("\nalice:$2")
    );
    operate(&["user", "enable", "alice"], "").await.well();
    registry.get_as(&alice, WHOAMI).await.assert(200);
    operate(&["user", "passwd", "alice", "--password-stdin"], "another")
        .await
        .well();
    registry.get_as(&alice, WHOAMI).await.assert(401);
    registry.sign_in("alice", "another").await.assert(201);
    let long = "x".repeat(73);
    let refused = operate(&["user", "passwd", "alice", "--password-stdin"], &long).await;
    refused.refused(1, &["72 bytes"]);
    let list = operate(&["user", "list", "--json"], "").await.json();
    let names: Vec<&str> = list["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["alice", "bob", "test"]);
    assert_eq!(list["users"][2]["created"], "2026-01-02T03:04:05.678Z");
    let text = fs::read_to_string(&htpasswd).unwrap();
    assert!(text.starts_with(&format!("# ours\n{line}")), "{text}");
}

#[tokio::test]
async fn tokens_of_verdaccio_are_listed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir_all(&data).unwrap();
    let database = json!({ "list": [], "secret": "0123456789abcdef0123456789abcdef" });
    fs::write(data.join(".verdaccio-db.json"), database.to_string()).unwrap();
    let listed = json!({ "alice": [
        { "user": "alice", "token": "OGFlN...ZTI=", "key": "aaaaaaaa1", "cidr": [], "readonly": false, "created": 1_790_000_000_000_u64 },
        { "user": "alice", "token": "OGFlO...ZTI=", "key": "bbbbbbbb2", "cidr": [], "readonly": true, "created": 1_790_000_000_001_u64 }
    ] });
    fs::write(data.join(".token-db.json"), listed.to_string()).unwrap();
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    let list = operate(&registry, &["token", "list", "--json"])
        .await
        .json();
    let keys: Vec<&str> = list["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|token| token["key"].as_str())
        .collect();
    assert!(
        keys.contains(&"aaaaaaaa1") && keys.contains(&"bbbbbbbb2"),
        "{list}"
    );
    assert_eq!(
        operate(&registry, &["user", "list", "--json"]).await.json()["users"][0]["tokens"],
        3
    );
    operate(&registry, &["token", "revoke", "aaaaaaaa1"])
        .await
        .well();
    let text = fs::read_to_string(registry.data().join(".token-db.json")).unwrap();
    assert!(
        !text.contains("aaaaaaaa1") && text.contains("bbbbbbbb2"),
        "{text}"
    );
    // The registry that runs has noticed.
    let tokens = registry
        .get_as(&alice, "/-/npm/v1/tokens")
        .await
        .assert(200)
        .json();
    assert_eq!(tokens["objects"].as_array().unwrap().len(), 2, "{tokens}");
}

#[tokio::test]
async fn a_lost_second_factor_is_taken_away() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let registry = with_second_factor(registry, Vec::new(), "alice", "auth-and-writes", &[]).await;
    registry.sign_in("alice", "password").await.assert(401);
    assert_eq!(
        operate(&registry, &["user", "list", "--json"]).await.json()["users"][0]["second_factor"],
        true
    );
    let reset = ["user", "reset-second-factor", "alice"];
    let said = operate(&registry, &reset).await.well();
    assert!(said.contains("no second factor any more"), "{said}");
    registry.sign_in("alice", "password").await.assert(201);
    registry.get_as(&alice, WHOAMI).await.assert(200);
    let again = operate(&registry, &reset).await.well();
    assert_eq!(again, "alice had no second factor\n");
}

#[tokio::test]
async fn what_an_operator_does_is_in_the_trail_of_audit() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("audit.log").display().to_string();
    let variables = [("RUSTACCIO_AUDIT_LOG_FILE", &*trail)];
    let registry = Registry::start(&variables).await;
    registry.user("alice").await;
    let operate = async |arguments: &[&str]| {
        run(command(&registry, &variables), arguments, "long enough").await
    };
    operate(&["user", "add", "bob", "--password-stdin"])
        .await
        .well();
    operate(&["user", "disable", "bob"]).await.well();
    operate(&["user", "disable", "carol"])
        .await
        .refused(1, &["carol"]);
    let token = operate(&["token", "create", "--user", "alice"])
        .await
        .well();
    let token = User {
        token: token.trim().to_owned(),
    };
    operate(&["token", "revoke", &token.token]).await.well();
    operate(&["user", "list"]).await.well();
    // The registry goes on writing the same file.
    registry.sign_in("alice", "wrong").await.assert(401);
    let text = fs::read_to_string(&trail).unwrap();
    assert!(
        !text.contains(&token.token) && !text.contains("long enough"),
        "{text}"
    );
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |line: &Value| {
        let types = line["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["type"].as_str());
        let types: Vec<&str> = types.collect();
        format!(
            "{} {} {}",
            line["action"].as_str().unwrap(),
            line["outcome"].as_str().unwrap(),
            types.join(" ")
        )
    };
    let said: Vec<String> = lines.iter().map(of).collect();
    assert_eq!(
        said[1..6],
        [
            "user.add ok auth.user.registered",
            "user.disable ok auth.user.disabled",
            "user.disable failed ",
            "token.create ok auth.token.created",
            "token.revoke ok auth.token.revoked",
        ]
    );
    assert_eq!(said.len(), 7, "{said:?}");
    let failed = &lines[3];
    assert!(
        failed["reason"].as_str().unwrap().contains("carol"),
        "{failed}"
    );
    assert_eq!(failed["user"], "$operator");
    assert!(failed["uid"].is_number(), "{failed}");
}

#[tokio::test]
async fn what_fills_a_registry_is_in_its_trail() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let elsewhere = tempfile::tempdir().unwrap();
    let in_it = |name: &str| elsewhere.path().join(name).display().to_string();
    let (trail, copies, names) = (in_it("audit.log"), in_it("copies"), in_it("names"));
    fs::write(&names, "app\n").unwrap();
    let data = elsewhere.path().join("data");
    let operate = async |data: &Path, arguments: &[&str]| {
        let command = Process::command(data, &[("RUSTACCIO_AUDIT_LOG_FILE", &*trail)]);
        run(command, arguments, "").await
    };
    let import = ["import", &*registry.url, "--names", &names];
    let dry = [&import[..], &["--dry-run"]].concat();
    operate(&data, &dry).await.well();
    operate(&registry.data(), &["backup", &copies]).await.well();
    // Neither changes anything.
    assert!(!Path::new(&trail).exists());
    operate(&data, &import).await.well();
    operate(&data, &["cache", "clear"]).await.well();
    let fresh = elsewhere.path().join("fresh");
    operate(&fresh, &["restore", &copies]).await.well();
    operate(&fresh, &["migrate", "to-bucket"])
        .await
        .refused(1, &["RUSTACCIO_TARBALL_BACKEND"]);
    let text = fs::read_to_string(&trail).unwrap();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["user"], "$operator");
        let word = |field: &str| line[field].as_str().unwrap().to_owned();
        (word("action"), word("outcome"))
    });
    let lines: Vec<_> = lines.collect();
    let expected = [
        ("import", "ok"),
        ("cache.clear", "ok"),
        ("restore", "ok"),
        ("migrate", "failed"),
    ];
    assert_eq!(
        lines,
        expected.map(|(action, outcome)| (action.to_owned(), outcome.to_owned()))
    );
}

#[tokio::test]
async fn a_password_is_one_line_of_a_pipe_that_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(&folder.path().join("data"), &[]);
    let mut child = command
        .args(["user", "add", "alice", "--password-stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"password\n").unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    assert!(ended.unwrap().unwrap().success());
    drop(pipe);
}

#[test]
fn accounts_kept_elsewhere_are_changed_there() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("RUSTACCIO_AUTH_BACKEND", "http"),
        ("RUSTACCIO_AUTH_HTTP_BASE_URL", "http://127.0.0.1:9/"),
    ];
    for arguments in [
        &["user", "disable", "alice"][..],
        &["user", "list"],
        &["user", "add", "alice", "--password-stdin"],
    ] {
        let mut command = Process::command(folder.path(), &variables);
        command.args(arguments);
        let said = Process::refusal(command);
        assert!(said.contains("are changed there"), "{said}");
    }
}

#[tokio::test]
async fn accounts_can_be_made_before_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let list = || Process::command(&data, &[]);
    let said = run(list(), &["user", "list"], "").await;
    said.refused(1, &["there is no data folder", "RUSTACCIO_DATA_DIR"]);
    assert!(!data.exists());
    let add = ["user", "add", "alice", "--password-stdin"];
    run(list(), &add, "password\n").await.well();
    let registry = Registry::with(Start {
        folder: Some(folder),
        variables: vec![("RUSTACCIO_REGISTRATION", "closed".to_owned())],
        ..Start::default()
    })
    .await;
    registry.sign_in("alice", "password").await.assert(201);
    let request = registry
        .request(Method::GET, WHOAMI)
        .basic_auth("alice", Some("password"));
    registry.send(request).await.assert(200);
}
