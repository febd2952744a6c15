//! [`Errand`]: for whom a task works.

use super::{Hops, RequestId};

tokio::task_local! {
    static CURRENT: Errand;
}

/// The request that a task works for: what it came through, and what it is called.
///
/// It belongs to a task as its span does: what it spawns through [`super::Lifecycle::spawn`]
/// inherits it, and what is asked upstream on its behalf is told.
#[derive(Clone, Debug, Default)]
pub struct Errand {
    /// The registries that it came through.
    pub hops: Hops,
    /// What it is called.
    pub request: RequestId,
}

impl Errand {
    /// That of the present task.
    pub fn current() -> Self {
        Self::look(Clone::clone)
    }

    /// What `look` sees in that of the present task; the default for work that no request asked
    /// for.
    pub(super) fn look<T: Default>(look: impl FnOnce(&Self) -> T) -> T {
        CURRENT.try_with(look).unwrap_or_default()
    }

    /// `task` on behalf of this request.
    pub fn scope<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, task)
    }
}
