//! Whether manifests and tarballs fit together, by their names alone: `fsck` reads the bytes too.
//!
//! The report is written while storage is walked by name, so that each of its lists is sorted. Only
//! one of them can be sent as it grows; the others wait in memory, and on disk where they are long.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::{
    Administration,
    answer::{Answer, Pen},
    reindex::LOOKS,
    waiting_list::WaitingList,
    work::Turn,
};
use crate::{
    error::RegistryError,
    events::Event,
    models::{Caller, PackageName, TarballName},
    registry::{Registry, StoredManifest, StoredPackage},
};

/// How many names of a kind of problem a [`StorageReport`] has.
const NAMED: usize = 20;

/// The report in short.
#[derive(Clone, Debug, Default)]
pub struct StorageReport {
    /// Packages of which there are tarballs.
    pub packages: usize,
    /// Tarballs.
    pub tarballs: usize,
    /// Manifests.
    pub manifests: usize,
    /// Packages that searches know.
    pub indexed: usize,
    /// What does not fit together, in the order of [`Misfit::ALL`].
    pub misfits: [Misfits; Misfit::ALL.len()],
}

/// How something does not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Tarballs of a package without a manifest.
    TarballsAlone,
    /// A manifest without any tarball.
    ManifestAlone,
    /// A tarball that no version names.
    UnnamedTarball,
    /// A tarball that a version names and that is not there.
    MissingTarball,
    /// A manifest that cannot be read.
    DamagedManifest,
    /// A package that searches know and that is not stored.
    NotStored,
}

impl Misfit {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::TarballsAlone,
        Self::ManifestAlone,
        Self::UnnamedTarball,
        Self::MissingTarball,
        Self::DamagedManifest,
        Self::NotStored,
    ];
}

/// What does not fit together in one way.
#[derive(Clone, Debug, Default)]
pub struct Misfits {
    /// How much.
    pub count: usize,
    /// The first names.
    pub names: Vec<String>,
}

impl StorageReport {
    fn note(&mut self, misfit: Misfit, name: &str) {
        let place = Misfit::ALL.iter().position(|known| *known == misfit);
        if let Some(misfits) = place.and_then(|place| self.misfits.get_mut(place)) {
            misfits.count += 1;
            if misfits.names.len() < NAMED {
                misfits.names.push(name.to_owned());
            }
        }
    }

    fn count_misfits(&self) -> usize {
        self.misfits.iter().map(|misfits| misfits.count).sum()
    }
}

#[derive(Default)]
struct Waiting {
    report: StorageReport,
    without_tarballs: WaitingList,
    unnamed: WaitingList,
    missing: WaitingList,
    damaged: WaitingList,
}

impl Administration {
    /// Reports what does not fit together. One report at a time.
    #[tracing::instrument(name = "admin.storage_health", skip_all)]
    pub async fn storage_health(&self, caller: &Caller) -> Result<Answer, RegistryError> {
        self.require(caller)?;
        tracing::info!(user.name = caller.display_name(), "looking at storage");
        self.events.tell(caller, None, &Event::StorageHealthRead {});
        let registry = Arc::clone(&self.registry);
        let work = |pen, turn: Arc<_>| async move { report(registry, pen, &turn).await };
        self.answer(&self.reporting, work).await
    }

    /// The same in short, for nobody's answer.
    #[tracing::instrument(name = "admin.storage_health", skip_all)]
    pub fn report_in_background(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.require(caller)?;
        let registry = Arc::clone(&self.registry);
        let work = |pen, turn: Arc<_>| async move { report(registry, pen, &turn).await };
        self.in_background(&self.reporting, work)?;
        tracing::info!(user.name = caller.display_name(), "looking at storage");
        self.events.tell(caller, None, &Event::StorageHealthRead {});
        Ok(())
    }
}

