//! `rustaccio import`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use url::Url;

use super::{
    chosen::{Chosen, Pace, credentials, registry_address},
    conclusion::{Conclusion, conclude},
    output::Format,
    work,
};
use crate::{
    config::{Config, Env, Sources},
    error::RegistryError,
    models::Origin,
    registry::import::Imported,
    runtime::{self, ImportFrom, Importing, recorded},
};

/// What is to be imported.
#[derive(Debug, Args)]
pub(super) struct ImportCommand {
    /// The address of the registry to import from; or a folder that Verdaccio made, or Verdaccio's
    /// config.yaml
    #[arg(value_name = "SOURCE", value_parser = source)]
    source: Place,
    #[command(flatten)]
    chosen: Chosen,
    /// Verdaccio's file of users, where it is not `htpasswd` in the folder
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Let the versions of an upstream stand beside those that are imported; without it, upstream is not
    /// asked for these names any more
    #[arg(long)]
    as_override: bool,
    #[command(flatten)]
    pace: Pace,
    /// Say what would be done, and write nothing; the registry may be running
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

/// Where packages come from.
#[derive(Clone, Debug)]
enum Place {
    Registry(Url),
    Folder(PathBuf),
}

fn source(text: &str) -> Result<Place, String> {
    let path = Path::new(text);
    // What is there is meant.
    if !text.contains("://") && path.exists() {
        return Ok(Place::Folder(path.to_owned()));
    }
    registry_address(text).map(Place::Registry)
}

/// What Verdaccio's own settings say of its folder.
fn verdaccio_folder(path: &Path, htpasswd: Option<&PathBuf>) -> Result<ImportFrom, RegistryError> {
    let sources = if path.is_dir() {
        let folder = path.to_string_lossy().into_owned();
        Sources {
            env: [("RUSTACCIO_DATA_DIR", folder)].into_iter().collect(),
            ..Sources::default()
        }
    } else {
        Sources {
            file: Some(path.to_owned()),
            ..Sources::default()
        }
    };
    let theirs = Config::load(&sources);
    let Some(folder) = theirs.storage.verdaccio.clone() else {
        return Err(RegistryError::Settings {
            message: format!(
                "{} is no folder that Verdaccio made: there is no .verdaccio-db.json in {}; give the folder \
                 that `storage` names in its config.yaml, or config.yaml itself",
                path.display(),
                theirs.storage.data_dir.display()
            ),
        });
    };
    let found = theirs.auth.htpasswd.map(|htpasswd| htpasswd.file);
    let htpasswd = htpasswd.cloned().or(found);
    let htpasswd = htpasswd.unwrap_or_else(|| folder.root.join("htpasswd"));
    Ok(ImportFrom::Folder(folder, htpasswd))
}

/// Ends with 0 where all that was asked for is here, else with 1.
pub(super) fn run(
    command: &ImportCommand,
    settings: &Config,
    env: &Env,
    out: &mut impl Write,
) -> ExitCode {
    let done = run_import(command, settings, env);
    let conclusion = |imported: &Imported| Conclusion {
        is_well: imported.is_complete(),
        text: conclusion(command, imported),
    };
    conclude("import", done, command.format, conclusion, out)
}

fn conclusion(command: &ImportCommand, imported: &Imported) -> &'static str {
    if imported.packages == 0 && imported.is_complete() {
        return "there was nothing to import; name packages with --names or --lockfile if that is a surprise";
    }
    if command.dry_run {
        return "nothing was written; leave --dry-run away to do it";
    }
    if imported.is_complete() {
        return "all is here; `rustaccio shadow` compares what both registries answer";
    }
    if imported.failures.is_empty() {
        return "not all is here: what is named above was left out; what is here is complete, and another \
                run takes what the source has by then";
    }
    "not all is here: put right what failed, and run this again; it goes on where it was"
}

fn run_import(
    command: &ImportCommand,
    settings: &Config,
    env: &Env,
) -> Result<Imported, RegistryError> {
    work::run_with_bar("packages", async |bar| {
        let watch = |imported: &Imported, all: usize| {
            let Imported {
                packages,
                versions,
                bytes,
                ..
            } = imported;
            let more = format!("{versions} versions, {} MB, ", bytes / 1_000_000);
            bar.show(*packages, all, &more);
        };
        let chosen = &command.chosen;
        let (from, names) = match &command.source {
            Place::Registry(url) => {
                let auth = credentials(chosen.npmrc(), env, "IMPORT", url).await?;
                let names = chosen.names(env, url).await?;
                (ImportFrom::Registry(url.clone(), auth), names)
            }
            Place::Folder(path) => {
                let from = verdaccio_folder(path, command.htpasswd.as_ref())?;
                (from, chosen.names_in_folder().await?)
            }
        };
        let importing = Importing {
            from,
            names,
            origin: command.as_override.then_some(Origin::Override),
            jobs: command.pace.jobs.into(),
            is_dry: command.dry_run,
        };
        let imported = runtime::import(settings, importing, &watch);
        if command.dry_run {
            return imported.await;
        }
        recorded(settings, "import", async |_| imported.await).await
    })
}
