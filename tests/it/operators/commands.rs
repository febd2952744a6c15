//! Every command's table, its `--json`, and its complaint about bad input.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Said, operate, run};
use crate::support::{Package, Registry, process::Process, registry::Start};

/// Runs the program on the data folder `data`, where no registry runs.
async fn at(data: &Path, arguments: &[&str]) -> Said {
    run(Process::command(data, &[]), arguments, "").await
}

/// A stopped registry with two versions and a user; its folder.
async fn some_packages() -> tempfile::TempDir {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for version in ["1.0.0", "2.0.0"] {
        registry
            .publish(&alice, &Package::new("app", version))
            .await
            .assert(201);
    }
    registry.stop().await
}

#[tokio::test]
async fn reindexing_rebuilds_what_is_lost() {
    let folder = some_packages().await;
    let data = folder.path().join("data");
    fs::remove_file(data.join("tarballs/app/package.json")).unwrap();
    let said = at(&data, &["reindex"]).await.well();
    assert_eq!(
        said,
        "packages before   0\npackages now      1\nmanifests rebuilt 1\nmanifests damaged 0\nwhat was lost is there again\n"
    );
    let json = at(&data, &["reindex", "--json"]).await.json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["changed"], false);
    assert_eq!(json["packagesBefore"], 1);
    assert_eq!(json["packagesAfter"], 1);
    assert_eq!(json["sidecarsSynced"], 0);
    fs::write(data.join("tarballs/app/package.json"), "{").unwrap();
    let said = at(&data, &["reindex"]).await;
    assert_eq!(said.code, 1);
    assert!(said.out.contains("manifests damaged 1"), "{said:?}");
    let nowhere = folder.path().join("nowhere");
    at(&nowhere, &["reindex"])
        .await
        .refused(1, &["no data folder", "RUSTACCIO_DATA_DIR"]);
}

#[tokio::test]
async fn a_registry_that_runs_reindexes_itself() {
    let folder = some_packages().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        variables: vec![("RUSTACCIO_ADMIN_USERS", "alice".to_owned())],
        ..Start::default()
    })
    .await;
    let said = operate(&registry, &["reindex"]).await;
    said.refused(1, &["a registry runs", "--registry"]);
    let ask = ["reindex", "--registry", &*registry.url, "--json"];
    operate(&registry, &ask)
        .await
        .refused(1, &["401", "--npmrc"]);
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let npmrc = registry.folder().join(".npmrc");
    let path = npmrc.display().to_string();
    let host = registry.url.strip_prefix("http:").unwrap();
    let as_whom = async |token: &str| {
        fs::write(&npmrc, format!("{host}/:_authToken={token}\n")).unwrap();
        operate(&registry, &[&ask[..], &["--npmrc", &path]].concat()).await
    };
    as_whom(&bob.token)
        .await
        .refused(1, &["403", "RUSTACCIO_ADMIN_USERS"]);
    let json = as_whom(&alice.token).await.json();
    assert_eq!(
        (&json["ok"], &json["packagesAfter"]),
        (&true.into(), &1.into())
    );
    operate(&registry, &["reindex", "--registry", "nowhere"])
        .await
        .refused(2, &["address"]);
    operate(&registry, &["reindex", "--npmrc", "x"])
        .await
        .refused(2, &["--registry"]);
}

