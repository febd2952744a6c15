//! How far a long command is: a bar on a terminal, and nothing where nobody looks.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const OF_ALL: &str = "{bar:32} {pos} of {len} {prefix}, {msg}{eta} left";
/// Where nobody knows how much there is.
const SO_FAR: &str = "{spinner} {pos} {prefix}, {msg}{elapsed} so far";

/// Where nobody knows how far it is.
const WORKING: &str = "{spinner} {prefix}, {elapsed} so far";

/// Says on standard error how far it is, where that is a terminal.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Nothing is shown yet. `what` is counted.
    pub(super) fn new(what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(8);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(style(SO_FAR));
            bar.set_prefix(what);
            bar
        });
        Self(bar)
    }

    /// Says at once that it does `what`, and for how long, and goes on saying it.
    pub(super) fn working(what: &'static str) -> Self {
        let this = Self::new(what);
        if let Some(bar) = &this.0 {
            bar.set_style(style(WORKING));
            bar.enable_steady_tick(Duration::from_millis(125));
        }
        this
    }

    /// `done` of `all` are done; `more` says what else, and ends in ", " unless it is empty.
    pub(super) fn show(&self, done: usize, all: usize, more: &str) {
        if let Some(bar) = &self.0 {
            if bar.length().is_none() {
                bar.set_style(style(OF_ALL));
            }
            bar.set_length(count(all));
            bar.set_position(count(done));
            bar.set_message(more.to_owned());
        }
    }

    /// `done` are done, of nobody knows how many.
    pub(super) fn show_so_far(&self, done: usize, more: &str) {
        if let Some(bar) = &self.0 {
            bar.set_position(count(done));
            bar.set_message(more.to_owned());
        }
    }

    /// Takes it off the terminal.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(look: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(look);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
