//! `rustaccio restore`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    conclusion::{Conclusion, conclude},
    migrate::{OTHER_TARGET, not_all, show},
    output::{Format, say},
    work,
};
use crate::{
    config::Config,
    error::RegistryError,
    runtime::{self, Accepted, recorded},
    storage::Moved,
};

/// What is to be restored.
#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    /// A snapshot, or a folder of snapshots, of which the newest complete one is taken
    folder: PathBuf,
    /// Replace what is another in the target; without it, that is reported and left as it is
    #[arg(long)]
    overwrite: bool,
    /// Take tokens that only the backup has, though they may have been revoked since
    #[arg(long)]
    with_tokens: bool,
    /// Take a snapshot that lacks something; of a folder, the newest one whatever it lacks
    #[arg(long)]
    incomplete: bool,
    #[command(flatten)]
    format: Format,
}

/// Ends with 0 where the target has everything, else with 1.
pub(super) fn run(command: &RestoreCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let conclusion = |moved: &Moved| Conclusion {
        is_well: moved.is_complete(),
        text: if moved.is_complete() {
            "everything was restored and read back; `rustaccio fsck` checks it once more"
        } else {
            not_all(moved).unwrap_or(OTHER_TARGET)
        },
    };
    let done = restore(command, settings);
    conclude("restore", done, command.format, conclusion, out)
}

fn restore(command: &RestoreCommand, settings: &Config) -> Result<Moved, RegistryError> {
    let accepted = Accepted {
        overwrite: command.overwrite,
        with_tokens: command.with_tokens,
        incomplete: command.incomplete,
    };
    work::run_with_bar("packages", async |bar| {
        let chosen = runtime::choose(&command.folder, accepted.incomplete).await?;
        if let Some(note) = &chosen.note {
            // Whatever comes of it is said too.
            say(note);
        }
        let watch = |moved: &Moved| show(bar, moved);
        recorded(settings, "restore", async |_| {
            runtime::restore(settings, &chosen.folder, accepted, &watch).await
        })
        .await
    })
}
