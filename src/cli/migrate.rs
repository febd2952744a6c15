//! `rustaccio migrate`.

use std::{fmt, io::Write, process::ExitCode};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    conclusion::{Conclusion, conclude},
    output::Format,
    progress::Bar,
    work,
};
use crate::{
    config::Config,
    runtime::{self, Accepted, Migrated, Route, recorded},
    storage::Moved,
};

/// What is to be moved.
#[derive(Debug, Args)]
pub(super) struct MigrateCommand {
    /// Which way
    way: Way,
    /// Replace what is another in the target; without it, that is reported and left as it is
    #[arg(long)]
    overwrite: bool,
    /// Take tokens that only the source has, though they may have been revoked in the target
    #[arg(long)]
    with_tokens: bool,
    #[command(flatten)]
    format: Format,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// Manifests, accounts and keys of the data folder or the bucket into Postgres
    ToPostgres,
    /// From Postgres into the data folder or the bucket
    FromPostgres,
    /// All of the data folder into the bucket, tarballs too
    ToBucket,
    /// All of the bucket into the data folder
    FromBucket,
}

/// What was moved, now or before.
#[derive(Serialize)]
#[serde(untagged)]
enum Done {
    Now(Moved),
    Before { before: String },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(moved) => moved.fmt(f),
            Self::Before { before } => f.write_str(before),
        }
    }
}

/// Ends with 0 where the target has everything, else with 1.
pub(super) fn run(command: &MigrateCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let accepted = Accepted {
        overwrite: command.overwrite,
        with_tokens: command.with_tokens,
        incomplete: false,
    };
    let route = match command.way {
        Way::ToPostgres => Route::ToPostgres,
        Way::FromPostgres => Route::FromPostgres,
        Way::ToBucket => Route::ToBucket,
        Way::FromBucket => Route::FromBucket,
    };
    let done = work::run_with_bar("packages", async |bar| {
        let watch = |moved: &Moved| show(bar, moved);
        recorded(settings, "migrate", async |_| {
            runtime::migrate(settings, route, accepted, &watch).await
        })
        .await
    });
    let done = done.map(|done| match done {
        Migrated::Now(moved) => Done::Now(moved),
        Migrated::Before(before) => Done::Before { before },
    });
    let conclusion = |done: &Done| match done {
        Done::Now(moved) => Conclusion {
            is_well: moved.is_complete(),
            text: conclusion(command.way, moved),
        },
        Done::Before { .. } => Conclusion {
            is_well: true,
            text: "",
        },
    };
    conclude("migrate", done, command.format, conclusion, out)
}

/// Says how far it is.
pub(super) fn show(bar: &Bar, moved: &Moved) {
    let tarballs = moved.tarballs.moved + moved.tarballs.same;
    let packages = moved.packages.moved + moved.packages.same;
    bar.show_so_far(packages, &format!("{tarballs} tarballs, "));
}

/// What is said where something was left as it is in the target.
pub(super) const OTHER_TARGET: &str = "the target is not what the source is; look at what was left as it is, and run this \
     with --overwrite to replace it, or with --with-tokens to take tokens too that it alone has";

/// What is said where not all was moved, and nothing was left as it is in the target.
pub(super) fn not_all(moved: &Moved) -> Option<&'static str> {
    if moved.has_moved_all() {
        return Some(
            "the target has all that the source has, which lacks the tarballs that are named above; \
             `rustaccio fsck` tells more of them",
        );
    }
    moved.conflicts.is_empty().then_some(
        "the target does not have all that the source has; put right what failed, and run this again",
    )
}

fn conclusion(way: Way, moved: &Moved) -> &'static str {
    if !moved.is_complete() {
        return not_all(moved).unwrap_or(OTHER_TARGET);
    }
    match way {
        Way::ToPostgres => {
            "everything is in Postgres and was read back; the source is as it was. Start with \
             RUSTACCIO_METADATA_BACKEND=transactional"
        }
        Way::FromPostgres => {
            "everything has come from Postgres and was read back; the database is as it was. Start \
             without RUSTACCIO_METADATA_BACKEND"
        }
        Way::ToBucket => {
            "everything is in the bucket and was read back; the data folder is as it was"
        }
        Way::FromBucket => {
            "everything is in the data folder and was read back; the bucket is as it was. Start \
             without RUSTACCIO_TARBALL_BACKEND"
        }
    }
}
