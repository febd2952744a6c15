//! `rustaccio config`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;
use serde::Serialize;

use super::{
    all_problems, complain,
    output::{Format, say},
};
use crate::config::{Config, Reading, examples};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what each line of the files means, and whether a registry could start with these settings
    Check {
        #[command(flatten)]
        format: Format,
    },
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
        ConfigCommand::Check { format } => return check(*format, settings, out),
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

/// What programs read of a check.
#[derive(Serialize)]
struct Checked {
    /// Whether a registry can start with these settings.
    ok: bool,
    readings: Vec<Shown>,
    warnings: Vec<String>,
    problems: Vec<String>,
}

/// A line of a file, and what it means.
#[derive(Serialize)]
struct Shown {
    path: String,
    value: String,
    meaning: String,
}

fn check(format: Format, settings: &Config, out: &mut impl Write) -> ExitCode {
    let problems = match all_problems(settings) {
        Ok(problems) => problems,
        Err(error) => {
            say(format_args!("rustaccio: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let written = if format.json {
        let checked = Checked {
            ok: problems.is_empty(),
            readings: settings.readings().iter().map(Shown::of).collect(),
            warnings: settings
                .warnings()
                .iter()
                .map(ToString::to_string)
                .collect(),
            problems: problems.iter().map(ToString::to_string).collect(),
        };
        format.write(&checked, "", out)
    } else {
        explain(settings, out)
    };
    if !problems.is_empty() {
        return complain(&problems);
    }
    let said = written.and_then(|()| {
        if format.json {
            return Ok(());
        }
        for warning in settings.warnings() {
            writeln!(out, "warning: {warning}")?;
        }
        writeln!(out, "the settings are fine")
    });
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Shown {
    fn of(reading: &Reading) -> Self {
        Self {
            path: reading.path.clone(),
            value: reading.value.clone(),
            meaning: reading.meaning.to_string(),
        }
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
