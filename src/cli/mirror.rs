//! `rustaccio mirror`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    chosen::{Pace, Running, read_lockfile},
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
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    pace: Pace,
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
        let mirroring = Mirroring {
            locked,
            through: command.running.registry(env).await?,
            jobs: command.pace.jobs.into(),
        };
        runtime::mirror(settings, mirroring, &watch).await
    })
}
