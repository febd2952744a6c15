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
};
use crate::{
    error::RegistryError,
    events::Event,
    models::{Caller, PackageName, TarballName},
    registry::{Registry, StoredManifest, StoredPackage},
};

#[derive(Default)]
struct Counts {
    packages: usize,
    tarballs: usize,
    manifests: usize,
}

#[derive(Default)]
struct Waiting {
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
        self.answer(&self.reporting, |pen| report(registry, pen))
            .await
    }
}

async fn report(registry: Arc<Registry>, mut pen: Pen) -> Result<(), RegistryError> {
    registry.check_storage().await?;
    let legacy = registry.count_legacy_names().await?;
    pen.write(r#"{"problems":{"tarballsWithoutSidecar":["#)
        .await;
    // Before the walk: what is published meanwhile is not taken for something that is not stored.
    let mut indexed = registry.indexed_names();
    let state = indexed.len();
    let names = pen.during(registry.stored_names()).await?;
    let (mut counts, mut waiting) = (Counts::default(), Waiting::default());
    let mut is_first = true;
    let each = stream::iter(names).map(|name| {
        let registry = Arc::clone(&registry);
        async move { registry.stored_package(&name).await }
    });
    // In order, for the lists to be sorted.
    let mut each = each.buffered(LOOKS);
    while let Some(package) = pen.during(each.try_next()).await? {
        counts.count(&package);
        if package.manifest == StoredManifest::Absent && package.tarballs > 0 {
            let comma = if is_first { "" } else { "," };
            is_first = false;
            pen.write(format!("{comma}{}", json!(package.name.as_str())))
                .await;
        }
        if package.manifest == StoredManifest::There {
            indexed.remove(&package.name);
        }
        waiting.add(&registry, &package).await?;
    }
    drop(each);
    pen.write("]").await;
    waiting.write(&mut pen).await?;
    write_stale(&registry, indexed, &mut pen).await;
    let summary = json!({
        "backendPackages": counts.packages,
        "backendTarballs": counts.tarballs,
        "sidecarPackages": counts.manifests,
        "statePackages": state,
        "legacyVerdaccioIndexPackages": legacy,
    });
    // At the end, so that nobody takes half of a report for a whole one.
    pen.write(format!("}},\"summary\":{summary},\"ok\":true}}"))
        .await;
    Ok(())
}

impl Counts {
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
    async fn add(
        &mut self,
        registry: &Registry,
        package: &StoredPackage,
    ) -> Result<(), RegistryError> {
        let folder = registry.temporary();
        let name = package.name.as_str();
        let path = |file: &TarballName| format!("{name}/-/{file}");
        match package.manifest {
            StoredManifest::There if package.tarballs == 0 => {
                self.without_tarballs.push(folder, name).await?;
            }
            StoredManifest::Damaged => self.damaged.push(folder, name).await?,
            _ => {}
        }
        for file in &package.orphans {
            self.unnamed.push(folder, &path(file)).await?;
        }
        for file in &package.missing {
            self.missing.push(folder, &path(file)).await?;
        }
        Ok(())
    }

    async fn write(self, pen: &mut Pen) -> Result<(), RegistryError> {
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
        Ok(())
    }
}

/// What searches know of and is not stored.
async fn write_stale(registry: &Registry, indexed: BTreeSet<PackageName>, pen: &mut Pen) {
    pen.write(",\"staleStatePackages\":[").await;
    let mut comma = "";
    // What was removed meanwhile is known to be gone.
    for name in indexed.iter().filter(|name| registry.is_indexed(name)) {
        pen.write(format!("{comma}{}", json!(name.as_str()))).await;
        comma = ",";
    }
    pen.write("]").await;
}
