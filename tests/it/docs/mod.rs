//! What the documentation says of addresses, commands, settings, files and tests is so.

mod commands;
mod links;
mod pages;
#[cfg(feature = "test-clients")]
mod walks;

use std::{collections::BTreeSet, fs, path::Path};
#[cfg(feature = "test-clients")]
use std::{path::PathBuf, process::Command};

use commands::Program;
use pages::{Page, pages};

use crate::protocol_table::tests_in;

/// Files of ours that pages show as a whole.
const SHOWN: [(&str, &str); 4] = [
    ("docs/proxies.md", "deploy/nginx/rustaccio.conf"),
    ("docs/proxies.md", "deploy/caddy/Caddyfile"),
    ("docs/proxies.md", "deploy/traefik/traefik.yml"),
    ("docs/proxies.md", "deploy/traefik/rustaccio.yml"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn nothing_is_wrong(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    nothing_is_wrong(&links::problems(root(), &pages(root())));
}

#[test]
fn the_book_has_every_page_once() {
    nothing_is_wrong(&links::problems_of_the_book(&pages(root())));
}

#[test]
fn every_command_and_option_exists() {
    let program = Program::ask(env!("CARGO_BIN_EXE_rustaccio"));
    let found: Vec<_> = pages(root()).iter().flat_map(commands::named_in).collect();
    // Where nothing is found, nothing is looked at.
    assert!(found.len() > 50, "{found:?}");
    nothing_is_wrong(&commands::problems(&found, &program));
}

#[test]
fn every_variable_exists() {
    let known = commands::known_variables(root());
    let problems = |page: &Page| commands::problems_of_variables(page, &known);
    nothing_is_wrong(&pages(root()).iter().flat_map(problems).collect::<Vec<_>>());
}

#[test]
fn settings_in_yaml_load() {
    let folder = tempfile::tempdir().unwrap();
    let (mut count, mut problems) = (0, Vec::new());
    for page in pages(root()) {
        for block in page.blocks.iter().filter(|block| block.info == "yaml") {
            count += 1;
            problems.extend(commands::problem_of_settings(&page, block, folder.path()));
        }
    }
    assert!(count > 0);
    nothing_is_wrong(&problems);
}

/// Other programs' files are YAML at least.
#[test]
fn all_yaml_can_be_read() {
    let mut problems = Vec::new();
    for page in pages(root()) {
        let blocks = page.blocks.iter();
        for block in blocks.filter(|block| block.info.starts_with("yaml")) {
            let read: Result<serde_json::Value, _> = serde_saphyr::from_str(&block.text);
            problems.extend(read.err().map(|error| format!("{}: {error}", page.name)));
        }
    }
    nothing_is_wrong(&problems);
}

#[test]
fn files_that_are_shown_are_those_that_are_there() {
    let pages = pages(root());
    for (name, file) in SHOWN {
        let page = pages.iter().find(|page| page.name == name).unwrap();
        let text = fs::read_to_string(root().join(file)).unwrap();
        let is_shown = page.blocks.iter().any(|block| block.text == text);
        assert!(is_shown, "{name} shows another {file}");
    }
}

/// Tests that pages name, other than those of `docs/protocol.md`, which has a test of its own.
#[test]
fn tests_that_are_named_exist() {
    let tests: BTreeSet<String> = tests_in("tests/it")
        .into_iter()
        .chain(tests_in("src"))
        .collect();
    let modules = tests_in("tests/it");
    let modules: BTreeSet<&str> = modules
        .iter()
        .filter_map(|test| test.split("::").next())
        .collect();
    let mut count = 0;
    let mut problems = Vec::new();
    for page in pages(root()) {
        for code in page.code.iter().filter(|code| is_path_of_a_test(code)) {
            let first = code.split("::").next().unwrap_or_default();
            // Paths into the library look the same.
            if !modules.contains(first) && !code.contains("::tests::") {
                continue;
            }
            count += 1;
            let within = format!("{code}::");
            if !tests.contains(code) && !tests.iter().any(|test| test.starts_with(&within)) {
                problems.push(format!("{}: there is no test `{code}`", page.name));
            }
        }
    }
    assert!(count > 100, "{count}");
    nothing_is_wrong(&problems);
}

fn is_path_of_a_test(code: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    code.contains("::") && code.bytes().all(|byte| is_word(byte) || byte == b':')
}

/// The book can be made, of all pages.
#[cfg(feature = "test-clients")]
#[test]
fn the_book_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(tool("mdbook"))
        .args(["build", "docs", "--dest-dir"])
        .arg(folder.path())
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    for page in pages(root()) {
        if let Some(name) = page.name.strip_prefix("docs/")
            && name != "SUMMARY.md"
        {
            let made = name
                .replace("README.md", "index.md")
                .replace(".md", ".html");
            assert!(
                folder.path().join(&made).is_file(),
                "the book has no {made}"
            );
        }
    }
}

/// Prometheus takes the alerts; each fires when it should, and none where all is well.
#[cfg(feature = "test-clients")]
#[test]
fn alerts_fire_when_they_should() {
    const RULES: &str = "deploy/prometheus/rustaccio.rules.yml";
    for arguments in [
        ["check", "rules", RULES],
        ["test", "rules", "tests/alerts.yml"],
    ] {
        let output = Command::new(tool("promtool"))
            .args(arguments)
            .current_dir(root())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{said}");
    }
}

/// A program that `./scripts/proxies` installs.
#[cfg(feature = "test-clients")]
pub(crate) fn tool(name: &str) -> PathBuf {
    let ours = root().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap();
    let mut folders = std::iter::once(ours).chain(std::env::split_paths(&path));
    let found = folders.find_map(|folder| {
        let file = folder.join(name);
        file.is_file().then_some(file)
    });
    found.unwrap_or_else(|| panic!("{name} is not installed; run `./scripts/proxies`"))
}

/// A folder with these pages.
fn planted(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn links_that_are_broken_are_found() {
    let folder = planted(&[
        (
            "README.md",
            "# One\n[a](docs/a.md#two-words--more) [b](docs/none.md) [c](docs/a.md#none) \
             ![d](none.png) [e](#one) [f](#none) [g](https://elsewhere.example/none)\n\n\
             ```\n[h](none.md)\n```\n`[i](none.md)`\n",
        ),
        (
            "docs/a.md",
            "## Two `words` & more\n[out](../README.md) [in](b/c.md)\n",
        ),
        ("docs/b/c.md", "# C\n[up](../a.md)\n"),
        ("docs/SUMMARY.md", "[A](a.md) [A](a.md) [gone](gone.md)\n"),
    ]);
    let pages = pages(folder.path());
    let wrong = [
        "README.md: docs/none.md is not there",
        "README.md: docs/a.md has no heading #none",
        "README.md: none.png is not there",
        "README.md: README.md has no heading #none",
        "docs/SUMMARY.md: docs/gone.md is not there",
        "docs/a.md: README.md is not part of the book",
    ];
    let found: BTreeSet<String> = links::problems(folder.path(), &pages).into_iter().collect();
    assert_eq!(found, wrong.map(str::to_owned).into());
    let wrong = [
        "docs/SUMMARY.md has docs/a.md 2 times",
        "docs/SUMMARY.md has docs/b/c.md 0 times",
    ];
    let found = links::problems_of_the_book(&pages);
    assert_eq!(found, wrong);
}

#[test]
fn what_is_invented_is_found() {
    let folder = planted(&[(
        "README.md",
        "`rustaccio fsck --mend` `rustaccio cache wash` `rustaccio bakup` `rustaccio` \
         `rustaccio cache prune` RUSTACCIO_NONSENSE `RUSTACCIO_S3_*` RUSTACCIO_NON… RUSTACCIO_BIND\n\n\
         ```sh\nRUSTACCIO_BIND=127.0.0.1:0 rustaccio --no-such-thing   # --nor-this\n\
         sudo -u npm rustaccio backup --keep 3 --hold x && rustaccio -Z\n\
         rustaccio fsck   which takes a while\n```\n\n\
         ```yaml\nmax_body_size: much\nmax_bodies: 1\n```\n\n```yaml other\nmax_body_size: much\n```\n",
    )]);
    let pages = pages(folder.path());
    let program = Program::ask(env!("CARGO_BIN_EXE_rustaccio"));
    let found = commands::problems(&commands::named_in(&pages[0]), &program);
    let wrong = [
        "README.md: `rustaccio fsck` has no --mend",
        "README.md: `rustaccio cache` has no wash",
        "README.md: `rustaccio` has no bakup",
        "README.md: `rustaccio` has no --no-such-thing",
        "README.md: `rustaccio backup` has no --hold",
        "README.md: `rustaccio` has no -Z",
        "README.md: `rustaccio fsck` has no which",
    ];
    let found: BTreeSet<String> = found.into_iter().collect();
    assert_eq!(found, wrong.map(str::to_owned).into());
    let known = commands::known_variables(root());
    let found = commands::problems_of_variables(&pages[0], &known);
    let wrong = [
        "README.md: nothing reads RUSTACCIO_NON",
        "README.md: nothing reads RUSTACCIO_NONSENSE",
    ];
    assert_eq!(found, wrong);
    let block = pages[0].blocks.iter().find(|block| block.info == "yaml");
    let problem = commands::problem_of_settings(&pages[0], block.unwrap(), folder.path());
    let problem = problem.unwrap();
    for wrong in ["max_body_size", "`max_bodies` does nothing"] {
        assert!(problem.contains(wrong), "{problem}");
    }
}
