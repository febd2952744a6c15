//! Which packages of which registry a command is about, and with which credentials it asks.

use std::path::{Path, PathBuf};

use clap::Args;
use url::Url;

use crate::{
    config::{Env, NpmSettings, UplinkAuth, credentials_in},
    error::RegistryError,
    lockfile::{self, Lockfile},
    models::PackageName,
    registry::import::Names,
};

/// The largest file of names, and the largest `.npmrc`, in bytes.
const MAX_TEXT: u64 = 64 * 1024 * 1024;

/// Which packages.
#[derive(Clone, Debug, Args)]
pub(super) struct Chosen {
    /// Only the packages that this file names, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["search", "lockfile"])]
    names: Option<PathBuf>,
    /// Only the packages that the registry finds for this text
    #[arg(long, value_name = "TEXT", conflicts_with = "lockfile")]
    search: Option<String>,
    /// Only the packages of this lockfile that come from the registry; may be given several times
    #[arg(long, value_name = "FILE")]
    lockfile: Vec<PathBuf>,
    /// A file with credentials for the registry, as npm has them
    #[arg(long, value_name = "FILE")]
    npmrc: Option<PathBuf>,
}

/// The registry that runs with these settings, which may be asked to do something itself.
#[derive(Clone, Debug, Args)]
pub(super) struct Running {
    /// The address of this registry where it runs; without it, it must not be running on the data folder
    #[arg(long, value_name = "URL", value_parser = registry_address)]
    registry: Option<Url>,
    /// A file with credentials for the registry that runs (an administrator's for `reindex`), as npm has
    /// them
    #[arg(long, value_name = "FILE", requires = "registry")]
    npmrc: Option<PathBuf>,
}

impl Running {
    /// Its address, and what it is asked with, where it runs.
    pub(super) async fn registry(
        &self,
        env: &Env,
    ) -> Result<Option<(Url, Option<UplinkAuth>)>, RegistryError> {
        let Some(url) = &self.registry else {
            return Ok(None);
        };
        let auth = credentials(self.npmrc.as_deref(), env, "IMPORT", url).await?;
        Ok(Some((url.clone(), auth)))
    }
}

/// How fast.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Pace {
    /// How much is asked for at a time
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) jobs: u8,
}

/// A file of npm's settings, if one is named.
async fn settings_of(
    npmrc: Option<&Path>,
    env: &Env,
    url: &Url,
) -> Result<Option<NpmSettings>, RegistryError> {
    let Some(path) = npmrc else {
        return Ok(None);
    };
    let text = read_text(path, MAX_TEXT).await?;
    let settings = NpmSettings::parse(&text, env, url);
    settings.map(Some).map_err(|why| unusable(path, &why))
}

/// What the registry at `url` is asked with: what the variables of `group` say, else what the file says.
pub(super) async fn credentials(
    npmrc: Option<&Path>,
    env: &Env,
    group: &str,
    url: &Url,
) -> Result<Option<UplinkAuth>, RegistryError> {
    let settings = settings_of(npmrc, env, url).await?;
    let known = credentials_in(env, group);
    Ok(known.or_else(|| settings?.credentials(url)))
}

impl Chosen {
    /// The file of npm's settings.
    pub(super) fn npmrc(&self) -> Option<&Path> {
        self.npmrc.as_deref()
    }

    /// The packages that are meant, of a folder.
    pub(super) async fn names_in_folder(&self) -> Result<Names, RegistryError> {
        if !self.lockfile.is_empty() || self.npmrc.is_some() {
            return Err(RegistryError::Settings {
                message:
                    "--lockfile and --npmrc are about registries; name packages of a folder with \
                          --names"
                        .to_owned(),
            });
        }
        Ok(match (&self.names, &self.search) {
            (Some(path), _) => Names::These(names_in(path).await?),
            (None, Some(text)) => Names::Found(text.clone()),
            (None, None) => Names::All,
        })
    }

