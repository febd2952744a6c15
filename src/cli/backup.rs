//! `rustaccio backup`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use super::{complain, migrate::Progress};
use crate::{
    config::Config,
    error::{RegistryError, explain},
    runtime::{self, BackedUp, Backup},
    storage::Taken,
};

/// Ends with 0 where the snapshot is complete, else with 1.
pub(super) fn run(
    folder: &Path,
    backup: Backup,
    settings: &Config,
    out: &mut impl Write,
) -> ExitCode {
    if !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    match back_up(folder, backup, settings) {
        Ok(done) => {
            if show(&done, out).is_ok() && done.taken.is_complete() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            let text = explain(&error);
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(
                io::stderr().lock(),
                "rustaccio backup: {text}\nno snapshot was made, and earlier ones are as they were"
            );
            ExitCode::FAILURE
        }
    }
}

fn show(done: &BackedUp, out: &mut impl Write) -> io::Result<()> {
    let path = done.path.display();
    writeln!(out, "{}", done.taken)?;
    for note in &done.notes {
        writeln!(out, "{note}")?;
    }
    if done.taken.is_complete() {
        return writeln!(out, "{path} is complete, and what was copied was read back");
    }
    writeln!(
        out,
        "{path} is incomplete: what is named above is not in it as it should be; put it right (`rustaccio fsck` \
         tells more of missing and damaged tarballs) and run this again"
    )
}

fn back_up(folder: &Path, backup: Backup, settings: &Config) -> Result<BackedUp, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    let progress = Progress::default();
    let watch = |taken: &Taken| progress.show(taken.packages, taken.copied + taken.linked);
    let done = runtime.block_on(Box::pin(runtime::back_up(settings, folder, backup, &watch)));
    progress.clear();
    done
}
