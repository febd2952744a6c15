//! `rustaccio migrate`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::ValueEnum;

use super::{complain, serve::explain};
use crate::{config::Config, error::RegistryError, runtime, storage::Moved};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// From the data folder into Postgres
    ToPostgres,
    /// From Postgres into the data folder
    FromPostgres,
}

/// Ends with 0 where the target has everything, else with 1.
pub(super) fn run(way: Way, overwrite: bool, settings: &Config, out: &mut impl Write) -> ExitCode {
    if !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    match run_migration(way, overwrite, settings) {
        Ok(moved) => {
            let written = writeln!(out, "{moved}\n{}", conclusion(way, &moved));
            if written.is_ok() && moved.is_complete() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(
                io::stderr().lock(),
                "rustaccio migrate: {}",
                explain(&error)
            );
            ExitCode::FAILURE
        }
    }
}

fn conclusion(way: Way, moved: &Moved) -> &'static str {
    match (moved.is_complete(), way) {
        (false, _) => {
            "the target is not what the source is; look at what was left as it is, and run this \
             with --overwrite to replace it"
        }
        (true, Way::ToPostgres) => {
            "everything is in Postgres and was read back; the data folder is as it was. Start with \
             RUSTACCIO_METADATA_BACKEND=transactional"
        }
        (true, Way::FromPostgres) => {
            "everything is in the data folder and was read back; the database is as it was. Start \
             without RUSTACCIO_METADATA_BACKEND"
        }
    }
}

fn run_migration(way: Way, overwrite: bool, settings: &Config) -> Result<Moved, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    let is_to_postgres = way == Way::ToPostgres;
    runtime.block_on(runtime::migrate(settings, is_to_postgres, overwrite))
}
