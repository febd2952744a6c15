//! Reindexing: searches find what is stored, and lost manifests are rebuilt.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    Administration,
    answer::{Answer, Pen},
    work::Turn,
};
use crate::{
    error::RegistryError,
    events::{Event, Events},
    models::{Caller, PackageName},
    registry::{Registry, Reindexed},
};

/// How many packages are looked at at a time.
pub(super) const LOOKS: usize = 8;

/// What reindexing came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reindexing {
    /// How many packages there were before.
    pub before: usize,
    /// How many there are now.
    pub after: usize,
    /// How many manifests were lost, and have been rebuilt.
    pub rebuilt: usize,
    /// How many manifests cannot be read, and were left as they are.
    pub damaged: usize,
    /// Whether searches or manifests are other than before.
    pub has_changed: bool,
}

impl Reindexing {
    fn count(&mut self, done: Reindexed) {
        self.before += usize::from(done.was_there);
        self.after += usize::from(done.is_there);
        self.rebuilt += usize::from(done.is_rebuilt);
        self.damaged += usize::from(done.is_damaged);
        self.has_changed |= done.is_rebuilt || done.has_changed;
    }

    fn answer(self) -> Value {
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
        let reindexer = Reindexer::of(self, caller);
        let work = |pen, turn: Arc<_>| async move { reindexer.run(pen, &turn).await };
        self.answer(&self.reindexing, work).await
    }

    /// The same, for nobody's answer.
    #[tracing::instrument(name = "admin.reindex", skip_all)]
    pub fn reindex_in_background(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.require(caller)?;
        tracing::info!(user.name = caller.display_name(), "reindexing");
        let reindexer = Reindexer::of(self, caller);
        let work = |pen, turn: Arc<_>| async move { reindexer.run(pen, &turn).await };
        self.in_background(&self.reindexing, work)
    }
}

/// Who reindexes what, and whoever is told.
struct Reindexer {
    registry: Arc<Registry>,
    events: Events,
    caller: Caller,
}

impl Reindexer {
    fn of(administration: &Administration, caller: &Caller) -> Self {
        Self {
            registry: Arc::clone(&administration.registry),
            events: administration.events.clone(),
            caller: caller.clone(),
        }
    }

    async fn run(self, mut pen: Pen, turn: &Turn<Reindexing>) -> Result<Reindexing, RegistryError> {
        let counts = reindex(self.registry, &mut pen, turn).await?;
        // Before the end is written, after which the client may be gone.
        let event = Event::Reindexed {
            changed: counts.has_changed,
            packages_before: counts.before,
            packages_after: counts.after,
        };
        self.events.tell(&self.caller, None, &event);
        pen.write(counts.answer().to_string()).await;
        Ok(counts)
    }
}

async fn reindex(
    registry: Arc<Registry>,
    pen: &mut Pen,
    turn: &Turn<Reindexing>,
) -> Result<Reindexing, RegistryError> {
    registry.check_storage().await?;
    pen.write("\n").await;
    let names = pen.during(registry.stored_names()).await?;
    // What searches know and storage does not, they forget.
    let forgotten = registry.indexed_names().into_iter();
    let forgotten: Vec<PackageName> = forgotten.filter(|name| !names.contains(name)).collect();
    turn.expects(names.len().saturating_add(forgotten.len()));
    let mut counts = Reindexing::default();
    let each = stream::iter(names.into_iter().chain(forgotten)).map(|name| {
        let registry = Arc::clone(&registry);
        async move { registry.reindex_package(&name).await }
    });
    let mut each = each.buffer_unordered(LOOKS);
    while let Some(done) = pen.during(each.try_next()).await? {
        counts.count(done);
        turn.looked_at_one(usize::from(done.is_damaged));
    }
    drop(each);
    registry.all_is_reindexed();
    tracing::info!(?counts, "reindexed");
    Ok(counts)
}
