//! `bun.lock`: JSON with commas behind the last members, and comments.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Locked, LockfileError, locked, split_at_version};

#[derive(Deserialize)]
struct File {
    packages: BTreeMap<String, Vec<Value>>,
}

/// The packages; `None` where it is a lockfile of npm.
pub(super) fn parse(text: &str) -> Option<Result<Vec<Locked>, LockfileError>> {
    let json = plain(text);
    // Only Bun has lists there.
    let file: File = serde_json::from_str(&json).ok()?;
    if file.packages.is_empty() && !text.contains("\"workspaces\"") {
        return None;
    }
    let packages = file.packages.values().filter_map(|package| {
        let (name, version) = split_at_version(package.first()?.as_str()?)?;
        let from = package.get(1).and_then(Value::as_str);
        locked(name, version, from, false)
    });
    Some(Ok(packages.collect()))
}

/// The same without comments, and without commas that nothing follows.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    // A comma counts once a further value has come.
    let mut has_comma = false;
    while let Some(char) = chars.next() {
        match char {
            ',' => {
                has_comma = true;
                continue;
            }
            '/' if chars.peek() == Some(&'/') => {
                while chars.next_if(|char| *char != '\n').is_some() {}
                continue;
            }
            '}' | ']' => has_comma = false,
            _ if char.is_whitespace() => {
                out.push(char);
                continue;
            }
            _ => {}
        }
        if std::mem::take(&mut has_comma) {
            out.push(',');
        }
        out.push(char);
        if char == '"' {
            while let Some(char) = chars.next() {
                out.push(char);
                match char {
                    '\\' => out.extend(chars.next()),
                    '"' => break,
                    _ => {}
                }
            }
        }
    }
    out
}
