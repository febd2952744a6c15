//! The table of all settings: each has an environment variable, and a path in the file that is
//! made from its name. `--help`, the example files and the reference are made from it.

mod access;
mod auth;
mod bucket;
mod cache;
mod coordination;
mod discovery;
mod events;
mod governance;
mod policy;
mod postgres;
mod profile;
mod server;
mod storage;
mod telemetry;

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{Config, Source, UplinkDefaults};

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// Its path in the file, where it is not the variable's words: they mean another there.
    pub(super) in_files: Option<&'static str>,
    /// Other paths in the file, with `_` between their parts: Verdaccio's, and older ones.
    pub aliases: &'static [&'static str],
    /// What is assumed where it is not set, as text; empty for nothing.
    pub default: &'static str,
    /// What it is for, in a sentence or two.
    pub help: &'static str,
    /// Whether its value must not be shown.
    pub is_secret: bool,
    /// How its text is read, and where it goes.
    pub(super) kind: Kind,
}

/// Where values go.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) uplink_defaults: UplinkDefaults,
    /// The address of the built-in uplink; `none` for no such uplink.
    pub(super) upstream: Option<String>,
}

type Put<T> = fn(&mut Target, T);

/// How a text is read.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch(Put<bool>),
    /// A number; outside of the range it is moved to its end, with a warning.
    Number(RangeInclusive<u64>, Put<u64>),
    /// A number of seconds, or a span such as `2m`.
    Seconds(RangeInclusive<u64>, Put<Duration>),
    /// Bytes.
    Size(Put<u64>),
    /// One of these words.
    Choice(&'static [&'static str], Put<&'static str>),
    /// Any text that the function takes.
    Text(fn(&mut Target, &str) -> Result<(), String>),
    /// Any text; what is to be said of one that is not used as it is.
    Wish(fn(&mut Target, &str) -> Result<(), String>),
    /// The path of a file or folder; in a file, from the folder of that file on.
    Path(Put<PathBuf>),
    /// The address of a store.
    Address(Put<String>),
    /// A path of a service.
    Endpoint(fn(&mut Target, &str)),
    /// Taken, and means nothing to the registry.
    Unused,
    /// A number that older versions asked for, and that changes nothing now.
    Former,
}

impl Setting {
    const fn new(
        variable: &'static str,
        default: &'static str,
        kind: Kind,
        help: &'static str,
    ) -> Self {
        Self {
            variable,
            in_files: None,
            aliases: &[],
            default,
            help,
            is_secret: false,
            kind,
        }
    }

    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With another path in files.
    const fn in_files(mut self, path: &'static str) -> Self {
        self.in_files = Some(path);
        self
    }

    const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Its path in the file: any grouping of these words does, as in `web.title`.
    pub fn path(&self) -> String {
        if let Some(path) = self.in_files {
            return path.to_owned();
        }
        let name = self.variable.trim_start_matches("RUSTACCIO_");
        name.to_ascii_lowercase()
    }

    /// What it is called where it was set.
    pub(super) fn name(&self, source: &Source) -> String {
        match source {
            Source::File(_) => self.path(),
            _ => self.variable.to_owned(),
        }
    }

    /// Whether it names a file or a folder.
    pub(super) fn is_path(&self) -> bool {
        matches!(self.kind, Kind::Path(_))
    }

    /// Whether `path`, with `_` between its parts, means this setting.
    pub(super) fn has_path(&self, path: &str) -> bool {
        self.path() == path || self.aliases.contains(&path)
    }
}

/// All settings, in the order of the reference.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    sections().into_iter().flat_map(|(_, settings)| settings)
}

/// The settings by section.
pub(super) fn sections() -> [(&'static str, &'static [Setting]); 14] {
    [
        ("Profile", profile::SETTINGS),
        ("Server", server::SETTINGS),
        ("Storage and upstream", storage::SETTINGS),
        ("The cache of upstream", cache::SETTINGS),
        ("What is remembered", discovery::SETTINGS),
        ("Buckets", bucket::SETTINGS),
        ("Postgres", postgres::SETTINGS),
        ("Many nodes", coordination::SETTINGS),
        ("Limits", governance::SETTINGS),
        ("Accounts, rules and publishing", access::SETTINGS),
        ("Accounts elsewhere", auth::SETTINGS),
        ("Decisions elsewhere", policy::SETTINGS),
        ("Metrics and traces", telemetry::SETTINGS),
        ("Events and audit", events::SETTINGS),
    ]
}

/// What reading a text came to.
pub(super) enum Read {
    Fine,
    /// Taken, but not as it was written, and why.
    Warned(String),
}

impl Setting {
    /// Puts `text` where it belongs; what is wrong with it otherwise.
    pub(super) fn apply(&self, text: &str, target: &mut Target) -> Result<Read, String> {
        match &self.kind {
            Kind::Switch(put) => put(target, super::units::switch(text)?),
            Kind::Size(put) => put(target, super::units::size(text)?),
            Kind::Number(range, put) => {
                let number: i128 = text
                    .trim()
                    .parse()
                    .map_err(|_| "must be a whole number".to_owned())?;
                let (number, read) = clamp(number, range);
                put(target, number);
                return Ok(read);
            }
            Kind::Seconds(range, put) => {
                let span = super::units::span(text)?;
                let (seconds, read) = clamp(span.as_secs().into(), range);
                let is_inside = matches!(read, Read::Fine);
                put(
                    target,
                    if is_inside {
                        span
                    } else {
                        Duration::from_secs(seconds)
                    },
                );
                return Ok(read);
            }
            Kind::Choice(words, put) => {
                let text = text.trim().to_ascii_lowercase();
                let word = words
                    .iter()
                    .find(|word| **word == text)
                    .ok_or_else(|| format!("must be one of `{}`", words.join("`, `")))?;
                put(target, word);
            }
            Kind::Address(put) => put(target, bucket::address(text.trim())?),
            Kind::Path(put) => put(target, super::units::path(text.trim())?),
            Kind::Text(put) => put(target, text.trim())?,
            Kind::Wish(put) => {
                let taken = put(target, text.trim());
                return Ok(taken.map_or_else(Read::Warned, |()| Read::Fine));
            }
            Kind::Endpoint(put) => put(target, endpoint(text.trim())?),
            Kind::Unused => {}
            Kind::Former if text.trim() == self.default => {}
            Kind::Former => {
                super::units::span(text).map_err(|_| "must be a whole number".to_owned())?;
                let message = "does nothing any more; leave it out".to_owned();
                return Ok(Read::Warned(message));
            }
        }
        Ok(Read::Fine)
    }
}

/// A path, as it is put behind a service's address.
fn endpoint(text: &str) -> Result<&str, String> {
    let is_path = !text.contains("://") && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_path {
        Ok(text)
    } else {
        Err(
            "must be a path such as `/authorize`, which is put behind the service's address"
                .to_owned(),
        )
    }
}

/// A number of things that are counted in memory.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn clamp(number: i128, range: &RangeInclusive<u64>) -> (u64, Read) {
    let (min, max) = (*range.start(), *range.end());
    let clamped = number.clamp(min.into(), max.into());
    let value = u64::try_from(clamped).unwrap_or(max);
    if clamped == number {
        return (value, Read::Fine);
    }
    (
        value,
        Read::Warned(format!("must be from {min} to {max}; {value} is used")),
    )
}
