//! `/-/web/detail/:package`: everything about a package that somebody who wants to use it asks.

mod manifest;

use std::sync::Arc;

use askama::Template;
use axum::response::{IntoResponse as _, Response};

use super::{
    text::{line, link, person},
    visit::{Shell, Visit},
};
use crate::{
    error::RegistryError,
    models::{PackageName, Timestamp},
    readme,
    registry::{Ours, Shown},
    web::{
        error::Error,
        extract::{Package, Query, VersionText},
    },
};
use manifest::Manifest;

/// A part of the path, or what is wrong with it: a page says that too.
type Asked<T> = Result<T, Error>;

fn given<T>(asked: Asked<T>) -> Result<T, RegistryError> {
    asked.map_err(|Error(error)| error)
}

/// How many packages that depend on one are shown.
const MAX_DEPENDENTS: usize = 50;
/// How many versions are in the page; the rest is behind a link.
const MAX_VERSIONS: usize = 500;

/// `GET /-/web/detail/:package`
pub(in crate::web) async fn latest(name: Asked<Package>, visit: Visit, query: Query) -> Response {
    let page = async {
        let Package(name) = given(name)?;
        Box::pin(page(&visit, &name, None, &query)).await
    };
    visit.answer(page.await)
}

/// `GET /-/web/detail/:package/v/:version`
pub(in crate::web) async fn version(
    name: Asked<Package>,
    version: Asked<VersionText>,
    visit: Visit,
    query: Query,
) -> Response {
    let page = async {
        let (Package(name), VersionText(version)) = (given(name)?, given(version)?);
        Box::pin(page(&visit, &name, Some(version.as_str()), &query)).await
    };
    visit.answer(page.await)
}

async fn page<'v>(
    visit: &'v Visit,
    name: &PackageName,
    wanted: Option<&str>,
    query: &Query,
) -> Result<PackagePage<'v>, RegistryError> {
    let registry = &visit.state.registry;
    let shown = registry.shown(&visit.caller, name).await?;
    let dependents = registry.dependents(&visit.caller, name, MAX_DEPENDENTS);
    let dependents = dependents.await?;
    let dependents = dependents
        .iter()
        .map(|entry| entry.name.as_str().to_owned());
    let dependents = dependents.collect();
    let shell = &visit.shell;
    let packument = &shown.packument;
    let latest = packument.resolve("latest");
    let newest = || packument.versions().last().map(|(version, _)| version);
    let version = match wanted {
        Some(key) => packument.resolve(key),
        None => latest.or_else(newest),
    };
    let missing = || RegistryError::not_found("there is no such version of this package");
    let version = version.ok_or_else(missing)?;
    let raw = packument.version(version).ok_or_else(missing)?;
    let manifest = Manifest::read(raw);
    let text = match readme_of(&shown, &manifest, version) {
        None if shown.ours.contains(version) => {
            Box::pin(readme_in_tarball(visit, name, &manifest, version)).await?
        }
        found => found.map(Arc::from),
    };
    let is_whole = query.get("readme") == Some("all");
    let links = readme::Links::of(
        manifest.repository.as_deref(),
        manifest.repository_directory.as_deref(),
    );
    let readme = match text {
        Some(text) if !text.trim().is_empty() => {
            let shown = visit.state.readmes().show(&text, links, is_whole).await;
            Some(shown.map_err(RegistryError::internal)?)
        }
        _ => None,
    };
    Ok(PackagePage {
        tags: tags(&shown),
        versions: versions(&shown),
        more_versions: packument.versions().count().saturating_sub(MAX_VERSIONS),
        published: packument.published(version),
        is_ours: shown.ours.contains(version),
        is_latest: latest == Some(version),
        uplink: shown.uplink.as_ref().map(ToString::to_string),
        refreshed: shown.refreshed,
        is_override: matches!(shown.ours, Ours::These(_)),
        is_stale: shown.is_stale,
        installs: installs(name, (latest != Some(version)).then_some(version)),
        maintainers: packument
            .maintainers()
            .iter()
            .map(|name| line(name, 60))
            .collect(),
        name: name.as_str().to_owned(),
        version: version.to_owned(),
        tarball: manifest.file(name, version),
        manifest,
        readme,
        dependents,
        shell,
    })
}

/// The README that was published with `version`: of older ones, only their tarballs have it.
async fn readme_in_tarball(
    visit: &Visit,
    name: &PackageName,
    manifest: &Manifest,
    version: &str,
) -> Result<Option<Arc<str>>, RegistryError> {
    let file = manifest.file(name, version);
    let Some(file) = file.and_then(|file| file.parse().ok()) else {
        return Ok(None);
    };
    let look = visit.state.registry.readme_in_tarball(name, &file);
    let readmes = visit.state.readmes();
    readmes.in_tarball(&manifest.integrity, look).await
}

