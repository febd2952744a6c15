//! `docs/protocol.md` names tests for what clients need: each of them exists, and nothing that many
//! clients need is without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What installs or publishes of many users break without, or what is often used.
const NEEDED: &str = "
    R01 R02 R03 R04 R05 R06 R07 R08 R09 R10 R11 R12 R13 R14 R15 R16 R17 R18 R19 R20 R21 R22 R23 R24
    R25 R26 R27 R28 R29 R30 R31 R34 R35 R36
    G01 G02 G03 G04 G05 G06
    W01 W02 W03 W04 W05 W06 W07 W08 W09 W10 W11 W12 W13 W14 W15 W16 W17 W18 W19 W20 W21 W23 W24
    I01 I02 I03 I04 I05 I06 I07 I08 I09 I10 I11 I12 I13 I14 I15 I17 I19 I20
    A01 A02 A03 A04 A05 A06 A07 A08 A09 A10 A11 A12 A15 A16";

/// What few use. The document says of each whether there is such a thing.
const RARELY_USED: &str = "R32 R33 W22 W25 I16 I18 A13 A14";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the document: an id, and all tests that are named beside it.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            continue;
        };
        let (id, rest) = row.split_once(" |").unwrap();
        let is_id = id.len() == 3 && id[1..].bytes().all(|byte| byte.is_ascii_digit());
        if is_id {
            let before = rows.insert(id.to_owned(), named_in(rest));
            assert!(before.is_none(), "{id} has two rows");
        }
    }
    rows
}

/// The tests that a text names: `module::test`, or several as `module::{test, other}`.
fn named_in(text: &str) -> Vec<String> {
    let code = text.split('`').skip(1).step_by(2);
    let mut tests = Vec::new();
    for code in code.filter(|code| code.contains("::")) {
        match code.strip_suffix('}').and_then(|code| code.split_once('{')) {
            Some((module, several)) => {
                let several = several.split(',').map(str::trim);
                tests.extend(several.map(|test| format!("{module}{test}")));
            }
            None => tests.push(code.to_owned()),
        }
    }
    tests
}

/// All Rust files below a folder, with the path of the module that each one is.
fn modules(folder: &Path, above: &[String]) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut module = above.to_vec();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if !matches!(stem, "mod" | "lib" | "main") {
            module.push(stem.to_owned());
        }
        if path.is_dir() {
            found.extend(modules(&path, &module));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path, module));
        }
    }
    found
}

/// The tests of a folder by their full names, as test runners print them.
pub(crate) fn tests_in(folder: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (path, module) in modules(&root().join(folder), &[]) {
        let text = fs::read_to_string(path).unwrap();
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        let lines: Vec<&str> = text.lines().collect();
        find(&lines, &module, &mut BTreeMap::new(), &mut tests);
    }
    tests
}

/// Finds the tests in formatted lines of `module`, where indentation tells what is inside of what.
/// `makers` are the macros that make tests, with the module that they put them into.
fn find<'a>(
    lines: &[&'a str],
    module: &[&'a str],
    makers: &mut BTreeMap<&'a str, Option<&'a str>>,
    tests: &mut BTreeSet<String>,
) {
    let mut is_test = false;
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        let end = at + length_of(&lines[at..]);
        let block = &lines[at..end];
        at += 1;
        if is_test_attribute(line) {
            is_test = true;
        } else if let Some(test) = function(line) {
            if is_test {
                tests.insert([module, &[test]].concat().join("::"));
            }
            is_test = false;
        } else if let Some(name) = line.strip_prefix("macro_rules! ") {
            // One that runs tests of other modules again makes none of its own.
            let is_repeating = block.iter().any(|line| line.contains("$module::"));
            if !is_repeating && block.iter().any(|line| is_test_attribute(line)) {
                let kind = block.iter().find_map(|line| opens_module(line));
                makers.insert(name.trim_end_matches(" {"), kind);
            }
            at = end;
        } else if let Some(name) = opens_module(line) {
            let inside = [module, &[name]].concat();
            find(&block[1..], &inside, makers, tests);
            at = end;
        } else if let Some((name, _)) = line.split_once("! {")
            && let Some(kind) = makers.get(name)
        {
            let body = block.join(" ");
            let (common, made) = made_by(&body);
            let kinds: Vec<Option<&str>> = match kind {
                Some(kind) if kind.starts_with('$') => {
                    common.split_whitespace().map(Some).collect()
                }
                kind => vec![*kind],
            };
            for (test, kind) in made
                .iter()
                .flat_map(|test| kinds.iter().map(move |kind| (test, kind)))
            {
                let path = module.iter().copied().chain(*kind).chain([&**test]);
                tests.insert(path.collect::<Vec<_>>().join("::"));
            }
            at = end;
        }
    }
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[test]") || line.starts_with("#[tokio::test")
}

fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let (name, _) = line.strip_prefix("fn ")?.split_once('(')?;
    // One that starts so is a parameter of a macro.
    (!name.starts_with('$')).then_some(name)
}

/// The name of a module that begins in this line.
fn opens_module(line: &str) -> Option<&str> {
    let line = line.trim_start().strip_suffix(" {")?;
    line.strip_prefix("mod ")
        .or_else(|| line.strip_prefix("pub(crate) mod "))
}

/// How many lines the block has that begins in the first one.
fn length_of(lines: &[&str]) -> usize {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let outer = indentation(lines[0]);
    if !lines[0].ends_with('{') {
        return 1;
    }
    let is_end = |line: &&str| indentation(line) == outer && line.trim_start().starts_with('}');
    let inner = lines[1..].iter().position(is_end);
    inner.map_or(1, |inner| inner + 2)
}

/// What a macro is given: the words before a colon, and the first word of each entry.
fn made_by(call: &str) -> (String, Vec<String>) {
    let (_, entries) = call.split_once('{').unwrap();
    let (entries, _) = entries.rsplit_once('}').unwrap();
    let mut depth = 0_usize;
    let mut outermost = String::new();
    // Nothing inside of strings and brackets matters.
    for part in entries.split('"').step_by(2) {
        for character in part.chars() {
            match character {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ if depth == 0 => outermost.push(character),
                _ => (),
            }
        }
    }
    let (common, entries) = outermost.split_once(':').unwrap_or(("", &outermost));
    let words = entries.split([',', ';']).filter_map(|entry| {
        let word = entry.split_whitespace().next()?;
        word.starts_with(|first: char| first.is_ascii_lowercase())
            .then(|| word.to_owned())
    });
    (common.trim().to_owned(), words.collect())
}

#[test]
fn every_test_that_is_named_exists() {
    let tests: BTreeSet<String> = tests_in("tests/it")
        .into_iter()
        .chain(tests_in("src"))
        .collect();
    let mut wrong = Vec::new();
    for (id, named) in rows() {
        let missing = named.iter().filter(|test| !tests.contains(*test));
        wrong.extend(missing.map(|test| format!("{id}: there is no test `{test}`")));
    }
    assert!(wrong.is_empty(), "docs/protocol.md:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_that_clients_need_is_without_a_test() {
    let rows = rows();
    let found: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    let all = NEEDED
        .split_whitespace()
        .chain(RARELY_USED.split_whitespace());
    assert_eq!(found, all.collect());
    let needed = NEEDED.split_whitespace();
    let without: Vec<&str> = needed.filter(|id| rows[*id].is_empty()).collect();
    assert!(without.is_empty(), "without a test: {without:?}");
}

/// What is found in the sources is what there is.
#[test]
fn tests_are_found_where_they_are() {
    let found = tests_in("tests/it");
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format=terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    // What runs again on another backend is named `backends::BACKEND::` and its own name.
    let own_name = |test: &str| {
        let again = test.strip_prefix("backends::").and_then(|rest| {
            let (_, own) = rest.split_once("::")?;
            own.contains("::").then(|| own.to_owned())
        });
        again.unwrap_or_else(|| test.to_owned())
    };
    let listed: BTreeSet<String> = listed.map(own_name).collect();
    let overlooked: Vec<&String> = listed.difference(&found).collect();
    assert!(overlooked.is_empty(), "{overlooked:?}");
    if cfg!(all(feature = "test-clients", feature = "crash-points")) {
        let invented: Vec<&String> = found.difference(&listed).collect();
        assert!(invented.is_empty(), "{invented:?}");
    }
}
