//! `rustaccio fsck`.

use std::{io::Write, process::ExitCode, sync::Arc};

use clap::Args;
use serde::Serialize;

use super::{
    output::{Format, end, fail, say},
    work,
};
use crate::{
    config::Config,
    error::{RegistryError, explain},
    lifecycle::{SharedClock, SystemClock},
    registry::fsck::{Damage, FsckReport, check},
    runtime::{Backends, recorded},
};

/// What is to be checked.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct FsckCommand {
    /// Put right what can be; nothing that was published is deleted
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    format: Format,
}

/// What was found, as programs read it.
#[derive(Serialize)]
struct Found<'a> {
    /// Whether nothing is wrong any more.
    ok: bool,
    packages: usize,
    tarballs: usize,
    problems: Vec<Problem<'a>>,
    repaired: usize,
    /// Why it did not come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Problem<'a> {
    kind: &'static str,
    package: Option<&'a str>,
    message: String,
}

impl<'a> Problem<'a> {
    fn of(damage: &'a Damage) -> Self {
        Self {
            kind: damage.kind(),
            package: damage.package().map(crate::models::PackageName::as_str),
            message: damage.to_string(),
        }
    }
}

/// Ends with 0 where nothing is wrong any more, else with 1.
pub(super) fn run(command: FsckCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    match run_check(settings, command.repair) {
        Ok(checked) => show(command.format, &checked, out),
        Err(error) => fail("fsck", &error),
    }
}

fn show(format: Format, (report, done): &Checked, out: &mut impl Write) -> ExitCode {
    let error = done.as_ref().err().map(|error| explain(error));
    let is_well = error.is_none() && report.is_clean();
    let found = Found {
        ok: is_well,
        packages: report.packages,
        tarballs: report.tarballs,
        problems: report.damages.iter().map(Problem::of).collect(),
        repaired: report.repaired,
        error: error.clone(),
    };
    let text = match &error {
        None => format!("{report}\n"),
        // It is no whole report.
        Some(_) => {
            let lines = report.damages.iter().map(ToString::to_string);
            let lines: Vec<String> = lines.chain([String::new()]).collect();
            lines.join("\n")
        }
    };
    let written = format.write(&found, text, out);
    if let Some(error) = error {
        say(format_args!(
            "rustaccio fsck: it did not come to its end: {error}"
        ));
    }
    end("fsck", Ok(written.map(|()| is_well)))
}

/// What is said where nothing keeps a repair apart from registries that write.
const UNSAFE_REPAIR: &str = "the store of the bucket ignores If-None-Match or If-Match, so that --repair could undo what \
    registries write meanwhile; leave --repair away to look only, or use a store with conditional writes";

type Checked = (FsckReport, Result<(), RegistryError>);

fn run_check(settings: &Config, repair: bool) -> Result<Checked, RegistryError> {
    work::run_with_bar("packages", async |bar| {
        let watch = |report: &FsckReport, all: usize| {
            let found = report.damages.len();
            let more = format!("{} tarballs, {found} problems, ", report.tarballs);
            bar.show(report.packages, all, &more);
        };
        let checked = async || {
            // It changes nothing but by compare-and-swap, so that others may go on serving the bucket.
            let backends = Backends::open(settings).await?;
            // A look takes no lease, and needs none.
            let store = match backends.open_store(settings, !repair).await {
                Err(RegistryError::Settings { .. }) if repair => {
                    return Err(RegistryError::Settings {
                        message: UNSAFE_REPAIR.to_owned(),
                    });
                }
                opened => opened?,
            };
            let clock: SharedClock = Arc::new(SystemClock);
            Ok(check(&store, repair, &clock, &watch).await)
        };
        if repair {
            recorded(settings, "fsck.repair", async |_| checked().await).await
        } else {
            checked().await
        }
    })
}
