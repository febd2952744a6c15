//! `rustaccio signing-key`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;

use super::complain;
use crate::{
    config::Config,
    error::{RegistryError, explain},
    lifecycle::{Clock as _, SystemClock},
    runtime::Backends,
    storage::{PublicSigningKey, SigningKeys},
};

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum SigningKeyCommand {
    /// List the keys, oldest first
    List,
    /// Replace the key; what was signed before stays valid. The registry must not be running
    Rotate,
}

pub(super) fn run(command: SigningKeyCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    if !settings.problems().is_empty() {
        return complain(settings.problems());
    }
    match run_command(command, settings) {
        Ok(keys) => {
            let written = keys.iter().try_for_each(|key| match key.expires {
                Some(expires) => writeln!(out, "{}  expired {expires}", key.keyid),
                None => writeln!(out, "{}  signs", key.keyid),
            });
            match written {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(
                io::stderr().lock(),
                "rustaccio signing-key: {}",
                explain(&error)
            );
            ExitCode::FAILURE
        }
    }
}

fn run_command(
    command: SigningKeyCommand,
    settings: &Config,
) -> Result<Vec<PublicSigningKey>, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    runtime.block_on(async {
        let backends = Backends::open(settings).await?;
        let keys = &*backends.keys(settings);
        match command {
            SigningKeyCommand::List => Ok(SigningKeys::list(keys).await?),
            SigningKeyCommand::Rotate => {
                // Nobody else may be signing meanwhile.
                let _store = backends.open_store(settings, true).await?;
                let secrets = backends.open_secrets(settings).await?;
                let keys = SigningKeys::rotate(keys, &secrets, SystemClock.now()).await?;
                Ok(keys.public().to_vec())
            }
        }
    })
}
