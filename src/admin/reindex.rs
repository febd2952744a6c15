//! Reindexing: searches find what is stored, and lost manifests are rebuilt.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    Administration,
    answer::{Answer, Pen},
};
use crate::{
    error::RegistryError,
    events::Event,
    models::{Caller, PackageName},
    registry::{Registry, Reindexed},
};

/// How many packages are looked at at a time.
pub(super) const LOOKS: usize = 8;

#[derive(Debug, Default)]
struct Counts {
    before: usize,
    after: usize,
    rebuilt: usize,
    has_changed: bool,
}

impl Counts {
    fn count(&mut self, done: Reindexed) {
        self.before += usize::from(done.was_there);
        self.after += usize::from(done.is_there);
        self.rebuilt += usize::from(done.is_rebuilt);
        self.has_changed |= done.is_rebuilt || done.has_changed;
    }

    fn answer(&self) -> Value {
        json!({
            "ok": true,
            "changed": self.has_changed,
            "packagesBefore": self.before,
            "packagesAfter": self.after,
            "sidecarsSynced": self.rebuilt,
        })
    }
}

impl Administration {
    /// Looks at all that is stored, as [`Registry::reindex_package`] does. One at a time.
    #[tracing::instrument(name = "admin.reindex", skip_all)]
    pub async fn reindex(&self, caller: &Caller) -> Result<Answer, RegistryError> {
        self.require(caller)?;
        tracing::info!(user.name = caller.display_name(), "reindexing");
        let (registry, events) = (Arc::clone(&self.registry), self.events.clone());
        let caller = caller.clone();
        self.answer(&self.reindexing, |mut pen| async move {
            let counts = reindex(registry, &mut pen).await?;
            // Before the end is written, after which the client may be gone.
            let event = Event::Reindexed {
                changed: counts.has_changed,
                packages_before: counts.before,
                packages_after: counts.after,
            };
            events.tell(&caller, None, &event);
            pen.write(counts.answer().to_string()).await;
            Ok(())
        })
        .await
    }
}

async fn reindex(registry: Arc<Registry>, pen: &mut Pen) -> Result<Counts, RegistryError> {
    registry.check_storage().await?;
    pen.write("\n").await;
    let names = pen.during(registry.stored_names()).await?;
    // What searches know and storage does not, they forget.
    let forgotten = registry.indexed_names().into_iter();
    let forgotten: Vec<PackageName> = forgotten.filter(|name| !names.contains(name)).collect();
    let mut counts = Counts::default();
    let each = stream::iter(names.into_iter().chain(forgotten)).map(|name| {
        let registry = Arc::clone(&registry);
        async move { registry.reindex_package(&name).await }
    });
    let mut each = each.buffer_unordered(LOOKS);
    while let Some(done) = pen.during(each.try_next()).await? {
        counts.count(done);
    }
    drop(each);
    registry.all_is_reindexed();
    tracing::info!(?counts, "reindexed");
    Ok(counts)
}
