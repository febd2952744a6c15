//! `rustaccio cache`.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Subcommand;
use serde::Serialize;

use super::{
    output::{Format, end},
    table::Table,
    work,
};
use crate::{
    config::{Config, parse_size, parse_span},
    error::RegistryError,
    models::{PackageName, UplinkName},
    runtime::{open_cache, recorded},
    storage::{Amount, CacheBounds, CacheStats, Pruned, Selection, UpstreamCache},
};

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Count what is in the cache
    Stats {
        #[command(flatten)]
        format: Format,
    },
    /// Remove what was used longest ago, as the settings of the cache say
    Prune {
        /// Remove until no more than this is left, such as 20gb
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        max_size: Option<u64>,
        /// Remove what nobody has used for so long, such as 30d
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        max_age: Option<Duration>,
        #[command(flatten)]
        format: Format,
    },
    /// Remove all of the cache, or what is of one uplink or package
    Clear {
        /// Only what came from this uplink
        #[arg(long, value_name = "NAME")]
        uplink: Option<UplinkName>,
        /// Only what is of this package
        #[arg(long, value_name = "NAME")]
        package: Option<PackageName>,
        #[command(flatten)]
        format: Format,
    },
}

pub(super) fn run(command: &CacheCommand, settings: &Config, out: &mut impl Write) -> ExitCode {
    let done = run_command(command, settings);
    end(
        "cache",
        done.map(|text| out.write_all(text.as_bytes()).map(|()| true)),
    )
}

fn run_command(command: &CacheCommand, settings: &Config) -> Result<String, RegistryError> {
    work::run_and_say("looking through the cache", async {
        let cache = open_cache(settings).await?;
        match command {
            CacheCommand::Stats { format } => {
                let stats = cache.stats().await?;
                show(*format, &stats, |stats, is_shared| {
                    describe_stats(&cache, stats, is_shared)
                })
            }
            CacheCommand::Prune {
                max_size,
                max_age,
                format,
            } => {
                let bounds = CacheBounds {
                    max_size: max_size.or(settings.storage.cache.max_size),
                    max_age: max_age.or(settings.storage.cache.max_age),
                };
                if bounds.are_none() {
                    return Err(RegistryError::Settings {
                        message: "the cache has no bounds; give --max-size or --max-age, or set \
                                  RUSTACCIO_CACHE_MAX_SIZE or RUSTACCIO_CACHE_MAX_AGE"
                            .to_owned(),
                    });
                }
                let pruned = cache.prune(bounds).await?;
                show(*format, &pruned, describe_pruned)
            }
            CacheCommand::Clear {
                uplink,
                package,
                format,
            } => {
                let selection = Selection {
                    uplink: uplink.clone(),
                    package: package.clone(),
                };
                let pruned = recorded(settings, "cache.clear", async |_| {
                    Ok(cache.clear(selection).await?)
                })
                .await?;
                show(*format, &pruned, describe_pruned)
            }
        }
    })
}

/// What came of the folder of this machine, and of what all nodes share.
#[derive(Serialize)]
struct Both<'a, T> {
    #[serde(flatten)]
    local: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<&'a T>,
}

/// `tiers` has the folder of this machine first.
fn show<T: Serialize>(
    format: Format,
    tiers: &[T],
    text: impl Fn(&T, bool) -> String,
) -> Result<String, RegistryError> {
    let mut rest = tiers.iter();
    let Some(local) = rest.next() else {
        return Ok(String::new());
    };
    let shared = rest.next();
    let people = text(local, false) + &shared.map(|shared| text(shared, true)).unwrap_or_default();
    let mut written = Vec::new();
    format
        .write(&Both { local, shared }, people, &mut written)
        .map_err(RegistryError::internal)?;
    String::from_utf8(written).map_err(RegistryError::internal)
}

fn describe_stats(cache: &UpstreamCache, stats: &CacheStats, is_shared: bool) -> String {
    let place = if is_shared {
        "the bucket, shared by all nodes".to_owned()
    } else {
        cache.folder().display().to_string()
    };
    let mut table = Table::new(["FROM", "DOCUMENTS", "TARBALLS"]);
    for (uplink, of) in &stats.uplinks {
        let of = (of.documents, of.tarballs);
        table.row([uplink.clone(), describe(of.0), describe(of.1)]);
    }
    if stats.other_tarballs.files > 0 {
        let others = describe(stats.other_tarballs);
        table.row(["no single uplink".to_owned(), String::new(), others]);
    }
    let (documents, tarballs) = (describe(stats.documents), describe(stats.tarballs));
    table.row(["all".to_owned(), documents, tarballs]);
    let oldest = stats
        .oldest
        .map(|oldest| format!(", the oldest last used {oldest}"));
    format!(
        "{place}: {}{}\n{table}",
        describe(stats.total),
        oldest.unwrap_or_default()
    )
}

fn describe_pruned(pruned: &Pruned, is_shared: bool) -> String {
    let (removed, kept) = (describe(pruned.removed), describe(pruned.kept));
    let place = if is_shared { " in the bucket" } else { "" };
    format!("removed {removed}{place}\nleft    {kept}{place}\n")
}

fn describe(amount: Amount) -> String {
    let files = if amount.files == 1 { "file" } else { "files" };
    format!("{} {files}, {}", amount.files, bytes(amount.bytes))
}

/// In the largest unit that leaves one digit before the point, with one behind it.
fn bytes(count: u64) -> String {
    let units = [("gb", 1_u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)];
    match units.into_iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(count) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (count, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 kb"),
            (1_600_000, "1.5 mb"),
            (u64::MAX, "17179869183.9 gb"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