/// The README of `version`: its own, or of the newest one that of the package.
fn readme_of(shown: &Shown, manifest: &Manifest, version: &str) -> Option<String> {
    let own = manifest.readme.clone().filter(|text| !text.is_empty());
    let of_package = || {
        let is_latest = shown.packument.resolve("latest") == Some(version);
        is_latest.then(|| shown.packument.text("readme")).flatten()
    };
    let text = own.or_else(of_package)?;
    (text != "ERROR: No README data found!").then_some(text)
}

#[derive(Template)]
#[template(path = "package.html")]
struct PackagePage<'a> {
    shell: &'a Shell,
    name: String,
    version: String,
    published: Option<Timestamp>,
    is_ours: bool,
    is_latest: bool,
    /// Where what is not ours comes from.
    uplink: Option<String>,
    /// When that was last asked.
    refreshed: Option<Timestamp>,
    /// Whether some versions are ours and others are not.
    is_override: bool,
    is_stale: bool,
    manifest: Manifest,
    readme: Option<readme::Readme>,
    installs: [(&'static str, String); 4],
    tags: Vec<(String, String)>,
    versions: Vec<VersionRow>,
    more_versions: usize,
    maintainers: Vec<String>,
    dependents: Vec<String>,
    /// The file name of its tarball.
    tarball: Option<String>,
}

impl PackagePage<'_> {
    fn link_to(&self, version: &str) -> String {
        format!("{}/v/{version}", self.shell.package(&self.name))
    }

    fn repository(&self) -> Option<String> {
        let repository = self.manifest.repository.as_deref()?;
        readme::browsable(repository).map(String::from)
    }

    fn search_for(&self, keyword: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("q", &format!("keywords:{keyword}"));
        format!("{}/-/web?{}", self.shell.prefix, query.finish())
    }
}

/// A row of the table of versions.
struct VersionRow {
    version: String,
    date: Option<Timestamp>,
    size: Option<String>,
    is_deprecated: bool,
    is_ours: bool,
}

fn tags(shown: &Shown) -> Vec<(String, String)> {
    let tags = shown.packument.dist_tags().iter();
    tags.map(|(tag, version)| (line(tag, 60), version.clone()))
        .collect()
}

/// The versions, what was published last first.
fn versions(shown: &Shown) -> Vec<VersionRow> {
    let packument = &shown.packument;
    let mut versions: Vec<_> = packument
        .versions()
        .map(|(version, raw)| (packument.published(version), version, raw))
        .collect();
    versions.sort_by_key(|(date, ..)| std::cmp::Reverse(*date));
    let versions = versions.into_iter().take(MAX_VERSIONS);
    versions
        .map(|(date, version, raw)| VersionRow {
            version: version.to_owned(),
            date,
            size: manifest::size_of(raw),
            is_deprecated: manifest::is_deprecated(raw),
            is_ours: shown.ours.contains(version),
        })
        .collect()
}

/// How each client installs it.
fn installs(name: &PackageName, version: Option<&str>) -> [(&'static str, String); 4] {
    let wanted = match version {
        Some(version) => format!("{name}@{version}"),
        None => name.to_string(),
    };
    [
        ("npm", format!("npm install {wanted}")),
        ("pnpm", format!("pnpm add {wanted}")),
        ("Yarn", format!("yarn add {wanted}")),
        ("Bun", format!("bun add {wanted}")),
    ]
}

/// `GET /-/web/raw/:package/:version`: the manifest as it is, for whoever is signed in here.
pub(in crate::web) async fn raw(
    name: Asked<Package>,
    version: Asked<VersionText>,
    visit: Visit,
) -> Response {
    let raw = async {
        let (Package(name), VersionText(version)) = (given(name)?, given(version)?);
        let shown = visit.state.registry.shown(&visit.caller, &name).await?;
        let packument = &shown.packument;
        let raw = packument.resolve(version.as_str());
        let raw = raw.and_then(|version| packument.version(version)).cloned();
        raw.ok_or_else(|| RegistryError::not_found("there is no such version of this package"))
    };
    match raw.await {
        Ok(raw) => crate::web::respond::raw_json(raw).into_response(),
        Err(error) => visit.refuse(&error),
    }
}

impl Manifest {
    fn shown_link(text: Option<&String>) -> Option<String> {
        text.and_then(|text| link(text))
    }

    fn shown_author(&self) -> String {
        person(&self.author)
    }
}
