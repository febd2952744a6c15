//! `rustaccio fsck`.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use super::complain;
use crate::{
    config::Config,
    error::{RegistryError, explain},
    lifecycle::{SharedClock, SystemClock},
    registry::fsck::{FsckReport, check},
    runtime::Backends,
};

/// Ends with 0 where nothing is wrong any more, else with 1.
pub(super) fn run(settings: &Config, repair: bool, out: &mut impl Write) -> ExitCode {
    if !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    match run_check(settings, repair) {
        Ok((report, done)) => {
            if let Err(error) = done {
                // There is nobody left to tell if this cannot be written. Nor is it a whole report.
                for damage in &report.damages {
                    let _ = writeln!(out, "{damage}");
                }
                let _ = writeln!(
                    io::stderr().lock(),
                    "rustaccio fsck: it did not come to its end: {}",
                    explain(&error)
                );
                return ExitCode::FAILURE;
            }
            let written = writeln!(out, "{report}");
            if written.is_ok() && report.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(io::stderr().lock(), "rustaccio fsck: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// What is said where nothing keeps a repair apart from registries that write.
const UNSAFE_REPAIR: &str = "the store of the bucket ignores If-None-Match or If-Match, so that --repair could undo what \
    registries write meanwhile; leave --repair away to look only, or use a store with conditional writes";

type Checked = (FsckReport, Result<(), RegistryError>);

fn run_check(settings: &Config, repair: bool) -> Result<Checked, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    runtime.block_on(async {
        // It changes nothing but by compare-and-swap, so that others may go on serving the bucket.
        let backends = Backends::open(settings).await?;
        // A look takes no lease, and needs none.
        let store = match backends.open_store(settings, !repair).await {
            Err(RegistryError::Settings { .. }) if repair => {
                return Err(RegistryError::Settings {
                    message: UNSAFE_REPAIR.to_owned(),
                });
            }
            opened => opened?,
        };
        let clock: SharedClock = Arc::new(SystemClock);
        Ok(check(&store, repair, &clock).await)
    })
}
