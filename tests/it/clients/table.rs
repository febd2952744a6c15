//! The table of clients and commands in the documentation. Each client owns a line of it, and a
//! line for each thing that it cannot do.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{Command, Outcome};
use crate::support::client::version;

/// Set to write what came out, instead of comparing it.
const ACCEPT: &str = "RUSTACCIO_ACCEPT_CLIENT_TABLE";

const HEAD: &str = "\
# Clients

What each client does against rustaccio, as the tests found it: `./scripts/test --clients` runs all of them and writes this
page, `./scripts/test` runs the newest of each. ✓ works; – is something that the client itself cannot do, for the reason below.

";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")
}

/// Checks the lines of a client, or writes them.
pub(super) fn check(name: &str, cells: &[(&str, Outcome)]) {
    let lines = lines(name, cells);
    // Other clients are at it at the same time.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/table.lock");
    let lock = File::create(lock).unwrap();
    lock.lock().unwrap();
    let text = fs::read_to_string(page()).unwrap_or_default();
    let merged = merge(&text, name, &lines);
    if std::env::var_os(ACCEPT).is_some() {
        fs::write(page(), merged).unwrap();
    } else {
        assert!(
            text == merged,
            "docs/clients.md says something else of {name}; run `./scripts/test --clients`:\n{}",
            lines.join("\n")
        );
    }
}

/// `npm 12.2.1`.
fn title(name: &str) -> String {
    let (package, _) = version(name);
    let (_, version) = package.rsplit_once('@').unwrap();
    let (family, _) = name.split_once('-').unwrap();
    format!("{family} {version}")
}

fn lines(name: &str, cells: &[(&str, Outcome)]) -> Vec<String> {
    let title = title(name);
    let mut row = format!("| {title} |");
    let mut reasons = Vec::new();
    for (column, outcome) in cells {
        match outcome {
            Outcome::Works => row.push_str(" ✓ |"),
            Outcome::Cannot(reason) => {
                row.push_str(" – |");
                reasons.push(format!("- {title}, {column}: {reason}"));
            }
        }
    }
    reasons.insert(0, row);
    reasons
}

/// `text` with these lines in place of those that `name` had.
fn merge(text: &str, name: &str, lines: &[String]) -> String {
    let family_and_major = title(name);
    let is_own = |line: &str| {
        line.starts_with(&format!("| {family_and_major} |"))
            || line.starts_with(&format!("- {family_and_major},"))
    };
    let kept = text.lines().filter(|line| !is_own(line));
    let all: Vec<&str> = kept.chain(lines.iter().map(String::as_str)).collect();
    let mut page = HEAD.to_owned();
    let columns: Vec<&str> = Command::ALL.iter().map(|(_, column)| *column).collect();
    writeln!(page, "| | {} |", columns.join(" | ")).unwrap();
    writeln!(page, "|---|{}", "---|".repeat(columns.len())).unwrap();
    let titles: Vec<String> = clients().map(title).collect();
    for title in &titles {
        let start = format!("| {title} |");
        for line in all.iter().filter(|line| line.starts_with(&start)) {
            writeln!(page, "{line}").unwrap();
        }
    }
    page.push('\n');
    for title in &titles {
        let start = format!("- {title},");
        for line in all.iter().filter(|line| line.starts_with(&start)) {
            writeln!(page, "{line}").unwrap();
        }
    }
    page
}

/// All clients, in the order of `versions.txt`.
fn clients() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("versions.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
}
