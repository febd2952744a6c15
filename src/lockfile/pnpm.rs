//! `pnpm-lock.yaml`, of versions 5 to 9.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Locked, LockfileError, locked, split_at_version};

#[derive(Deserialize)]
struct File {
    #[serde(rename = "lockfileVersion")]
    version: Value,
    #[serde(default)]
    packages: BTreeMap<String, Package>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    resolution: Resolution,
    name: Option<String>,
    #[serde(default)]
    dev: bool,
}

#[derive(Default, Deserialize)]
struct Resolution {
    integrity: Option<String>,
    tarball: Option<String>,
}

/// The packages, and whether the form says what only development needs.
pub(super) fn parse(text: &str) -> Result<(Vec<Locked>, bool), LockfileError> {
    // Several documents in one file: the last one is the project's.
    let text = text.rsplit("\n---\n").next().unwrap_or(text);
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        let message = error.to_string();
        LockfileError::Damaged(message)
    })?;
    let version = match &file.version {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .ok_or(LockfileError::Unknown)?;
    let packages = file.packages.iter().filter_map(|(key, package)| {
        // What no registry has promised is of a repository, a folder or an address.
        package.resolution.integrity.as_ref()?;
        let of = if major < 6 { before_six } else { since_six };
        let (name, version, registry) = of(key)?;
        let tarball = package.resolution.tarball.as_deref();
        let from = tarball.map(str::to_owned).or(registry);
        if package.name.as_deref().is_some_and(|own| own != name) {
            return None;
        }
        locked(name, version, from.as_deref(), package.dev)
    });
    Ok((packages.collect(), major < 9))
}

/// `/name/1.0.0_peers`, with the host of another registry before it.
fn before_six(key: &str) -> Option<(&str, &str, Option<String>)> {
    let (host, path) = key.split_once('/')?;
    let (name, version) = path.rsplit_once('/')?;
    let version = version.split('_').next()?;
    // A registry may be below a path.
    let own = match name.rfind('@') {
        Some(at) => name.get(at..)?,
        None => name.rsplit('/').next()?,
    };
    let registry = (!host.is_empty()).then(|| format!("//{host}/"));
    Some((own, version, registry))
}

/// `name@1.0.0(peers)`, before version 9 with a slash before it.
fn since_six(key: &str) -> Option<(&str, &str, Option<String>)> {
    let (name, version) = split_at_version(key.trim_start_matches('/'))?;
    Some((name, version.split('(').next()?, None))
}