#[tokio::test]
async fn checks_and_copies_say_what_they_did() {
    let folder = some_packages().await;
    let data = folder.path().join("data");
    let json = at(&data, &["fsck", "--json"]).await.json();
    assert_eq!(
        (&json["ok"], &json["packages"], &json["tarballs"]),
        (&true.into(), &1.into(), &2.into())
    );
    let copies = folder.path().join("copies").display().to_string();
    let json = at(&data, &["backup", &copies, "--json"]).await.json();
    assert_eq!(
        (&json["ok"], &json["packages"], &json["copied"]),
        (&true.into(), &1.into(), &2.into())
    );
    assert!(json["path"].as_str().unwrap().starts_with(&copies));
    let text = at(&data, &["backup", &copies]).await.well();
    assert!(
        text.contains("tarballs: 0 copied, 2 in an earlier snapshot\n"),
        "{text}"
    );
    assert!(
        text.ends_with("is complete, and what was copied was read back\n"),
        "{text}"
    );
    let fresh = folder.path().join("fresh");
    let json = at(&fresh, &["restore", &copies, "--json"]).await.json();
    assert_eq!(
        (&json["ok"], &json["packages"]["moved"]),
        (&true.into(), &1.into())
    );
    let text = at(&fresh, &["restore", &copies]).await.well();
    assert!(
        text.contains("packages: 0 moved, 1 there already\n"),
        "{text}"
    );

    fs::remove_file(data.join("tarballs/app/app-1.0.0.tgz")).unwrap();
    let said = at(&data, &["fsck", "--json"]).await;
    assert_eq!(said.code, 1);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let problem = &json["problems"][0];
    assert_eq!(
        (&problem["kind"], &problem["package"]),
        (&"missing-tarball".into(), &"app".into())
    );
    assert_eq!(json["ok"], false);
    let said = at(&data, &["fsck"]).await;
    assert_eq!(said.code, 1);
    assert!(
        said.out.starts_with("app@1.0.0: the tarball is missing\n"),
        "{said:?}"
    );

    let nowhere = folder.path().join("nowhere");
    at(&nowhere, &["backup", &copies, "--json"])
        .await
        .refused(1, &["no snapshot was made"]);
    let none = nowhere.display().to_string();
    at(&fresh, &["restore", &none, "--json"])
        .await
        .refused(1, &[&none]);
    at(&data, &["migrate", "sideways"])
        .await
        .refused(2, &["to-postgres", "from-bucket"]);
    at(&data, &["migrate", "to-bucket", "--json"])
        .await
        .refused(1, &["RUSTACCIO_TARBALL_BACKEND"]);
    at(&data, &["backup", &copies, "--keep", "0"])
        .await
        .refused(2, &["--keep"]);
    at(&data, &["fsck", "app"])
        .await
        .refused(2, &["Usage: rustaccio fsck"]);
}

#[tokio::test]
async fn the_cache_and_the_keys_are_counted_in_tables() {
    let folder = some_packages().await;
    let data = folder.path().join("data");
    let text = at(&data, &["cache", "stats"]).await.well();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("cache: 0 files, 0 bytes"), "{text}");
    assert_eq!(lines[1], "FROM  DOCUMENTS         TARBALLS");
    assert_eq!(lines[2], "all   0 files, 0 bytes  0 files, 0 bytes");
    let json = at(&data, &["cache", "stats", "--json"]).await.json();
    assert_eq!(json["total"]["files"], 0);
    let json = at(&data, &["cache", "clear", "--json"]).await.json();
    assert_eq!(json["removed"]["files"], 0);
    at(&data, &["cache", "prune"])
        .await
        .refused(1, &["--max-size"]);
    at(&data, &["cache", "prune", "--max-size", "much"])
        .await
        .refused(2, &["much"]);

    let json = at(&data, &["signing-key", "list", "--json"]).await.json();
    let key = json["keys"][0]["keyid"].as_str().unwrap();
    assert!(json["keys"][0]["expires"].is_null(), "{json}");
    let text = at(&data, &["signing-key", "rotate"]).await.well();
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("KEY "), "{text}");
    assert!(rows[1].starts_with(&format!("{key}  expired  2")), "{text}");
    assert!(rows[2].ends_with("  signs    -"), "{text}");
    assert!(!text.contains("private"), "{text}");
    at(&data, &["signing-key", "turn"])
        .await
        .refused(2, &["turn"]);
}

