//! What the compiler does not check: the floors, the size of files, and file headers.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 600;

/// Module and its floor. A room imports only from floors below its own: never up, never sideways.
/// Rooms of the top floor compose the rest and may use each other.
const FLOORS: &[(&str, u8)] = &[
    ("cli", TOP),
    ("runtime", TOP),
    ("app", TOP),
    ("web", 8),
    ("server", 8),
    ("admin", 7),
    ("registry", 6),
    ("policy", 5),
    ("governance", 5),
    ("readme", 5),
    ("lockfile", 5),
    ("search", 5),
    ("auth", 4),
    ("storage", 3),
    ("uplink", 3),
    ("events", 3),
    ("telemetry", 2),
    ("net", 2),
    ("lifecycle", 2),
    ("config", 1),
    ("models", 0),
    ("error", 0),
];

const TOP: u8 = 9;

/// Crates that only some rooms may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["web", "server", "app"]),
    ("hyper", &["web", "server"]),
    ("hyper_util", &["net", "server"]),
    ("tower", &["web", "server", "app"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("reqwest", &["net", "uplink", "events", "policy", "auth"]),
    ("deno_npmrc", &["config"]),
    ("serde_saphyr", &["config", "lockfile", "web"]),
    ("tracing_subscriber", &["telemetry"]),
    ("argon2", &["auth"]),
];

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let Some(module) = module_of(&file) else {
            continue;
        };
        let Some(floor) = floor_of(&module) else {
            wrong.push(format!("{}: `{module}` has no floor", file.display()));
            continue;
        };
        for used in modules_used(&text) {
            let Some(below) = floor_of(&used) else {
                continue;
            };
            if used != module && below >= floor && floor != TOP {
                wrong.push(format!(
                    "{}: `{module}` may not use `{used}`",
                    file.display()
                ));
            }
        }
        for (krate, modules) in ONLY_IN {
            let names_it =
                text.contains(&format!("use {krate}::")) || text.contains(&format!(" {krate}::"));
            if names_it && !modules.contains(&module.as_str()) {
                wrong.push(format!(
                    "{}: `{module}` may not use crate `{krate}`",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for file in sources().into_iter().chain(files_below(tests)) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines; split it by concern",
            file.display()
        );
        assert!(
            text.starts_with("//!"),
            "{} lacks its `//!` line",
            file.display()
        );
    }
}

/// Nobody adds a dependency without saying what for.
#[test]
fn every_dependency_has_a_reason() {
    let read = |file: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        fs::read_to_string(file).unwrap()
    };
    let (manifest, reasons) = (read("Cargo.toml"), read("CONTRIBUTING.md"));
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let dependencies = dependencies
        .lines()
        .filter_map(|line| line.split_once(" = "));
    let used: BTreeSet<&str> = dependencies.map(|(name, _)| name).collect();
    let (_, table) = reasons.split_once("| need | instead |").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let first = rows.filter_map(|row| row.split_once(" |"));
    let explained: BTreeSet<&str> = first.flat_map(|(names, _)| names.split(", ")).collect();
    assert_eq!(used, explained);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    files_below(root())
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// `src/storage/memory.rs` and `src/storage.rs` are both `storage`; roots of crates have none.
fn module_of(file: &Path) -> Option<String> {
    let first = file.strip_prefix(root()).unwrap().iter().next()?.to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main" | "bin")).then(|| name.to_owned())
}

fn floor_of(name: &str) -> Option<u8> {
    let (_, floor) = FLOORS.iter().find(|(module, _)| *module == name)?;
    Some(*floor)
}

/// First path segments after `crate::`, also inside `use crate::{...}`.
fn modules_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut item = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        used.insert(first_segment(&item));
                        item.clear();
                        continue;
                    }
                    _ => (),
                }
                item.push(character);
            }
            used.insert(first_segment(&item));
        } else {
            used.insert(first_segment(rest));
        }
    }
    used
}

fn first_segment(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}