    /// The packages that are meant, of the registry at `url`.
    pub(super) async fn names(&self, env: &Env, url: &Url) -> Result<Names, RegistryError> {
        if let Some(path) = &self.names {
            return Ok(Names::These(names_in(path).await?));
        }
        if let Some(text) = &self.search {
            return Ok(Names::Found(text.clone()));
        }
        if self.lockfile.is_empty() {
            return Ok(Names::All);
        }
        let settings = settings_of(self.npmrc(), env, url).await?;
        let mut names = std::collections::BTreeSet::new();
        for path in &self.lockfile {
            for locked in read_lockfile(path).await?.packages {
                let is_from_there = match &locked.from {
                    Some(from) => is_below(from, url),
                    // Where the lockfile does not say, the settings do.
                    None => settings.as_ref().is_none_or(|settings| {
                        is_below(settings.registry_of(locked.name.as_str()).as_str(), url)
                    }),
                };
                if is_from_there {
                    names.insert(locked.name);
                }
            }
        }
        if names.is_empty() {
            return Err(RegistryError::Settings {
                message: format!(
                    "no package of the lockfile comes from {url}; is that the address it was made with?"
                ),
            });
        }
        Ok(Names::These(names.into_iter().collect()))
    }
}

/// Whether `address`, which may leave out the scheme, is of the registry at `base`.
fn is_below(address: &str, base: &Url) -> bool {
    let Ok(address) = base.join(address) else {
        return false;
    };
    let path = base.path().trim_end_matches('/');
    let rest = address.path().strip_prefix(path);
    address.origin() == base.origin()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The lockfile at `path`.
pub(super) async fn read_lockfile(path: &Path) -> Result<Lockfile, RegistryError> {
    let bytes = read(path, lockfile::MAX_LENGTH).await?;
    let parsed = tokio::task::spawn_blocking(move || Lockfile::parse(&bytes)).await;
    let parsed = parsed.map_err(RegistryError::internal)?;
    parsed.map_err(|error| unusable(path, &error.to_string()))
}

/// The names in a file.
async fn names_in(path: &Path) -> Result<Vec<PackageName>, RegistryError> {
    let text = read_text(path, MAX_TEXT).await?;
    let mut names = std::collections::BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.parse().map_err(|error| {
            let number = number + 1;
            unusable(path, &format!("line {number}: {error}"))
        })?;
        names.insert(name);
    }
    Ok(names.into_iter().collect())
}

async fn read_text(path: &Path, limit: u64) -> Result<String, RegistryError> {
    let bytes = read(path, limit).await?;
    String::from_utf8(bytes).map_err(|_| unusable(path, "it is no text"))
}

async fn read(path: &Path, limit: u64) -> Result<Vec<u8>, RegistryError> {
    use tokio::io::AsyncReadExt as _;

    let failed = |error: std::io::Error| unusable(path, &error.to_string());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(limit + 1);
    bounded.read_to_end(&mut bytes).await.map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(unusable(path, &format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn unusable(path: &Path, why: &str) -> RegistryError {
    RegistryError::Settings {
        message: format!("cannot use {}: {why}", path.display()),
    }
}

/// A base address of a registry.
pub(super) fn registry_address(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{why}; give an address such as https://npm.example.com"
        ))
    };
    let Ok(mut url) = text.parse::<Url>() else {
        return wrong("it is no address");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("it is no address of http or https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "credentials do not belong on the command line, where others see them; set \
             RUSTACCIO_IMPORT_TOKEN, or name a file with --npmrc"
                .to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("it has a `?` or a `#`");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_by_origin_and_path() {
        let base: Url = "http://r.example/npm".parse().unwrap();
        assert!(is_below("http://r.example/npm/a/-/a-1.0.0.tgz", &base));
        assert!(is_below("//r.example/npm/", &base));
        for other in [
            "http://r.example/npmx/a.tgz",
            "https://r.example/npm/a.tgz",
            "http://r.example:81/npm/a.tgz",
            "http://x.example/npm/a.tgz",
            "http://",
        ] {
            assert!(!is_below(other, &base), "{other}");
        }
        let root: Url = "http://r.example".parse().unwrap();
        assert!(is_below("http://r.example/a/-/a-1.0.0.tgz", &root));
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        let of = |text: &str| registry_address(text).map(|url| url.to_string());
        assert_eq!(of("http://r.example/npm/").unwrap(), "http://r.example/npm");
        for wrong in [
            "",
            "npm",
            "ftp://r.example",
            "http://bob:x@r.example",
            "http://r/?x",
            "http://r/#x",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
