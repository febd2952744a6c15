//! What a command says: text for people or one JSON object for programs on standard output, complaints on
//! standard error.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;

use crate::error::{RegistryError, explain};

/// For whom the answer is.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Format {
    /// Answer in JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

impl Format {
    /// Writes `answer`, an object of which programs read all fields and people the `text`.
    pub(super) fn write<A: Serialize>(
        self,
        answer: &A,
        text: impl fmt::Display,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, answer)?;
            return writeln!(out);
        }
        write!(out, "{text}")
    }
}

/// Ends the command `name`: with what it has `done`, and 0 where all is well, else 1.
pub(super) fn end(name: &str, done: Result<io::Result<bool>, RegistryError>) -> ExitCode {
    match done {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        // Nobody reads what it says, or it has said what is not well.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(name, &error),
    }
}

/// Says why the command `name` failed.
pub(super) fn fail(name: &str, error: &RegistryError) -> ExitCode {
    say(format_args!("rustaccio {name}: {}", explain(error)));
    ExitCode::FAILURE
}

/// Says something that is not the answer.
pub(super) fn say(text: impl fmt::Display) {
    // There is nobody left to tell if this cannot be written.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
