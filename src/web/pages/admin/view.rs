//! What the parts of the overview show.

use std::time::Duration;

use super::{line, moment, size};
use crate::{
    admin::{CacheOverview, How, Misfit, Progress, Reindexing, Running, StorageReport},
    error::RegistryError,
    lifecycle::random_hex,
    registry::Surveyed,
    storage::Amount,
    uplink::Standing,
};

/// How far work is, and how it ended the last time.
pub(super) struct Work<T> {
    pub(super) running: Option<Underway>,
    pub(super) ended: Option<Ended<T>>,
}

pub(super) struct Underway {
    pub(super) since: String,
    pub(super) looked_at: usize,
    pub(super) of: Option<usize>,
    pub(super) problems: usize,
    /// Makes a link to the page lead to it as it is by then.
    pub(super) again: String,
}

pub(super) struct Ended<T> {
    pub(super) at: String,
    pub(super) how: How<T>,
}

impl<T> Work<T> {
    pub(super) fn of<S: Into<T>>(progress: Progress<S>) -> Self {
        let ended = progress.last.map(|last| Ended {
            at: moment(last.at),
            how: match last.how {
                How::Done(done) => How::Done(done.into()),
                How::Failed(why) => How::Failed(why),
                How::GivenUp => How::GivenUp,
            },
        });
        Self {
            running: progress.running.map(Underway::of),
            ended,
        }
    }
}

impl Underway {
    fn of(running: Running) -> Self {
        Self {
            since: moment(running.since),
            looked_at: running.looked_at,
            of: running.of,
            problems: running.problems,
            again: random_hex::<4>(),
        }
    }
}

/// What reindexing came to.
pub(super) struct ReindexView(pub(super) Reindexing);

impl From<Reindexing> for ReindexView {
    fn from(done: Reindexing) -> Self {
        Self(done)
    }
}

/// The report on storage.
pub(super) struct StorageView {
    pub(super) counts: [(&'static str, usize); 4],
    pub(super) misfits: Vec<MisfitsView>,
}

/// What does not fit together in one way.
pub(super) struct MisfitsView {
    /// The key of its words.
    pub(super) title: &'static str,
    pub(super) count: usize,
    pub(super) names: Vec<String>,
    /// How many more there are.
    pub(super) more: usize,
}

impl From<StorageReport> for StorageView {
    fn from(report: StorageReport) -> Self {
        let misfits = Misfit::ALL.into_iter().zip(report.misfits);
        let misfits = misfits.filter(|(_, misfits)| misfits.count > 0);
        let misfits = misfits.map(|(misfit, misfits)| MisfitsView {
            title: title_of(misfit),
            count: misfits.count,
            more: misfits.count.saturating_sub(misfits.names.len()),
            names: misfits.names.iter().map(|name| line(name, 500)).collect(),
        });
        Self {
            counts: [
                ("storage.packages", report.packages),
                ("storage.tarballs", report.tarballs),
                ("storage.manifests", report.manifests),
                ("storage.indexed", report.indexed),
            ],
            misfits: misfits.collect(),
        }
    }
}

fn title_of(misfit: Misfit) -> &'static str {
    match misfit {
        Misfit::TarballsAlone => "misfit.tarballs_alone",
        Misfit::ManifestAlone => "misfit.manifest_alone",
        Misfit::UnnamedTarball => "misfit.unnamed",
        Misfit::MissingTarball => "misfit.missing",
        Misfit::DamagedManifest => "misfit.damaged",
        Misfit::NotStored => "misfit.not_stored",
    }
}

/// An uplink.
pub(super) struct UplinkRow {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) left_alone: usize,
    pub(super) latency: Option<String>,
    pub(super) answered: Option<String>,
    /// When it last failed, and why.
    pub(super) failed: Option<(String, String)>,
}

impl UplinkRow {
    pub(super) fn of(standing: &Standing) -> Self {
        let answered = standing.answered;
        Self {
            name: standing.name.to_string(),
            address: line(&standing.address, 300),
            left_alone: standing.left_alone,
            latency: answered.map(|answered| format!("{} ms", answered.took.as_millis())),
            answered: answered.map(|answered| moment(answered.at)),
            failed: standing
                .failed
                .as_ref()
                .map(|failed| (moment(failed.at), line(&failed.why, 300))),
        }
    }
}

/// How the cache is kept in its bounds.
pub(super) struct Bounds {
    pub(super) folder: String,
    pub(super) max_size: Option<String>,
    pub(super) max_age: Option<String>,
    pub(super) removed: Amounts,
    pub(super) last: Option<String>,
}

impl Bounds {
    pub(super) fn of(cache: &CacheOverview) -> Self {
        let care = &cache.care;
        Self {
            folder: cache.folder.display().to_string(),
            max_size: care.bounds.max_size.map(size),
            max_age: care.bounds.max_age.map(span),
            removed: care.removed.into(),
            last: care.last.map(moment),
        }
    }
}

/// Files and their bytes.
pub(super) struct Amounts {
    pub(super) files: u64,
    pub(super) size: String,
}

impl From<Amount> for Amounts {
    fn from(amount: Amount) -> Self {
        Self {
            files: amount.files,
            size: size(amount.bytes),
        }
    }
}

/// A part of the cache.
pub(super) struct Cache {
    pub(super) is_shared: bool,
    /// `None` while it is counted for the first time.
    pub(super) counted: Result<Option<Counted>, String>,
}

/// What is in a part of the cache.
pub(super) struct Counted {
    pub(super) at: String,
    pub(super) total: Amounts,
    pub(super) documents: Amounts,
    pub(super) tarballs: Amounts,
    pub(super) oldest: Option<String>,
    /// Of each uplink, its documents and tarballs.
    pub(super) uplinks: Vec<(String, Amounts, Amounts)>,
    pub(super) other_tarballs: Amounts,
}

impl Cache {
    /// That of this machine, and that of all nodes.
    pub(super) fn all(cache: CacheOverview) -> Vec<Self> {
        type Found = Result<Option<std::sync::Arc<Surveyed>>, RegistryError>;
        let part = |is_shared, found: Found| Self {
            is_shared,
            counted: found
                .map(|found| found.map(|found| Counted::of(&found)))
                .map_err(|error| error.to_string()),
        };
        let shared = cache.shared.map(|shared| part(true, shared));
        std::iter::once(part(false, cache.local))
            .chain(shared)
            .collect()
    }
}

impl Counted {
    fn of(surveyed: &Surveyed) -> Self {
        let stats = &surveyed.stats;
        let uplinks = stats.uplinks.iter().map(|(name, of)| {
            let name = line(name, 100);
            (name, of.documents.into(), of.tarballs.into())
        });
        Self {
            at: moment(surveyed.at),
            total: stats.total.into(),
            documents: stats.documents.into(),
            tarballs: stats.tarballs.into(),
            oldest: stats.oldest.map(moment),
            uplinks: uplinks.collect(),
            other_tarballs: stats.other_tarballs.into(),
        }
    }
}

/// `30 d`
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let fitting = units
        .into_iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    match fitting {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_their_largest_whole_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (90, "90 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (30 * 86_400, "30 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
