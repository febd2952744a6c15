//! `rustaccio mirror`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use url::Url;

use super::{
    chosen::{credentials, read_lockfile, registry_address},
    complain,
    conclusion::{Conclusion, conclude},
    output::Format,
    work,
};
use crate::{
    config::{Config, Env},
    error::RegistryError,
    registry::mirror::Mirrored,
    runtime::{self, Mirroring},
};

/// What is to be at hand.
#[derive(Debug, Args)]
pub(super) struct MirrorCommand {
    /// A lockfile of npm, Yarn, pnpm or Bun; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    lockfile: Vec<PathBuf>,
    /// Leave out what only development needs, where the lockfile says that
    #[arg(long)]
    production: bool,
    /// The address of this registry where it runs; without it, it must not be running
    #[arg(long, value_name = "URL", value_parser = registry_address)]
    registry: Option<Url>,
    /// A file with credentials for the registry that runs, as npm has them
    #[arg(long, value_name = "FILE", requires = "registry")]
    npmrc: Option<PathBuf>,
    /// How much is asked for at a time
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    #[command(flatten)]
    format: Format,
}

/// Ends with 0 where everything is at hand, else with 1.
pub(super) fn run(
    command: &MirrorCommand,
    settings: &Config,
    env: &Env,
    out: &mut impl Write,
) -> ExitCode {
    if !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    let done = run_mirror(command, settings, env);
    let conclusion = |mirrored: &Mirrored| Conclusion {
        is_well: mirrored.is_complete(),
        text: if mirrored.is_complete() {
            "everything that the lockfiles name can be installed without an upstream"
        } else {
            "not everything is at hand; put right what is named above, and run this again: what is at \
             hand is not asked for again"
        },
    };
    conclude("mirror", done, command.format, conclusion, out)
}

fn run_mirror(
    command: &MirrorCommand,
    settings: &Config,
    env: &Env,
) -> Result<Mirrored, RegistryError> {
    work::run_with_bar("packages", async |bar| {
        let watch = |mirrored: &Mirrored, all: usize| {
            let more = format!("{} tarballs, ", mirrored.tarballs);
            bar.show(mirrored.packages, all, &more);
        };
        let mut locked = Vec::new();
        for path in &command.lockfile {
            let lockfile = read_lockfile(path).await?;
            if command.production && !lockfile.knows_dev {
                return Err(RegistryError::Settings {
                    message: format!(
                        "{} does not say what only development needs; leave --production away",
                        path.display()
                    ),
                });
            }
            let packages = lockfile.packages.into_iter();
            locked.extend(packages.filter(|locked| !(command.production && locked.is_dev)));
        }
        let through = match &command.registry {
            Some(url) => {
                let npmrc = command.npmrc.as_deref();
                Some((url.clone(), credentials(npmrc, env, "IMPORT", url).await?))
            }
            None => None,
        };
        let mirroring = Mirroring {
            locked,
            through,
            jobs: command.jobs.into(),
        };
        runtime::mirror(settings, mirroring, &watch).await
    })
}
