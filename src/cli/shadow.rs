//! `rustaccio shadow`.

use std::{io::Write, process::ExitCode};

use clap::Args;
use url::Url;

use super::{
    chosen::{Chosen, Pace, credentials, registry_address},
    conclusion::{Conclusion, conclude},
    output::Format,
    work,
};
use crate::{
    config::{Config, Env},
    error::RegistryError,
    registry::shadow::Shadowed,
    runtime::{self, Shadowing},
};

/// What is to be compared.
#[derive(Debug, Args)]
pub(super) struct ShadowCommand {
    /// The address of the registry whose answers are to be matched
    #[arg(value_name = "URL", value_parser = registry_address)]
    theirs: Url,
    /// The address of the registry that is to match them; without it, where the settings say that this
    /// one listens
    #[arg(long, value_name = "URL", value_parser = registry_address)]
    with: Option<Url>,
    #[command(flatten)]
    chosen: Chosen,
    /// Read all tarballs of both, and compare their bytes
    #[arg(long)]
    tarballs: bool,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    format: Format,
}

/// Ends with 0 where both answer alike, else with 1.
pub(super) fn run(
    command: &ShadowCommand,
    settings: &Config,
    env: &Env,
    out: &mut impl Write,
) -> ExitCode {
    let done = run_shadow(command, settings, env);
    let conclusion = |shadowed: &Shadowed| Conclusion {
        is_well: shadowed.is_alike(),
        text: if shadowed.is_alike() {
            "both answer alike"
        } else {
            "they do not answer alike; run `rustaccio import` again for what is missing here"
        },
    };
    conclude("shadow", done, command.format, conclusion, out)
}

fn run_shadow(
    command: &ShadowCommand,
    settings: &Config,
    env: &Env,
) -> Result<Shadowed, RegistryError> {
    let ours = command
        .with
        .clone()
        .or_else(|| runtime::own_address(settings));
    let ours = ours.ok_or_else(|| RegistryError::Settings {
        message: "this registry has no address with a port; name one with --with".to_owned(),
    })?;
    work::run_with_bar("packages", async |bar| {
        let watch = |shadowed: &Shadowed, all: usize| {
            let count: usize = shadowed.differences.values().map(Vec::len).sum();
            bar.show(shadowed.packages, all, &format!("{count} differences, "));
        };
        let (chosen, theirs) = (&command.chosen, &command.theirs);
        let npmrc = chosen.npmrc();
        let shadowing = Shadowing {
            names: chosen.names(env, theirs).await?,
            theirs: (
                theirs.clone(),
                credentials(npmrc, env, "IMPORT", theirs).await?,
            ),
            ours: (
                ours.clone(),
                credentials(npmrc, env, "SHADOW", &ours).await?,
            ),
            with_tarballs: command.tarballs,
            jobs: command.pace.jobs.into(),
        };
        runtime::shadow(settings, shadowing, &watch).await
    })
}
