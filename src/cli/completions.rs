//! `rustaccio completions` and `rustaccio man`: what shells and `man` know of the command line.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

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
    let made = fs::create_dir_all(folder).and_then(|()| pages(&whole, NAME, folder));
    match made {
        Ok(count) => written(writeln!(out, "{count} pages in {}", folder.display())),
        Err(error) => {
            say(format_args!(
                "rustaccio man: cannot write into {}: {error}; name another folder",
                folder.display()
            ));
            ExitCode::FAILURE
        }
    }
}

/// Writes the page of `command`, which is called `name`, and those of its own. How many.
fn pages(command: &Command, name: &str, folder: &Path) -> io::Result<usize> {
    let title = name.replace(' ', "-");
    let shown = command
        .clone()
        .name(title.clone())
        .bin_name(name.to_owned());
    let mut text = Vec::new();
    Man::new(shown).render(&mut text)?;
    fs::write(folder.join(format!("{title}.1")), text)?;
    let mut count = 1;
    for own in command.get_subcommands() {
        if own.get_name() != "help" && !own.is_hide_set() {
            count += pages(own, &format!("{name} {}", own.get_name()), folder)?;
        }
    }
    Ok(count)
}

fn written(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
