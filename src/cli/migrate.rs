//! `rustaccio migrate`, `rustaccio restore`.

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use parking_lot::Mutex;

use super::complain;
use crate::{
    config::Config,
    error::{RegistryError, explain},
    runtime::{self, Accepted, Migrated, Route},
    storage::Moved,
};

/// How often a terminal is told how far it is.
const STEP: Duration = Duration::from_millis(200);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// Manifests, accounts and keys of the data folder or the bucket into Postgres
    ToPostgres,
    /// From Postgres into the data folder or the bucket
    FromPostgres,
    /// All of the data folder into the bucket, tarballs too
    ToBucket,
    /// All of the bucket into the data folder
    FromBucket,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task<'t> {
    Migrate(Way, Accepted),
    Restore(&'t Path, Accepted),
}

/// Ends with 0 where the target has everything, else with 1.
pub(super) fn run(task: Task<'_>, settings: &Config, out: &mut impl Write) -> ExitCode {
    if !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    match run_task(task, settings) {
        Ok(Migrated::Before(text)) => match writeln!(out, "{text}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Migrated::Now(moved)) => {
            let written = writeln!(out, "{moved}\n{}", conclusion(task, &moved));
            if written.is_ok() && moved.is_complete() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            let command = match task {
                Task::Migrate(..) => "migrate",
                Task::Restore(..) => "restore",
            };
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(
                io::stderr().lock(),
                "rustaccio {command}: {}",
                explain(&error)
            );
            ExitCode::FAILURE
        }
    }
}

fn conclusion(task: Task<'_>, moved: &Moved) -> &'static str {
    match (moved.is_complete(), task) {
        (false, _) if moved.has_moved_all() => {
            "the target has all that the source has, which lacks the tarballs that are named above; \
             `rustaccio fsck` tells more of them"
        }
        (false, _) if moved.conflicts.is_empty() => {
            "the target does not have all that the source has; put right what failed, and run this again"
        }
        (false, _) => {
            "the target is not what the source is; look at what was left as it is, and run this \
             with --overwrite to replace it, or with --with-tokens to take tokens too that it alone has"
        }
        (true, Task::Migrate(Way::ToPostgres, _)) => {
            "everything is in Postgres and was read back; the source is as it was. Start with \
             RUSTACCIO_METADATA_BACKEND=transactional"
        }
        (true, Task::Migrate(Way::FromPostgres, _)) => {
            "everything has come from Postgres and was read back; the database is as it was. Start \
             without RUSTACCIO_METADATA_BACKEND"
        }
        (true, Task::Migrate(Way::ToBucket, _)) => {
            "everything is in the bucket and was read back; the data folder is as it was"
        }
        (true, Task::Migrate(Way::FromBucket, _)) => {
            "everything is in the data folder and was read back; the bucket is as it was. Start \
             without RUSTACCIO_TARBALL_BACKEND"
        }
        (true, Task::Restore(..)) => {
            "everything was restored and read back; `rustaccio fsck` checks it once more"
        }
    }
}

fn run_task(task: Task<'_>, settings: &Config) -> Result<Migrated, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    let progress = Progress::default();
    let watch = |moved: &Moved| {
        let packages = moved.packages.moved + moved.packages.same;
        progress.show(packages, moved.tarballs.moved + moved.tarballs.same);
    };
    let done = runtime.block_on(async {
        match task {
            Task::Migrate(way, accepted) => {
                let route = match way {
                    Way::ToPostgres => Route::ToPostgres,
                    Way::FromPostgres => Route::FromPostgres,
                    Way::ToBucket => Route::ToBucket,
                    Way::FromBucket => Route::FromBucket,
                };
                Box::pin(runtime::migrate(settings, route, accepted, &watch)).await
            }
            Task::Restore(folder, accepted) => {
                let chosen = runtime::choose(folder, accepted.incomplete).await?;
                if let Some(note) = &chosen.note {
                    // Whatever comes of it is said too.
                    let _ = writeln!(io::stderr().lock(), "{note}");
                }
                let folder = &chosen.folder;
                let moved = Box::pin(runtime::restore(settings, folder, accepted, &watch)).await;
                moved.map(Migrated::Now)
            }
        }
    });
    progress.clear();
    done
}

/// Says on a terminal how far it is; nothing anywhere else.
#[derive(Default)]
pub(super) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    pub(super) fn show(&self, packages: usize, tarballs: usize) {
        let mut err = io::stderr().lock();
        let mut shown = self.0.lock();
        let is_early = shown.is_some_and(|at| at.elapsed() < STEP);
        if is_early || !err.is_terminal() {
            return;
        }
        *shown = Some(Instant::now());
        // A terminal that has gone needs no progress.
        let _ = write!(err, "\r{packages} packages, {tarballs} tarballs \x1b[K");
        let _ = err.flush();
    }

    pub(super) fn clear(&self) {
        if self.0.lock().is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
