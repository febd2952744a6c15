//! Floor 7: use cases of administrators.

mod access;
mod answer;
mod invalidate;
mod organisations;
mod overview;
mod reindex;
mod storage_health;
mod waiting_list;
mod work;

use std::sync::Arc;

pub use answer::Answer;
pub use overview::{CacheOverview, Overview, UserSummary, UsersPage};
pub use reindex::Reindexing;
pub use storage_health::{Misfit, Misfits, StorageReport};
use work::Work;
pub use work::{Ended, How, Progress, Running};

use crate::{
    auth::Auth,
    events::Events,
    lifecycle::{Lifecycle, SharedClock},
    policy::Admins,
    registry::Registry,
};

/// What administrators do. Use cases decide themselves whether the caller may.
#[derive(Debug)]
pub struct Administration {
    admins: Admins,
    auth: Arc<Auth>,
    registry: Arc<Registry>,
    events: Events,
    lifecycle: Lifecycle,
    reindexing: Work<Reindexing>,
    reporting: Work<StorageReport>,
}

impl Administration {
    /// For these administrators.
    pub fn new(
        admins: Admins,
        auth: Arc<Auth>,
        registry: Arc<Registry>,
        events: Events,
        lifecycle: Lifecycle,
        clock: SharedClock,
    ) -> Self {
        Self {
            admins,
            auth,
            registry,
            events,
            lifecycle,
            reindexing: Work::new(Arc::clone(&clock)),
            reporting: Work::new(clock),
        }
    }
}