#[tokio::test]
async fn settings_are_checked_for_programs_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, "max_body_size: 5mb\nno_such_key: 1\n").unwrap();
    let path = file.display().to_string();
    let data = folder.path().join("data");
    let json = at(&data, &["config", "check", "--json", "--config", &path])
        .await
        .json();
    assert_eq!(json["ok"], true);
    let readings = json["readings"].as_array().unwrap();
    let reading = readings
        .iter()
        .find(|one| one["path"] == "max_body_size")
        .unwrap();
    assert_eq!(reading["value"], "5mb");
    assert!(!json["warnings"].as_array().unwrap().is_empty(), "{json}");
    fs::write(&file, "max_body_size: much\n").unwrap();
    let said = at(&data, &["config", "check", "--json", "--config", &path]).await;
    assert_eq!(said.code, 2);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["ok"], false);
    assert!(
        json["problems"][0]
            .as_str()
            .unwrap()
            .contains("max_body_size"),
        "{json}"
    );
    // All commands say it alike.
    for arguments in [
        &["user", "list", "--json"][..],
        &["token", "list"],
        &["reindex"],
        &["fsck", "--json"],
    ] {
        let said = at(&data, &[arguments, &["--config", &path]].concat()).await;
        said.refused(2, &["max_body_size"]);
    }
}

#[tokio::test]
async fn commands_that_ask_registries_say_it_in_json_too() {
    let folder = some_packages().await;
    let registry = Registry::with(Start {
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let fresh = tempfile::tempdir().unwrap();
    let data = fresh.path().join("data");
    let names = fresh.path().join("names");
    fs::write(&names, "app\n").unwrap();
    let names = names.display().to_string();
    let chosen = ["--names", &names, "--json"];
    let url = &*registry.url;
    let json = at(&data, &[&["import", url][..], &chosen].concat())
        .await
        .json();
    assert_eq!((&json["ok"], &json["packages"]), (&true.into(), &1.into()));
    let json = at(
        &data,
        &[&["shadow", url, "--with", url][..], &chosen].concat(),
    )
    .await
    .json();
    assert_eq!((&json["ok"], &json["packages"]), (&true.into(), &1.into()));
    let lockfile = fresh.path().join("package-lock.json");
    fs::write(
        &lockfile,
        r#"{"lockfileVersion":3,"packages":{"":{},"node_modules/app":{"version":"1.0.0"}}}"#,
    )
    .unwrap();
    let lockfile = lockfile.display().to_string();
    let mirror = [
        "mirror",
        "--lockfile",
        &lockfile,
        "--registry",
        url,
        "--json",
    ];
    let json = at(&data, &mirror).await.json();
    assert_eq!((&json["ok"], &json["packages"]), (&true.into(), &1.into()));
    for (arguments, word) in [
        (&["import", "ftp://x"][..], "http"),
        (&["shadow"][..], "URL"),
        (&["mirror"][..], "--lockfile"),
        (
            &["mirror", "--lockfile", &lockfile, "--npmrc", "x"][..],
            "--registry",
        ),
    ] {
        at(&data, arguments).await.refused(2, &[word]);
    }
}

#[tokio::test]
async fn shells_and_man_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let commands = [
        "serve",
        "user",
        "token",
        "cache",
        "fsck",
        "reindex",
        "backup",
        "restore",
        "migrate",
        "import",
        "mirror",
        "shadow",
        "signing-key",
        "config",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = at(folder.path(), &["completions", shell]).await.well();
        for command in commands {
            assert!(text.contains(command), "{shell} does not know {command}");
        }
    }
    at(folder.path(), &["completions", "dos"])
        .await
        .refused(2, &["bash", "fish", "zsh"]);
    let page = at(folder.path(), &["man"]).await.well();
    assert!(page.contains(".TH rustaccio 1"), "{page}");
    let pages = folder.path().join("man");
    let text = at(folder.path(), &["man", pages.to_str().unwrap()])
        .await
        .well();
    assert!(text.contains("rustaccio.1"), "{text}");
    for command in commands {
        let page = fs::read_to_string(pages.join(format!("rustaccio-{command}.1")));
        assert!(page.unwrap().contains(".SH SYNOPSIS"), "{command}");
    }
    let page = fs::read_to_string(pages.join("rustaccio-user-add.1")).unwrap();
    assert!(page.contains("password\\-stdin"), "{page}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let said = at(folder.path(), &["man", file.to_str().unwrap()]).await;
    said.refused(1, &["cannot write", "another folder"]);
    let help = at(folder.path(), &["--help"]).await.well();
    for command in commands {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} in {help}"
        );
    }
}
