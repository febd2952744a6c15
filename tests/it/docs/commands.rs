//! Command lines, variables and settings that pages name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use rustaccio::config::{Config, Meaning, Sources, settings};

use super::pages::{Block, Page};

/// What may stand before the program on a line, besides variables.
const BEFORE: [&str; 4] = ["sudo", "exec", "env", "time"];

/// What the program says of itself: its commands, by the words that lead to each.
pub(super) struct Program(BTreeMap<Vec<String>, Usage>);

#[derive(Default)]
struct Usage {
    commands: BTreeSet<String>,
    /// By option, whether a value follows.
    options: BTreeMap<String, bool>,
    /// How many words it takes besides.
    words: usize,
}

impl Program {
    /// Asks all of its commands for help.
    pub(super) fn ask(program: &str) -> Self {
        let mut known = BTreeMap::new();
        let mut open = vec![Vec::new()];
        while let Some(path) = open.pop() {
            let output = Command::new(program)
                .args(&path)
                .arg("--help")
                .output()
                .unwrap();
            assert!(output.status.success(), "{path:?} has no help");
            let usage = Usage::read(&String::from_utf8(output.stdout).unwrap());
            for command in usage.commands.iter().filter(|command| *command != "help") {
                open.push([&path[..], std::slice::from_ref(command)].concat());
            }
            known.insert(path, usage);
        }
        Self(known)
    }
}

impl Usage {
    fn read(help: &str) -> Self {
        let mut usage = Self::default();
        let mut section = "";
        for line in help.lines() {
            if line.ends_with(':') && !line.starts_with(' ') {
                section = line;
                continue;
            }
            let words = line.trim_start();
            // Descriptions go on in lines of their own.
            let indent = line.len() - words.len();
            if let Some(line) = line.strip_prefix("Usage: ") {
                let is_word = |word: &&str| word.starts_with(['<', '[']) && *word != "[OPTIONS]";
                let words: Vec<&str> = line.split_whitespace().filter(is_word).collect();
                let is_many = words.iter().any(|word| word.ends_with("..."));
                usage.words = if is_many { usize::MAX } else { words.len() };
            }
            if section == "Commands:" && indent == 2 {
                usage
                    .commands
                    .extend(words.split_whitespace().next().map(str::to_owned));
            }
            if section == "Options:" && indent <= 6 && words.starts_with('-') {
                let names = words.split("  ").next().unwrap_or_default();
                let takes_value = names.contains('<');
                let names = names
                    .split_whitespace()
                    .filter(|word| word.starts_with('-'));
                let names = names.map(|name| name.trim_end_matches([',', '.']).to_owned());
                usage.options.extend(names.map(|name| (name, takes_value)));
            }
        }
        usage
    }
}

/// A use of the program: the page, and its arguments.
#[derive(Debug)]
pub(super) struct Use {
    page: String,
    arguments: Vec<String>,
}

/// All uses of the program on a page.
pub(super) fn named_in(page: &Page) -> Vec<Use> {
    let shells = ["", "sh", "bash", "console"];
    let blocks = page.blocks.iter();
    let blocks = blocks.filter(|block| shells.contains(&block.info.as_str()));
    let blocks = blocks.flat_map(|block| lines_of(&block.text));
    let lines = page.code.iter().cloned().chain(blocks);
    let commands: Vec<String> = lines.flat_map(|line| commands_of(&line)).collect();
    let uses = commands.iter().filter_map(|command| arguments_of(command));
    uses.map(|arguments| Use {
        page: page.name.clone(),
        arguments,
    })
    .collect()
}

/// Lines of a shell: one that ends with `\` goes on, and a remark is none.
fn lines_of(text: &str) -> Vec<String> {
    let whole = text.replace("\\\n", " ");
    let line = |line: &str| {
        let is_remark = line.trim_start().starts_with('#');
        let (code, _) = line.split_once(" #").unwrap_or((line, ""));
        (!is_remark).then(|| code.to_owned())
    };
    whole.lines().filter_map(line).collect()
}

fn commands_of(line: &str) -> Vec<String> {
    line.split(['|', ';', '&', '\n'])
        .map(|command| command.trim().to_owned())
        .collect()
}

