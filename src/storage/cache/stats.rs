//! What is in the cache, and removing parts of it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use serde::Serialize;

use super::{
    Amount, Pruned, UpstreamCache, folder_of,
    tier::{Entry, Folder, Kind, Tier},
};
use crate::{
    models::{PackageName, Timestamp, UplinkName},
    storage::StorageError,
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
    /// Counts what is in the cache: on this machine, then in what is shared.
    pub async fn stats(&self) -> Result<Vec<CacheStats>, StorageError> {
        let mut all = Vec::new();
        for tier in self.tiers() {
            let mut stats = CacheStats::default();
            let mut folders = tier.folders();
            while let Some(folder) = folders.try_next().await? {
                stats.count(&folder.entries);
            }
            all.push(stats);
        }
        Ok(all)
    }

    /// Removes what `selection` means, also from what is shared; what registries that run have in
    /// memory stays there. An uplink's tarballs are those of packages of which no other uplink's
    /// document is there.
    pub async fn clear(&self, selection: Selection) -> Result<Vec<Pruned>, StorageError> {
        let mut all = Vec::new();
        for tier in self.tiers() {
            all.push(clear_tier(tier, &selection).await?);
        }
        Ok(all)
    }
}

async fn clear_tier(tier: &dyn Tier, selection: &Selection) -> Result<Pruned, StorageError> {
    let mut pruned = Pruned::default();
    let uplink = selection.uplink.as_ref().map(UplinkName::as_str);
    let only = selection.package.as_ref().map(folder_of);
    let mut folders = tier.folders();
    while let Some(Folder { name, mut entries }) = folders.try_next().await? {
        let counted = entries.iter().filter(|entry| entry.kind != Kind::Leftover);
        counted.for_each(|entry| pruned.kept.add(entry.length));
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let takes_tarballs = uplink.is_none_or(|uplink| !has_others(&entries, uplink));
        entries.retain(|entry| match &entry.kind {
            Kind::Document(of) => uplink.is_none_or(|uplink| uplink == of),
            Kind::Tarball => takes_tarballs,
            Kind::Leftover => uplink.is_none(),
        });
        if !entries.is_empty() {
            pruned.remove(tier, &name, &entries).await?;
        }
    }
    Ok(pruned)
}

/// Whether the entries of a package do not say that all of them are from `uplink`.
fn has_others(entries: &[Entry], uplink: &str) -> bool {
    sources(entries) != [uplink]
}

/// The uplinks whose documents are among `entries`.
pub(super) fn sources(entries: &[Entry]) -> Vec<&str> {
    let mut sources: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::Document(uplink) => Some(uplink.as_str()),
            Kind::Tarball | Kind::Leftover => None,
        })
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

impl CacheStats {
    /// Counts the entries of one folder.
    pub(super) fn count(&mut self, entries: &[Entry]) {
        let source = match sources(entries).as_slice() {
            [only] => Some((*only).to_owned()),
            _ => None,
        };
        let entries = entries.iter().filter(|entry| entry.kind != Kind::Leftover);
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
                (Kind::Leftover, _) => {}
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
