//! [`Survey`]: what one look at all of a tier has found.

use std::cmp::Reverse;

use futures_util::TryStreamExt as _;

use super::{
    CacheStats, UpstreamCache,
    stats::sources,
    tier::{Folder, Kind, PACKAGES, Tier},
};
use crate::{
    models::{PackageName, Timestamp, UplinkName},
    storage::{StorageError, layout::package_of},
};

/// A package of which there is a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedPackage {
    /// Its name.
    pub name: PackageName,
    /// The uplink that its document came from.
    pub uplink: UplinkName,
    /// When something of it was last used, as far as that was noted.
    pub used: Timestamp,
    /// How many of its tarballs there are.
    pub tarballs: u32,
}

/// What is in a tier.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// How much.
    pub stats: CacheStats,
    /// The packages that were used last, the last one first; as many as were asked for.
    pub packages: Vec<CachedPackage>,
    /// How many others there are.
    pub others: usize,
}

impl UpstreamCache {
    /// Whether nodes share another tier.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Looks at all that is on this machine. `choose` says which of the uplinks counts that there are
    /// documents of a package from, if any does. At most twice `most` packages are in memory.
    pub async fn survey(
        &self,
        most: usize,
        choose: impl Fn(&PackageName, &[&str]) -> Option<UplinkName> + Send,
    ) -> Result<Survey, StorageError> {
        let mut survey = Survey::default();
        let mut folders = self.local.folders();
        while let Some(folder) = folders.try_next().await? {
            survey.stats.count(&folder.entries);
            if let Some(package) = cached_package(&folder, &choose) {
                survey.packages.push(package);
            }
            if survey.packages.len() >= most.saturating_mul(2).max(1) {
                survey.keep_newest(most);
            }
        }
        survey.keep_newest(most);
        survey.packages.sort_unstable_by(CachedPackage::order);
        Ok(survey)
    }

    /// Looks at all that nodes share; `None` where they share nothing.
    pub async fn survey_shared(&self) -> Result<Option<CacheStats>, StorageError> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let mut stats = CacheStats::default();
        let mut folders = shared.tier().folders();
        while let Some(folder) = folders.try_next().await? {
            stats.count(&folder.entries);
        }
        Ok(Some(stats))
    }

    /// When upstream last said that what is on this machine is the document of `name`; `None` where
    /// there is none any more.
    pub async fn fetched_at(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<Option<Timestamp>, StorageError> {
        let place = super::Place::packument(name, uplink);
        let known = self.local.freshness(&place).await?;
        Ok(known.map(|(_, freshness)| freshness.fetched_at))
    }
}

impl CachedPackage {
    /// What was used last comes first.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let key = |package: &Self| Reverse(package.used);
        key(self)
            .cmp(&key(other))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl Survey {
    fn keep_newest(&mut self, most: usize) {
        let beyond = self.packages.len().saturating_sub(most);
        if beyond == 0 {
            return;
        }
        self.packages
            .select_nth_unstable_by(most, CachedPackage::order);
        self.packages.truncate(most);
        self.others = self.others.saturating_add(beyond);
    }
}

fn cached_package(
    folder: &Folder,
    choose: impl Fn(&PackageName, &[&str]) -> Option<UplinkName>,
) -> Option<CachedPackage> {
    let (area, name) = folder.name.split_once('/')?;
    let name = (area == PACKAGES).then(|| package_of(name)).flatten()?;
    let sources = sources(&folder.entries);
    if sources.is_empty() {
        return None;
    }
    let uplink = choose(&name, &sources)?;
    let tarballs = folder.entries.iter();
    let tarballs = tarballs.filter(|entry| entry.kind == Kind::Tarball).count();
    let entries = folder.entries.iter();
    let entries = entries.filter(|entry| entry.kind != Kind::Leftover);
    Some(CachedPackage {
        name,
        uplink,
        used: entries.map(|entry| entry.used).max()?,
        tarballs: u32::try_from(tarballs).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn package(number: u16) -> CachedPackage {
        CachedPackage {
            name: format!("p{number}").parse().unwrap(),
            uplink: "up".parse().unwrap(),
            used: Timestamp::from_unix_millis(i64::from(number % 100)),
            tarballs: 0,
        }
    }

    #[test]
    fn only_so_many_are_kept_and_they_are_the_newest() {
        let mut survey = Survey::default();
        for number in 0..1000 {
            survey.packages.push(package(number));
            if survey.packages.len() >= 20 {
                survey.keep_newest(10);
            }
        }
        survey.keep_newest(10);
        assert_eq!((survey.packages.len(), survey.others), (10, 990));
        assert!(survey.packages.iter().all(|it| it.used.unix_millis() == 99));
        survey.packages.sort_unstable_by(CachedPackage::order);
        let names: Vec<&str> = survey.packages.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names[..3], ["p199", "p299", "p399"]);
    }

    #[tokio::test]
    async fn a_package_has_the_uplink_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let cache = UpstreamCache::open(folder.path().join("cache")).unwrap();
        let place = |name: &str| folder.path().join("cache/packages").join(name);
        for (name, files) in [
            ("@s__both", &["one.json", "two.json", "sha1-00.tgz"][..]),
            ("alone", &["two.json"]),
            ("tarballs", &["sha1-00.tgz"]),
            ("nobodys", &["three.json"]),
            ("@no name", &["one.json"]),
        ] {
            std::fs::create_dir_all(place(name)).unwrap();
            for file in files {
                let mut file = std::fs::File::create(place(name).join(file)).unwrap();
                file.write_all(b"four").unwrap();
            }
        }
        let wanted = |_: &PackageName, sources: &[&str]| {
            let mut order = ["two", "one"].into_iter();
            order.find(|uplink| sources.contains(uplink))?.parse().ok()
        };
        let survey = cache.survey(100, wanted).await.unwrap();
        let mut found: Vec<(&str, &str, u32)> = survey
            .packages
            .iter()
            .map(|it| (it.name.as_str(), it.uplink.as_str(), it.tarballs))
            .collect();
        found.sort_unstable();
        assert_eq!(found, [("@s/both", "two", 1), ("alone", "two", 0)]);
        assert_eq!(
            (survey.stats.total.files, survey.stats.total.bytes),
            (7, 28)
        );
        assert_eq!(survey.others, 0);
        assert_eq!(cache.survey_shared().await.unwrap(), None);
    }
}
