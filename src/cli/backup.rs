//! `rustaccio backup`.

use std::{fmt, io::Write, num::NonZeroUsize, path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::{
    conclusion::{Conclusion, conclude},
    output::{Format, say},
    work,
};
use crate::{
    config::Config,
    error::RegistryError,
    runtime::{self, BackedUp, Backup},
    storage::Taken,
};

/// What is to be kept, and where.
#[derive(Debug, Args)]
pub(super) struct BackupCommand {
    /// The folder of all snapshots; what they have in common is on the disk once
    folder: PathBuf,
    /// Read the tarballs that an earlier snapshot has, and compare them with their manifests
    #[arg(long)]
    verify: bool,
    /// After a complete snapshot, remove what is older than the newest N complete ones
    #[arg(long, value_name = "N")]
    keep: Option<NonZeroUsize>,
    #[command(flatten)]
    format: Format,
}

/// The snapshot that was made.
#[derive(Serialize)]
struct Made {
    path: String,
    #[serde(flatten)]
    taken: Taken,
    notes: Vec<String>,
}

impl From<BackedUp> for Made {
    fn from(done: BackedUp) -> Self {
        Self {
            path: done.path.display().to_string(),
            taken: done.taken,
            notes: done.notes,
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.taken)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let is = if self.taken.is_complete() {
            "is complete, and what was copied was read back"
        } else {
            "is incomplete: what is named above is not in it as it should be; put it right (`rustaccio fsck` \
             tells more of missing and damaged tarballs) and run this again"
        };
        write!(f, "{} {is}", self.path)
    }
}

/// Ends with 0 where the snapshot is complete, else with 1.
pub(super) fn run(command: &BackupCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let done = back_up(command, settings).map(Made::from);
    let has_failed = done.is_err();
    let conclusion = |made: &Made| Conclusion {
        is_well: made.taken.is_complete(),
        text: "",
    };
    let code = conclude("backup", done, command.format, conclusion, out);
    if has_failed {
        say("no snapshot was made, and earlier ones are as they were");
    }
    code
}

fn back_up(command: &BackupCommand, settings: &Config) -> Result<BackedUp, RegistryError> {
    let backup = Backup {
        verify: command.verify,
        keep: command.keep,
    };
    work::run_with_bar("packages", async |bar| {
        let watch = |taken: &Taken| {
            let more = format!("{} tarballs, ", taken.copied + taken.linked);
            bar.show_so_far(taken.packages, &more);
        };
        runtime::back_up(settings, &command.folder, backup, &watch).await
    })
}
