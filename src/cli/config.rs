//! `rustaccio config`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;

use super::{all_problems, complain};
use crate::config::{Config, Reading, examples};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what each line of the files means, and whether a registry could start with these settings
    Check,
    /// List the settings in force, without secrets
    Show {
        /// Say where each came from
        #[arg(long)]
        sources: bool,
    },
    /// Describe all settings
    Reference,
}

pub(super) fn run(command: &ConfigCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let written = match command {
        ConfigCommand::Check => {
            let problems = match all_problems(settings) {
                Ok(problems) => problems,
                Err(error) => {
                    // There is nobody left to tell if this cannot be written.
                    let _ = writeln!(io::stderr().lock(), "rustaccio: {error}");
                    return ExitCode::FAILURE;
                }
            };
            // There is nobody left to tell if this cannot be written.
            let _ = explain(settings, out);
            if !problems.is_empty() {
                return complain(&problems);
            }
            let warned = settings
                .warnings()
                .iter()
                .try_for_each(|warning| writeln!(out, "warning: {warning}"));
            warned.and_then(|()| writeln!(out, "the settings are fine"))
        }
        ConfigCommand::Show { sources } => {
            if !settings.problems().is_empty() {
                return complain(settings.problems());
            }
            out.write_all(settings.show(*sources).as_bytes())
        }
        ConfigCommand::Reference => examples()
            .into_iter()
            .filter(|example| example.path.starts_with("docs/"))
            .try_for_each(|example| out.write_all(example.text.as_bytes())),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What each line of the files means here.
fn explain(settings: &Config, out: &mut impl Write) -> io::Result<()> {
    for Reading {
        path,
        value,
        meaning,
    } in settings.readings()
    {
        let space = if value.is_empty() { "" } else { " " };
        writeln!(out, "{path}:{space}{value}\n    {meaning}")?;
    }
    if let Some(folder) = &settings.storage.verdaccio {
        let (root, own) = (folder.root.display(), settings.storage.data_dir.display());
        writeln!(
            out,
            "\n{root} is a folder of Verdaccio's: its packages are used where they are, and everything \
             else is kept in {own}"
        )?;
    }
    if !settings.readings().is_empty() {
        writeln!(out)?;
    }
    Ok(())
}