/// The arguments of the program, if this is what runs.
fn arguments_of(command: &str) -> Option<Vec<String>> {
    let mut words = command.split_whitespace();
    loop {
        let word = words.next()?;
        if word == "rustaccio" || word.ends_with("/rustaccio") && !word.contains('=') {
            break;
        }
        if word == "-u" {
            words.next()?;
        } else if !BEFORE.contains(&word) && !word.contains('=') {
            return None;
        }
    }
    let words = words.take_while(|word| !word.starts_with(['>', '<']));
    let words = words.map(|word| word.trim_matches(['[', ']']).to_owned());
    Some(words.filter(|word| !word.is_empty()).collect())
}

/// What of `uses` the program does not know.
pub(super) fn problems(uses: &[Use], program: &Program) -> Vec<String> {
    uses.iter()
        .filter_map(|one| problem(one, program))
        .collect()
}

fn problem(one: &Use, Program(known): &Program) -> Option<String> {
    let mut path: Vec<String> = Vec::new();
    let mut words = one.arguments.iter();
    let mut taken = 0;
    while let Some(word) = words.next() {
        let usage = &known[&path];
        let option = word.split('=').next().unwrap_or_default();
        let is_missing = if option.starts_with('-') && option != "-" {
            let takes_value = usage.options.get(option);
            if takes_value == Some(&true) && !word.contains('=') {
                words.next();
            }
            takes_value.is_none()
        } else if usage.commands.contains(word) {
            path.push(word.clone());
            // The rest of `help` is the name of a command.
            if word == "help" {
                return None;
            }
            false
        } else {
            // Whatever has no commands takes names and folders.
            taken += 1;
            !usage.commands.is_empty() && word != "…" || taken > usage.words
        };
        if is_missing {
            let command = [&["rustaccio".to_owned()], &path[..]].concat().join(" ");
            return Some(format!("{}: `{command}` has no {option}", one.page));
        }
    }
    None
}

/// All variables that something reads: settings, and what the sources name.
pub(super) fn known_variables(root: &Path) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = settings()
        .map(|setting| setting.variable.to_owned())
        .collect();
    for folder in ["src", "scripts", "tests", "examples", "bench"] {
        variables_below(&root.join(folder), &mut known);
    }
    known
}

fn variables_below(folder: &Path, known: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Here are some that nothing reads.
        if path.ends_with("tests/it/docs") {
            continue;
        }
        if path.is_dir() {
            variables_below(&path, known);
        } else if let Ok(text) = fs::read_to_string(&path) {
            known.extend(variables_of(&text).into_iter().map(|(name, _)| name));
        }
    }
}

/// The variables that a text names, and whether it means all that begin so.
fn variables_of(text: &str) -> BTreeSet<(String, bool)> {
    let parts = text.split("RUSTACCIO_").skip(1);
    let name = |part: &str| {
        let is_other =
            |sign: char| !sign.is_ascii_uppercase() && !sign.is_ascii_digit() && sign != '_';
        let end = part.find(is_other).unwrap_or(part.len());
        let is_group = part[..end].ends_with('_') || part[end..].starts_with(['*', '…']);
        (format!("RUSTACCIO_{}", &part[..end]), is_group)
    };
    parts.map(name).collect()
}

/// Variables of a page that nothing reads.
pub(super) fn problems_of_variables(page: &Page, known: &BTreeSet<String>) -> Vec<String> {
    let named = variables_of(&page.text).into_iter();
    let unknown = named.filter(|(name, is_group)| match is_group {
        true => !known.iter().any(|other| other.starts_with(name.as_str())),
        false => !known.contains(name),
    });
    unknown
        .map(|(name, _)| format!("{}: nothing reads {name}", page.name))
        .collect()
}

/// Why a registry does not take these settings.
pub(super) fn problem_of_settings(page: &Page, block: &Block, folder: &Path) -> Option<String> {
    let file = folder.join("config.yml");
    fs::write(&file, &block.text).unwrap();
    let config = Config::load(&Sources {
        file: Some(file),
        ..Sources::default()
    });
    let idle = config.readings().iter();
    let idle = idle.filter(|reading| matches!(reading.meaning, Meaning::Nothing(_)));
    let idle: Vec<String> = idle
        .map(|reading| format!("`{}` does nothing", reading.path))
        .collect();
    let is_right = config.problems().is_empty() && idle.is_empty();
    (!is_right).then(|| {
        let problems = config.describe_problems();
        format!("{}: {problems} {}", page.name, idle.join(", "))
    })
}
