//! `rustaccio signing-key`.

use std::{io::Write, process::ExitCode};

use clap::Subcommand;
use serde::Serialize;

use super::{
    output::{Format, end},
    table::Table,
    user::day,
    work,
};
use crate::{
    config::Config,
    error::RegistryError,
    lifecycle::{Clock as _, SystemClock},
    runtime::{Backends, recorded},
    storage::{PublicSigningKey, SigningKeys},
};

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum SigningKeyCommand {
    /// List the keys, oldest first
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Replace the key; what was signed before stays valid. The registry must not be running
    Rotate {
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<PublicSigningKey>,
}

pub(super) fn run(command: SigningKeyCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let (done, format) = match command {
        SigningKeyCommand::List { format } => (work::run(list(settings)), format),
        SigningKeyCommand::Rotate { format } => {
            let rotated = recorded(settings, "signing_key.rotate", async |_| {
                rotate(settings).await
            });
            (work::run(rotated), format)
        }
    };
    let done = done.map(|keys| {
        let text = table(&keys);
        format.write(&Keys { keys }, text, out).map(|()| true)
    });
    end("signing-key", done)
}

fn table(keys: &[PublicSigningKey]) -> String {
    if keys.is_empty() {
        return "there is no key yet; the registry makes one when it starts with signing on\n"
            .to_owned();
    }
    let mut table = Table::new(["KEY", "STATE", "EXPIRED"]);
    for key in keys {
        let state = if key.expires.is_some() {
            "expired"
        } else {
            "signs"
        };
        let expired = key.expires.map(day);
        table.row([
            key.keyid.clone(),
            state.to_owned(),
            expired.unwrap_or_default(),
        ]);
    }
    table.to_string()
}

async fn list(settings: &Config) -> Result<Vec<PublicSigningKey>, RegistryError> {
    let backends = Backends::open(settings).await?;
    Ok(SigningKeys::list(&*backends.keys(settings)).await?)
}

async fn rotate(settings: &Config) -> Result<Vec<PublicSigningKey>, RegistryError> {
    let backends = Backends::open(settings).await?;
    // Nobody else may be signing meanwhile.
    let _store = backends.open_store(settings, true).await?;
    let secrets = backends.open_secrets(settings).await?;
    let keys = &*backends.keys(settings);
    let keys = SigningKeys::rotate(keys, &secrets, SystemClock.now()).await?;
    Ok(keys.public().to_vec())
}
