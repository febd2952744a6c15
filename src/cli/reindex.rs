//! `rustaccio reindex`.

use std::{fmt, io::Write, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::{
    chosen::Running,
    conclusion::{Conclusion, conclude},
    output::Format,
    work,
};
use crate::{
    config::{Config, Env},
    error::RegistryError,
    events::Event,
    runtime::{self, Reindexing, recorded, require_folder},
};

/// What is to be reindexed.
#[derive(Debug, Args)]
pub(super) struct ReindexCommand {
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    format: Format,
}

/// What it came to.
#[derive(Serialize)]
#[serde(transparent)]
struct Done(Reindexing);

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reindexing {
            packages_before,
            packages_after,
            sidecars_synced,
            damaged,
            ..
        } = self.0;
        write!(
            f,
            "packages before   {packages_before}\npackages now      {packages_after}\nmanifests rebuilt {sidecars_synced}"
        )?;
        if let Some(damaged) = damaged {
            write!(f, "\nmanifests damaged {damaged}")?;
        }
        Ok(())
    }
}

/// Ends with 0 where every manifest can be read, else with 1.
pub(super) fn run(
    command: &ReindexCommand,
    settings: &Config,
    env: &Env,
    out: &mut impl Write,
) -> ExitCode {
    let conclusion = |done: &Done| {
        let is_well = done.0.ok && done.0.damaged.unwrap_or_default() == 0;
        let text = match (is_well, done.0.changed) {
            (false, _) => {
                "what is damaged was left as it is; `rustaccio fsck` names it, put back a copy of it"
            }
            (true, true) => "what was lost is there again",
            (true, false) => "everything was as it should be",
        };
        Conclusion { is_well, text }
    };
    let done = run_reindex(command, settings, env).map(Done);
    conclude("reindex", done, command.format, conclusion, out)
}

fn run_reindex(
    command: &ReindexCommand,
    settings: &Config,
    env: &Env,
) -> Result<Reindexing, RegistryError> {
    work::run_with_bar("packages", async |bar| {
        let watch = |done: usize, all: usize| bar.show(done, all, "");
        if let Some(registry) = command.running.registry(env).await? {
            // It leaves a line in its own trail of audit.
            return runtime::reindex(settings, Some(registry), &watch).await;
        }
        require_folder(settings)?;
        recorded(settings, "admin.reindex", async |told| {
            let done = runtime::reindex(settings, None, &watch).await?;
            told.tell(&Event::Reindexed {
                changed: done.changed,
                packages_before: done.packages_before,
                packages_after: done.packages_after,
            });
            Ok(done)
        })
        .await
    })
}
