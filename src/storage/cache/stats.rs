//! What is in the cache, and removing parts of it.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use serde::Serialize;

use super::{
    Amount, Pruned, UpstreamCache,
    walk::{Entry, Kind, each_folder, remove_if_empty},
};
use crate::{
    models::{PackageName, Timestamp, UplinkName},
    storage::{StorageError, fs::blocking, layout::folder_name},
};

/// What is in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheStats {
    /// Everything.
    pub total: Amount,
    /// Documents: packuments, keys, attestations.
    pub documents: Amount,
    /// Tarballs.
    pub tarballs: Amount,
    /// When the entry was last used that nobody has used for longest.
    pub oldest: Option<Timestamp>,
    /// By uplink.
    pub uplinks: BTreeMap<String, UplinkStats>,
    /// Tarballs of packages of which there is no document, or documents of several uplinks.
    pub other_tarballs: Amount,
}

/// What came from one uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UplinkStats {
    /// Its documents.
    pub documents: Amount,
    /// The tarballs of packages of which only this uplink's document is there.
    pub tarballs: Amount,
}

/// Which part of the cache is meant; without any condition, all of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What came from this uplink.
    pub uplink: Option<UplinkName>,
    /// What is of this package.
    pub package: Option<PackageName>,
}

impl UpstreamCache {
    /// Counts what is in the cache.
    pub async fn stats(&self) -> Result<CacheStats, StorageError> {
        let cache = self.clone();
        blocking(move || {
            let mut stats = CacheStats::default();
            each_folder(&cache, |_, entries| {
                stats.count(&entries);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(stats)
        })
        .await
    }

    /// Removes what `selection` means; what a registry that runs has in memory stays there. An
    /// uplink's tarballs are those of packages of which no other uplink's document is there.
    pub async fn clear(&self, selection: Selection) -> Result<Pruned, StorageError> {
        let cache = self.clone();
        blocking(move || {
            let mut pruned = Pruned::default();
            let uplink = selection.uplink.as_ref().map(UplinkName::as_str);
            let only = selection.package.as_ref().map(folder_name);
            each_folder(&cache, |folder, entries| {
                let is_meant = only
                    .as_deref()
                    .is_none_or(|only| cache.is_package(folder, only));
                let takes_tarballs = uplink.is_none_or(|uplink| !has_others(&entries, uplink));
                let mut is_changed = false;
                for entry in entries {
                    pruned.kept.add(entry.length);
                    let is_theirs = match &entry.kind {
                        Kind::Document(of) => uplink.is_none_or(|uplink| uplink == of),
                        Kind::Tarball => takes_tarballs,
                    };
                    if is_meant && is_theirs {
                        pruned.remove(&entry)?;
                        is_changed = true;
                    }
                }
                if is_changed {
                    remove_if_empty(folder);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(pruned)
        })
        .await
    }

    fn is_package(&self, folder: &Path, name: &str) -> bool {
        folder == self.root.join(super::PACKAGES).join(name)
    }
}

/// Whether the entries of a package do not say that all of them are from `uplink`.
fn has_others(entries: &[Entry], uplink: &str) -> bool {
    sources(entries) != [uplink]
}

/// The uplinks whose documents are among `entries`.
fn sources(entries: &[Entry]) -> Vec<&str> {
    let mut sources: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::Document(uplink) => Some(uplink.as_str()),
            Kind::Tarball => None,
        })
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

impl CacheStats {
    /// Counts the entries of one folder.
    fn count(&mut self, entries: &[Entry]) {
        let source = match sources(entries).as_slice() {
            [only] => Some((*only).to_owned()),
            _ => None,
        };
        for entry in entries {
            let oldest = self
                .oldest
                .map_or(entry.used, |oldest| oldest.min(entry.used));
            self.oldest = Some(oldest);
            self.total.add(entry.length);
            match (&entry.kind, &source) {
                (Kind::Document(uplink), _) => {
                    self.documents.add(entry.length);
                    let uplink = self.uplinks.entry(uplink.clone()).or_default();
                    uplink.documents.add(entry.length);
                }
                (Kind::Tarball, source) => {
                    self.tarballs.add(entry.length);
                    let amount = match source {
                        Some(uplink) => {
                            &mut self.uplinks.entry(uplink.clone()).or_default().tarballs
                        }
                        None => &mut self.other_tarballs,
                    };
                    amount.add(entry.length);
                }
            }
        }
    }
}