async fn report(
    registry: Arc<Registry>,
    mut pen: Pen,
    turn: &Turn<StorageReport>,
) -> Result<StorageReport, RegistryError> {
    registry.check_storage().await?;
    let legacy = registry.count_legacy_names().await?;
    pen.write(r#"{"problems":{"tarballsWithoutSidecar":["#)
        .await;
    // Before the walk: what is published meanwhile is not taken for something that is not stored.
    let mut indexed = registry.indexed_names();
    let names = pen.during(registry.stored_names()).await?;
    turn.expects(names.len());
    let mut waiting = Waiting::default();
    waiting.report.indexed = indexed.len();
    let mut is_first = true;
    let each = stream::iter(names).map(|name| {
        let registry = Arc::clone(&registry);
        async move { registry.stored_package(&name).await }
    });
    // In order, for the lists to be sorted.
    let mut each = each.buffered(LOOKS);
    while let Some(package) = pen.during(each.try_next()).await? {
        if package.manifest == StoredManifest::Absent && package.tarballs > 0 {
            let comma = if is_first { "" } else { "," };
            is_first = false;
            pen.write(format!("{comma}{}", json!(package.name.as_str())))
                .await;
        }
        if package.manifest == StoredManifest::There {
            indexed.remove(&package.name);
        }
        let before = waiting.report.count_misfits();
        waiting.add(&registry, &package, pen.is_read()).await?;
        turn.looked_at_one(waiting.report.count_misfits() - before);
    }
    drop(each);
    pen.write("]").await;
    let mut report = waiting.write(&mut pen).await?;
    write_stale(&registry, indexed, &mut pen, &mut report).await;
    let summary = json!({
        "backendPackages": report.packages,
        "backendTarballs": report.tarballs,
        "sidecarPackages": report.manifests,
        "statePackages": report.indexed,
        "legacyVerdaccioIndexPackages": legacy,
    });
    // At the end, so that nobody takes half of a report for a whole one.
    pen.write(format!("}},\"summary\":{summary},\"ok\":true}}"))
        .await;
    Ok(report)
}

impl StorageReport {
    fn count(&mut self, package: &StoredPackage) {
        self.packages += usize::from(package.tarballs > 0);
        self.tarballs += package.tarballs;
        let is_manifest = matches!(
            package.manifest,
            StoredManifest::There | StoredManifest::Damaged
        );
        self.manifests += usize::from(is_manifest);
    }
}

impl Waiting {
    /// Adds what does not fit together of `package`; to the lists only if somebody reads them.
    async fn add(
        &mut self,
        registry: &Registry,
        package: &StoredPackage,
        is_read: bool,
    ) -> Result<(), RegistryError> {
        self.report.count(package);
        let name = package.name.as_str();
        let mut found: Vec<(Misfit, String)> = Vec::new();
        match package.manifest {
            StoredManifest::Absent if package.tarballs > 0 => {
                // Its list is written already.
                self.report.note(Misfit::TarballsAlone, name);
            }
            StoredManifest::There if package.tarballs == 0 => {
                found.push((Misfit::ManifestAlone, name.to_owned()));
            }
            StoredManifest::Damaged => found.push((Misfit::DamagedManifest, name.to_owned())),
            _ => {}
        }
        let path = |file: &TarballName| format!("{name}/-/{file}");
        let orphans = package.orphans.iter().map(path);
        found.extend(orphans.map(|path| (Misfit::UnnamedTarball, path)));
        let missing = package.missing.iter().map(path);
        found.extend(missing.map(|path| (Misfit::MissingTarball, path)));
        for (misfit, text) in found {
            self.report.note(misfit, &text);
            let list = match misfit {
                Misfit::ManifestAlone => &mut self.without_tarballs,
                Misfit::UnnamedTarball => &mut self.unnamed,
                Misfit::MissingTarball => &mut self.missing,
                Misfit::DamagedManifest => &mut self.damaged,
                Misfit::TarballsAlone | Misfit::NotStored => continue,
            };
            if is_read {
                list.push(registry.temporary(), &text).await?;
            }
        }
        Ok(())
    }

    async fn write(self, pen: &mut Pen) -> Result<StorageReport, RegistryError> {
        for (key, list) in [
            ("sidecarsWithoutTarballs", self.without_tarballs),
            ("tarballsMissingFromManifest", self.unnamed),
            ("manifestAttachmentsMissingBlob", self.missing),
            ("damagedSidecars", self.damaged),
        ] {
            pen.write(format!(",\"{key}\":[")).await;
            list.write(pen).await?;
            pen.write("]").await;
        }
        Ok(self.report)
    }
}

/// What searches know of and is not stored.
async fn write_stale(
    registry: &Registry,
    indexed: BTreeSet<PackageName>,
    pen: &mut Pen,
    report: &mut StorageReport,
) {
    pen.write(",\"staleStatePackages\":[").await;
    let mut comma = "";
    // What was removed meanwhile is known to be gone.
    for name in indexed.iter().filter(|name| registry.is_indexed(name)) {
        pen.write(format!("{comma}{}", json!(name.as_str()))).await;
        comma = ",";
        report.note(Misfit::NotStored, name.as_str());
    }
    pen.write("]").await;
}
