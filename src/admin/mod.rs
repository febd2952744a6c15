//! Floor 7: use cases of administrators.

mod access;
mod answer;
mod invalidate;
mod organisations;
mod reindex;
mod storage_health;
mod waiting_list;

use std::sync::Arc;

use tokio::sync::Mutex;

pub use answer::Answer;

use crate::{auth::Auth, events::Events, lifecycle::Lifecycle, policy::Admins, registry::Registry};

/// What administrators do. Use cases decide themselves whether the caller may.
#[derive(Debug)]
pub struct Administration {
    admins: Admins,
    auth: Arc<Auth>,
    registry: Arc<Registry>,
    events: Events,
    lifecycle: Lifecycle,
    /// Whoever reindexes has it.
    reindexing: Arc<Mutex<()>>,
    /// Whoever reports on storage has it.
    reporting: Arc<Mutex<()>>,
}

impl Administration {
    /// For these administrators.
    pub fn new(
        admins: Admins,
        auth: Arc<Auth>,
        registry: Arc<Registry>,
        events: Events,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            admins,
            auth,
            registry,
            events,
            lifecycle,
            reindexing: Arc::default(),
            reporting: Arc::default(),
        }
    }
}
