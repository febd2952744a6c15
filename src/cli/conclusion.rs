//! What a long command ends with: what it came to, for people or programs.

use std::{fmt, io::Write, process::ExitCode};

use serde::Serialize;

use super::output::{Format, end};
use crate::error::RegistryError;

/// Whether all is well, and what is to be said about it.
pub(super) struct Conclusion {
    pub(super) is_well: bool,
    pub(super) text: &'static str,
}

/// What programs read.
#[derive(Serialize)]
struct Answer<'a, D> {
    /// Whether all is well.
    ok: bool,
    #[serde(flatten)]
    done: &'a D,
    #[serde(skip_serializing_if = "str::is_empty")]
    conclusion: &'static str,
}

/// Writes what the command `name` has `done`, and ends with 0 where all is well, else with 1.
pub(super) fn conclude<D: fmt::Display + Serialize>(
    name: &str,
    done: Result<D, RegistryError>,
    format: Format,
    conclusion: impl FnOnce(&D) -> Conclusion,
    out: &mut impl Write,
) -> ExitCode {
    let done = done.map(|done| {
        let Conclusion { is_well, text } = conclusion(&done);
        let answer = Answer {
            ok: is_well,
            done: &done,
            conclusion: text,
        };
        let end = if text.is_empty() { "" } else { "\n" };
        let written = format.write(&answer, format_args!("{done}\n{text}{end}"), out);
        written.map(|()| is_well)
    });
    end(name, done)
}
