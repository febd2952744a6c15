//! `packages` in a file.

use std::path::{Component, Path, PathBuf};

use super::{
    PackageRule, PackagesConfig, Problem, Source,
    keys::{RULE, known},
    yaml::Node,
};
use crate::models::Principal;

/// Problems and warnings found on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Reads `packages`.
pub(super) fn packages(node: &Node, source: &Source, findings: &mut Findings) -> PackagesConfig {
    let members = match node {
        Node::Map(members) => members.as_slice(),
        Node::Empty => &[],
        _ => {
            let message = "must be a map from patterns to rules";
            findings
                .problems
                .push(Problem::new("packages", "", source, message));
            &[]
        }
    };
    let rules = members
        .iter()
        .map(|(pattern, node)| rule(pattern, node, source, findings))
        .collect();
    PackagesConfig { rules }
}

fn rule(pattern: &str, node: &Node, source: &Source, findings: &mut Findings) -> PackageRule {
    let mut rule = PackageRule {
        pattern: pattern.to_owned(),
        access: Vec::new(),
        publish: Vec::new(),
        unpublish: Vec::new(),
        proxy: Vec::new(),
        merge: None,
        storage: None,
    };
    let path = |key: &str| format!("packages.{pattern}.{key}");
    let members = match node {
        Node::Map(members) => members.as_slice(),
        Node::Empty => &[],
        _ => {
            let setting = format!("packages.{pattern}");
            let message = "must be a map with `access`, `publish`, `unpublish` and `proxy`";
            findings
                .problems
                .push(Problem::new(setting, "", source, message));
            &[]
        }
    };
    let mut unpublish = None;
    for (key, value) in members {
        let mut wrong = |message: &str| {
            let shown = value.to_text().unwrap_or_default();
            findings
                .problems
                .push(Problem::new(path(key), shown, source, message));
        };
        match known(key, RULE) {
            "access" | "allow_access" => rule.access = principals(value, &mut wrong),
            "publish" | "allow_publish" => rule.publish = principals(value, &mut wrong),
            "unpublish" => {
                // Verdaccio's `false` means "as for publish".
                let is_false = *value == Node::Text("false".to_owned());
                unpublish = (!is_false).then(|| principals(value, &mut wrong));
            }
            "proxy" | "proxy_access" => {
                let words = value.words();
                if words.is_none() {
                    wrong("must be names of uplinks");
                }
                for word in words.unwrap_or_default() {
                    match word.parse() {
                        Ok(name) => rule.proxy.push(name),
                        Err(error) => wrong(&format!("{error}")),
                    }
                }
            }
            "merge" | "storage" if value.is_blank() => {}
            "merge" => match value.to_text().map(|text| super::units::switch(&text)) {
                Some(Ok(merge)) => rule.merge = Some(merge),
                _ => wrong("must be `true` or `false`"),
            },
            "storage" => match value.to_text().as_deref().map(subfolder) {
                Some(Some(folder)) => rule.storage = Some(folder),
                _ => wrong("must be a folder below that of `storage`, such as `team`"),
            },
            _ => findings.warnings.push(Problem::new(
                path(key),
                "",
                source,
                "is not known and does nothing",
            )),
        }
    }
    rule.unpublish = unpublish.unwrap_or_else(|| rule.publish.clone());
    for (key, who) in [("access", &rule.access), ("publish", &rule.publish)] {
        if who.is_empty() {
            let message = "is not set, so nobody may; name `$all` or `$authenticated`";
            findings
                .warnings
                .push(Problem::new(path(key), "", source, message));
        }
    }
    rule
}

/// A folder below another: no way leads out of it.
fn subfolder(text: &str) -> Option<PathBuf> {
    let path = Path::new(text.trim());
    let is_below = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    is_below.then(|| path.to_owned())
}

fn principals(node: &Node, wrong: &mut impl FnMut(&str)) -> Vec<Principal> {
    match node.words() {
        Some(words) => words.iter().map(|word| Principal::parse(word)).collect(),
        None => {
            wrong("must be names of users and groups, `$all` or `$authenticated`");
            Vec::new()
        }
    }
}
