//! `rustaccio fsck`.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use super::{complain, serve::explain};
use crate::{
    config::Config,
    error::RegistryError,
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
        Ok(report) => {
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

fn run_check(settings: &Config, repair: bool) -> Result<FsckReport, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    runtime.block_on(async {
        // It changes nothing but by compare-and-swap, so that others may go on serving the bucket.
        let backends = Backends::open(settings).await?;
        let store = backends.open_store(settings, true).await?;
        let clock: SharedClock = Arc::new(SystemClock);
        check(&store, repair, &clock).await
    })
}
