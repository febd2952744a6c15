//! New passwords: asked for twice on a terminal, which shows nothing of them, or read from a pipe. Never
//! an argument, which others see.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::RegistryError;

/// A longer line is no password.
const MAX_LINE: u64 = 64 * 1024;
const END: u8 = 4;
const INTERRUPT: u8 = 3;
const KILL: u8 = 21;

/// A new password for `whose` account.
pub(super) fn new_password(
    is_piped: bool,
    whose: &impl std::fmt::Display,
) -> Result<SecretString, RegistryError> {
    if is_piped {
        return piped();
    }
    if !io::stdin().is_terminal() {
        return Err(wrong(
            "there is no terminal to ask for the password; give it on standard input with --password-stdin, as in \
             `rustaccio … --password-stdin < file`",
        ));
    }
    let first = asked(&format!("New password of {whose}: "))?;
    let again = asked("Once more: ")?;
    if first.expose_secret() == again.expose_secret() {
        return Ok(first);
    }
    Err(wrong(
        "the two passwords are not the same, and nothing was changed; run this again",
    ))
}

/// The first line of standard input.
fn piped() -> Result<SecretString, RegistryError> {
    let mut text = String::new();
    // Whoever writes it may keep the pipe open.
    let read = io::stdin().lock().take(MAX_LINE).read_line(&mut text);
    read.map_err(|error| wrong(&format!("standard input cannot be read: {error}")))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(wrong(
            "standard input has no password; write it there in one line",
        ));
    }
    Ok(line.into())
}

/// What is typed after `prompt`.
fn asked(prompt: &str) -> Result<SecretString, RegistryError> {
    let silence = Silence::begin()
        .map_err(|error| wrong(&format!("the terminal does not answer: {error}")))?;
    let mut err = io::stderr().lock();
    let _ = write!(err, "{prompt}");
    let _ = err.flush();
    let typed = typed();
    let _ = writeln!(err);
    drop(silence);
    let typed = typed.map_err(|error| wrong(&format!("nothing was typed: {error}")))?;
    let text = String::from_utf8(typed);
    let text = text.map_err(|_| wrong("what was typed is no UTF-8"))?;
    Ok(text.into())
}

fn typed() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte? {
            b'\n' | b'\r' => return Ok(line),
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            END if line.is_empty() => break,
            KILL => line.clear(),
            0x7f | 0x08 => {
                // All bytes of the last character.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte => line.push(byte),
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A terminal that shows nothing of what is typed, until this is dropped. An interrupt is read as a
/// character: it must not leave the terminal so.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn wrong(message: &str) -> RegistryError {
    RegistryError::bad_request(message)
}
