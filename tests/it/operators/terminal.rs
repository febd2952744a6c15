//! On a terminal: passwords are asked for and not shown, and long commands have a bar.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Package, Registry, process::Process};

const COLUMNS: usize = 120;

/// Runs the program on a terminal and answers each question; all that the terminal showed, and whether it
/// went well.
fn on_terminal(data: &Path, arguments: &str, turns: &[(&str, &str)]) -> (String, bool) {
    let program = env!("CARGO_BIN_EXE_rustaccio");
    let mut child = Command::new("script")
        .args([
            "-qec",
            &format!("stty cols {COLUMNS}; {program} {arguments}"),
            "/dev/null",
        ])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TERM", "xterm")
        .env("RUSTACCIO_DATA_DIR", data)
        .env("RUSTACCIO_UPSTREAM", "none")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut shown, mut from) = (String::new(), 0);
    let mut turns = turns.iter().peekable();
    let mut buffer = [0; 1024];
    loop {
        let count = stdout.read(&mut buffer).unwrap_or_default();
        if count == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some((question, answer)) = turns.peek()
            && let Some(at) = shown[from..].find(question)
        {
            from += at + question.len();
            write!(stdin, "{answer}").unwrap();
            turns.next();
        }
    }
    drop(stdin);
    assert!(turns.next().is_none(), "{shown}");
    (shown, child.wait().unwrap().success())
}

#[tokio::test]
async fn passwords_are_asked_for_twice_and_not_shown() {
    let registry = Registry::alone().await;
    let data = registry.data();
    let talk = move |arguments: &'static str, turns: Vec<(&'static str, &'static str)>| {
        let data = data.clone();
        tokio::task::spawn_blocking(move || on_terminal(&data, arguments, &turns))
    };
    let first = "New password of alice: ";
    let other = vec![(first, "secret one\r"), ("Once more: ", "secret two\r")];
    let (shown, is_well) = talk("user add alice", other).await.unwrap();
    assert!(!is_well && shown.contains("are not the same"), "{shown}");
    // A slip of the hand, taken back.
    let same = vec![
        (first, "secret onx\x7fe\r"),
        ("Once more: ", "secret one\r"),
    ];
    let (shown, is_well) = talk("user add alice", same).await.unwrap();
    assert!(
        is_well && shown.contains("alice has an account now"),
        "{shown}"
    );
    assert!(!shown.contains("secret"), "{shown}");
    registry.sign_in("alice", "secret one").await.assert(201);
    let interrupted = vec![(first, "secret\x03")];
    let (shown, is_well) = talk("user passwd alice; stty -a", interrupted)
        .await
        .unwrap();
    assert!(is_well && shown.contains("nothing was typed"), "{shown}");
    // The terminal is as it was.
    assert!(
        shown.contains(" echo ") && shown.contains(" icanon"),
        "{shown}"
    );
    registry.sign_in("alice", "secret one").await.assert(201);
}

#[tokio::test]
async fn long_commands_have_a_bar_on_a_terminal_and_none_in_a_pipe() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for name in ["one", "two", "three"] {
        registry
            .publish(&alice, &Package::new(name, "1.0.0"))
            .await
            .assert(201);
    }
    let url = registry.url.clone();
    let elsewhere = tempfile::tempdir().unwrap();
    let fresh = elsewhere.path().join("data");
    let (names, lockfile) = (
        elsewhere.path().join("names"),
        elsewhere.path().join("package-lock.json"),
    );
    std::fs::write(&names, "one\ntwo\n").unwrap();
    std::fs::write(
        &lockfile,
        r#"{"lockfileVersion":3,"packages":{"":{},"node_modules/one":{"version":"1.0.0"}}}"#,
    )
    .unwrap();
    let (names, lockfile) = (names.display(), lockfile.display());
    let asking = [
        (format!("import {url} --names {names}"), "of 2 packages"),
        (
            format!("shadow {url} --with {url} --names {names}"),
            "of 2 packages",
        ),
        (
            format!("mirror --lockfile {lockfile} --registry {url}"),
            "of 1 packages",
        ),
    ];
    for (arguments, count) in asking {
        has_bar(&fresh, &arguments, count).await;
    }
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    let copies = folder.path().join("copies");
    let copies = copies.display();
    let other = folder.path().join("other");
    has_bar(&data, "fsck", "of 3 packages").await;
    has_bar(&data, "reindex", "of 3 packages").await;
    has_bar(&data, &format!("backup {copies}"), "packages, ").await;
    has_bar(&other, &format!("restore {copies}"), "packages, ").await;
    has_bar(&data, "cache stats", "so far").await;
}

#[cfg(all(feature = "postgres", feature = "test-services"))]
#[tokio::test]
async fn a_migration_has_a_bar_too() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("one", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let folder = registry.stop().await;
    let file = folder.path().join("config.yaml");
    let url = crate::support::postgres::schema().await;
    std::fs::write(&file, format!("metadata_postgres_url: {url:?}\n")).unwrap();
    let migrate = format!("migrate to-postgres --config {}", file.display());
    has_bar(&folder.path().join("data"), &migrate, "1 packages, ").await;
}

#[tokio::test]
async fn help_is_wrapped_at_words() {
    let help = || on_terminal(Path::new("/nowhere"), "import --help", &[]);
    let (shown, is_well) = tokio::task::spawn_blocking(help).await.unwrap();
    assert!(is_well && shown.contains("--as-override"), "{shown}");
    for line in shown.lines() {
        assert!(line.trim_end().len() <= COLUMNS, "{line}");
    }
    // Its own options come first.
    let place = |option: &str| shown.find(option).unwrap();
    assert!(place("--as-override") < place("--config"), "{shown}");
}

async fn has_bar(data: &Path, arguments: &str, count: &str) {
    let line = arguments.to_owned();
    let folder = data.to_owned();
    let shown = tokio::task::spawn_blocking(move || on_terminal(&folder, &line, &[]));
    let (shown, is_well) = shown.await.unwrap();
    assert!(is_well, "{arguments}: {shown}");
    assert!(
        shown.contains('\r') && shown.contains(count),
        "{arguments}: {shown:?}"
    );
    let mut piped = Process::command(data, &[]);
    piped.args(arguments.split(' '));
    let said = tokio::task::spawn_blocking(move || piped.output().unwrap());
    let said = said.await.unwrap();
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(
        !said.contains(['\r', '\x1b']) && !said.contains(count),
        "{arguments}: {said}"
    );
}
