//! [`Manifest`]: what a page shows of one version, read from whatever somebody has published.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    models::{PackageName, TarballName},
    web::pages::text::{line, size},
};

/// Longest texts of one line that are shown, in characters.
const MAX_TEXT: usize = 400;
/// How many dependencies of a kind are shown.
const MAX_DEPENDENCIES: usize = 500;

/// What a page shows of one version.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) description: String,
    pub(super) deprecated: Option<String>,
    pub(super) license: String,
    pub(super) author: Value,
    pub(super) homepage: Option<String>,
    pub(super) bugs: Option<String>,
    pub(super) repository: Option<String>,
    pub(super) repository_directory: Option<String>,
    pub(super) keywords: Vec<String>,
    pub(super) engines: Vec<(String, String)>,
    /// Kinds of dependencies with their names and ranges; kinds that there are none of are left out.
    pub(super) dependencies: Vec<(&'static str, Vec<(String, String)>)>,
    pub(super) has_types: bool,
    pub(super) is_esm: bool,
    pub(super) has_install_script: bool,
    pub(super) readme: Option<String>,
    pub(super) integrity: String,
    pub(super) unpacked: Option<String>,
    pub(super) files: Option<u64>,
    /// The ids of the keys that have signed it.
    pub(super) signatures: Vec<String>,
    pub(super) has_provenance: bool,
    tarball: Option<String>,
}

impl Manifest {
    /// What cannot be read is left out.
    pub(super) fn read(raw: &Bytes) -> Self {
        let value: Value = serde_json::from_slice(raw).unwrap_or_default();
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let address = |value: &Value| {
            let text = value.as_str().or_else(|| value["url"].as_str());
            text.map(str::to_owned)
        };
        let license = value["license"]
            .as_str()
            .or_else(|| value["license"]["type"].as_str());
        let dist = &value["dist"];
        let scripts = &value["scripts"];
        let is_script = |name| scripts[name].is_string();
        let types = ["types", "typings"]
            .iter()
            .any(|key| value[*key].is_string());
        Self {
            description: line(text("description"), MAX_TEXT),
            deprecated: deprecation(&value),
            license: line(license.unwrap_or_default(), 100),
            author: value["author"].clone(),
            homepage: address(&value["homepage"]),
            bugs: address(&value["bugs"]),
            repository: address(&value["repository"]),
            repository_directory: value["repository"]["directory"].as_str().map(str::to_owned),
            keywords: list(&value["keywords"]),
            engines: pairs(value["engines"].as_object()),
            dependencies: dependencies(&value),
            has_types: types || value["exports"].to_string().contains("\"types\""),
            is_esm: value["type"] == "module" || value["module"].is_string(),
            has_install_script: ["preinstall", "install", "postinstall"]
                .into_iter()
                .any(is_script)
                || value["hasInstallScript"] == true,
            readme: value["readme"].as_str().map(str::to_owned),
            integrity: line(
                dist["integrity"]
                    .as_str()
                    .or_else(|| dist["shasum"].as_str())
                    .unwrap_or_default(),
                200,
            ),
            unpacked: dist["unpackedSize"].as_u64().map(size),
            files: dist["fileCount"].as_u64(),
            signatures: signers(&dist["signatures"]),
            has_provenance: dist["attestations"].is_object(),
            tarball: dist["tarball"].as_str().map(str::to_owned),
        }
    }

    /// The file name of the tarball, as it is asked for here.
    pub(super) fn file(&self, name: &PackageName, version: &str) -> Option<String> {
        let file = TarballName::at(self.tarball.as_deref()?, name, version)?;
        Some(file.as_str().to_owned())
    }
}

/// Why the version should not be used any more; older ones say `true`.
fn deprecation(version: &Value) -> Option<String> {
    match &version["deprecated"] {
        Value::String(text) if !text.is_empty() => Some(line(text, MAX_TEXT)),
        Value::Bool(true) => Some(String::new()),
        _ => None,
    }
}

/// The ids of the keys of signatures.
fn signers(signatures: &Value) -> Vec<String> {
    let all = signatures.as_array().into_iter().flatten().take(20);
    let keys = all.filter_map(|signature| signature["keyid"].as_str());
    keys.map(|key| line(key, 120)).collect()
}

fn list(value: &Value) -> Vec<String> {
    let texts = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    texts
        .map(|text| line(text, 60))
        .filter(|text| !text.is_empty())
        .take(50)
        .collect()
}

fn pairs(map: Option<&Map<String, Value>>) -> Vec<(String, String)> {
    let pairs = map.into_iter().flatten().take(MAX_DEPENDENCIES);
    pairs
        .filter_map(|(key, value)| Some((line(key, 214), line(value.as_str()?, 100))))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn dependencies(version: &Value) -> Vec<(&'static str, Vec<(String, String)>)> {
    const KINDS: [&str; 4] = [
        "dependencies",
        "peerDependencies",
        "optionalDependencies",
        "devDependencies",
    ];
    let kinds = KINDS
        .into_iter()
        .map(|kind| (kind, pairs(version[kind].as_object())));
    kinds.filter(|(_, pairs)| !pairs.is_empty()).collect()
}

/// What a raw version takes on a disk, as it says.
pub(super) fn size_of(raw: &Bytes) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Shell {
        dist: Dist,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Dist {
        unpacked_size: u64,
    }
    let shell: Shell = serde_json::from_slice(raw).ok()?;
    Some(size(shell.dist.unpacked_size))
}

/// Whether a raw version should not be used any more.
pub(super) fn is_deprecated(raw: &Bytes) -> bool {
    #[derive(serde::Deserialize)]
    struct Shell {
        #[serde(default)]
        deprecated: Value,
    }
    let shell: Option<Shell> = serde_json::from_slice(raw).ok();
    shell.is_some_and(|shell| match shell.deprecated {
        Value::String(text) => !text.is_empty(),
        Value::Bool(is_deprecated) => is_deprecated,
        _ => false,
    })
}
