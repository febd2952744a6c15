//! `rustaccio completions` and `rustaccio man`: what shells and `man` know of the command line.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::{Man, generate_to};

use super::output::say;

const NAME: &str = "rustaccio";

/// For which shell.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct CompletionsCommand {
    /// The shell
    shell: Shell,
}

/// Where the pages go.
#[derive(Debug, Args)]
pub(super) struct ManCommand {
    /// Write a page for each command into this folder; without it, the page of `rustaccio` goes to
    /// standard output
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Writes what the shell is to read.
pub(super) fn complete(
    command: CompletionsCommand,
    mut whole: Command,
    out: &mut impl Write,
) -> ExitCode {
    let mut text = Vec::new();
    generate(command.shell, &mut whole, NAME, &mut text);
    written(out.write_all(&text))
}

/// Writes the manual.
pub(super) fn manual(command: &ManCommand, mut whole: Command, out: &mut impl Write) -> ExitCode {
    // Options of all commands are on the page of each.
    whole.build();
    let Some(folder) = &command.folder else {
        let mut text = Vec::new();
        let rendered = Man::new(whole).render(&mut text);
        return written(rendered.and_then(|()| out.write_all(&text)));
    };
    let made = fs::create_dir_all(folder).and_then(|()| generate_to(whole, folder));
    match made {
        Ok(()) => written(writeln!(
            out,
            "the pages are in {0}; `man -l {0}/rustaccio.1` shows the first",
            folder.display()
        )),
        Err(error) => {
            say(format_args!(
                "rustaccio man: cannot write into {}: {error}; name another folder",
                folder.display()
            ));
            ExitCode::FAILURE
        }
    }
}

fn written(written: io::Result<()>) -> ExitCode {
    written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
