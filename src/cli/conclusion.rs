//! What a long command ends with: what it came to, for people or programs.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use crate::error::{RegistryError, explain};

/// Whether all is well, and what is to be said about it.
pub(super) struct Conclusion {
    pub(super) is_well: bool,
    pub(super) text: &'static str,
}

/// Writes what the command `name` has `done`, and ends with 0 where all is well, else with 1.
pub(super) fn conclude<D: fmt::Display + Serialize>(
    name: &str,
    done: Result<D, RegistryError>,
    is_json: bool,
    conclusion: impl FnOnce(&D) -> Conclusion,
    out: &mut impl Write,
) -> ExitCode {
    let done = match done {
        Ok(done) => done,
        Err(error) => {
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(io::stderr().lock(), "rustaccio {name}: {}", explain(&error));
            return ExitCode::FAILURE;
        }
    };
    let Conclusion { is_well, text } = conclusion(&done);
    let written = if is_json {
        serde_json::to_writer(&mut *out, &done)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        writeln!(out, "{done}\n{text}")
    };
    if written.is_ok() && is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
