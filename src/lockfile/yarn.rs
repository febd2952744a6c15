//! `yarn.lock`, of Yarn 1 in a form of its own, and of Yarn 2 and later in YAML.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Locked, LockfileError, locked, split_at_version};

/// One block of Yarn 1 as it is read.
#[derive(Default)]
struct Block {
    key: String,
    version: String,
    resolved: String,
}

/// Lines that start in the first column name a block, those with two spaces are its fields; deeper ones
/// are what it needs.
pub(super) fn parse_classic(text: &str) -> Vec<Locked> {
    let mut found = Vec::new();
    let mut block = Block::default();
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            found.extend(std::mem::take(&mut block).locked());
            let key = line.trim_end_matches(':').split(", ").next();
            block.key = String::from(unquoted(key.unwrap_or_default()));
            continue;
        }
        let Some(field) = line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
        else {
            continue;
        };
        match field.split_once(' ') {
            Some(("version", value)) => block.version = String::from(unquoted(value)),
            Some(("resolved", value)) => block.resolved = String::from(unquoted(value)),
            _ => {}
        }
    }
    found.extend(block.locked());
    found
}

impl Block {
    fn locked(self) -> Option<Locked> {
        let (name, range) = split_at_version(&self.key)?;
        let alias = range.strip_prefix("npm:");
        if alias.is_none() && range.contains([':', '/']) {
            // A repository, a file or a folder.
            return None;
        }
        let name = alias.map_or(name, |alias| {
            split_at_version(alias).map_or(alias, |(name, _)| name)
        });
        let resolved = self.resolved.split('#').next();
        locked(name, &self.version, resolved, false)
    }
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"')
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    resolution: Option<String>,
}

pub(super) fn parse_modern(text: &str) -> Result<Vec<Locked>, LockfileError> {
    let blocks: BTreeMap<String, Value> = serde_saphyr::from_str(text).map_err(|error| {
        let message = error.to_string();
        LockfileError::Damaged(message)
    })?;
    let packages = blocks.into_iter().filter_map(|(key, value)| {
        if key == "__metadata" {
            return None;
        }
        let entry: Entry = serde_json::from_value(value).ok()?;
        let resolution = entry.resolution?;
        let (name, rest) = split_at_version(&resolution)?;
        let rest = rest.strip_prefix("npm:")?;
        let (version, bindings) = rest.split_once("::").unwrap_or((rest, ""));
        let address = bindings
            .split('&')
            .find_map(|binding| binding.strip_prefix("__archiveUrl="));
        let address = address.map(|address| {
            let decoded = percent_encoding::percent_decode_str(address);
            decoded.decode_utf8_lossy().into_owned()
        });
        locked(name, version, address.as_deref(), false)
    });
    Ok(packages.collect())
}
