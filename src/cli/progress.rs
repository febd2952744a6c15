//! How far a long command is: a bar on a terminal, a line now and then where nobody looks.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

/// How often a pipe is told how far it is.
const EVERY: Duration = Duration::from_secs(15);
const LOOK: &str = "{bar:32} {pos} of {len} {prefix}, {msg}{eta} left";

/// Says on standard error how far it is.
pub(super) struct Bar {
    command: &'static str,
    what: &'static str,
    /// On a terminal.
    shown: Option<ProgressBar>,
    /// When something was said elsewhere.
    said: Mutex<Instant>,
}

impl Bar {
    /// Nothing is shown yet. `what` is counted.
    pub(super) fn new(command: &'static str, what: &'static str) -> Self {
        let shown = io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(8);
            let bar = ProgressBar::with_draw_target(Some(0), target);
            let style = ProgressStyle::with_template(LOOK);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(what);
            bar
        });
        Self {
            command,
            what,
            shown,
            said: Mutex::new(Instant::now()),
        }
    }

    /// `done` of `all` are done; `more` says what else, and ends in ", " unless it is empty.
    pub(super) fn show(&self, done: usize, all: usize, more: &str) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(bar) = &self.shown {
            bar.set_length(count(all));
            bar.set_position(count(done));
            bar.set_message(more.to_owned());
            return;
        }
        let mut said = self.said.lock();
        if said.elapsed() < EVERY || done == all {
            return;
        }
        *said = Instant::now();
        let (command, what) = (self.command, self.what);
        let more = more.trim_end_matches(", ");
        // There is nobody left to tell if this cannot be written.
        let _ = writeln!(
            io::stderr().lock(),
            "rustaccio {command}: {done} of {all} {what}, {more}"
        );
    }

    /// Takes it off the terminal.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
