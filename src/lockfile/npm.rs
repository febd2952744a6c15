//! `package-lock.json` and `npm-shrinkwrap.json`, of versions 1 to 3.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Locked, LockfileError, locked, split_at_version};

#[derive(Deserialize)]
struct File {
    packages: Option<BTreeMap<String, Package>>,
    dependencies: Option<BTreeMap<String, Dependency>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    name: Option<String>,
    version: Option<String>,
    resolved: Option<String>,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    in_bundle: bool,
}

#[derive(Deserialize)]
struct Dependency {
    version: Option<String>,
    resolved: Option<String>,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    bundled: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, Self>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Locked>, LockfileError> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        LockfileError::Damaged(message)
    })?;
    match (file.packages, file.dependencies) {
        // Version 2 has both, which say the same.
        (Some(packages), _) => Ok(of_packages(&packages)),
        (None, Some(dependencies)) => {
            let mut found = Vec::new();
            add(&dependencies, &mut found);
            Ok(found)
        }
        (None, None) => Err(LockfileError::Unknown),
    }
}

/// Whether the tarball is at an address of the web, as far as is said.
fn is_remote(resolved: Option<&str>) -> bool {
    resolved.is_none_or(|resolved| resolved.starts_with("http:") || resolved.starts_with("https:"))
}

fn of_packages(packages: &BTreeMap<String, Package>) -> Vec<Locked> {
    let packages = packages.iter().filter_map(|(path, package)| {
        // What is elsewhere is the project's own.
        let (_, own) = path.rsplit_once("node_modules/")?;
        if package.link || package.in_bundle || !is_remote(package.resolved.as_deref()) {
            return None;
        }
        let name = package.name.as_deref().unwrap_or(own);
        let version = package.version.as_deref()?;
        locked(name, version, package.resolved.as_deref(), package.dev)
    });
    packages.collect()
}

/// Adds what is needed, level by level: the parser bounds how deep that can be.
fn add(dependencies: &BTreeMap<String, Dependency>, found: &mut Vec<Locked>) {
    for (name, dependency) in dependencies {
        add(&dependency.dependencies, found);
        let resolved = dependency.resolved.as_deref();
        if dependency.bundled || !is_remote(resolved) {
            continue;
        }
        let version = dependency.version.as_deref().unwrap_or_default();
        let alias = version.strip_prefix("npm:").and_then(split_at_version);
        let (name, version) = alias.unwrap_or((name, version));
        found.extend(locked(name, version, resolved, dependency.dev));
    }
}
