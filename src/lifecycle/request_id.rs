//! [`RequestId`]: what a request is called, wherever it leads.

use std::sync::Arc;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// What the request is called that a task works for.
///
/// It belongs to a task as its span does: what it spawns through [`super::Lifecycle::spawn`]
/// inherits it, and what is asked upstream on its behalf is told. Of many who wait for one answer,
/// that is the first one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestId(Option<Arc<str>>);

impl RequestId {
    /// The header that carries it.
    pub const HEADER: &str = "x-request-id";

    /// Of a request that is called this.
    pub fn new(id: Arc<str>) -> Self {
        Self(Some(id))
    }

    /// That of the present task.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// The text; `None` for work that no request asked for.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// `task` on behalf of this request.
    pub fn scope<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Lifecycle;

    #[tokio::test]
    async fn spawned_work_inherits_it() {
        let lifecycle = Lifecycle::new();
        assert_eq!(RequestId::current().as_str(), None);
        let spawned = RequestId::new("r-1".into()).scope(async {
            let task = lifecycle.spawn(async { RequestId::current() });
            task.await.unwrap()
        });
        assert_eq!(spawned.await.as_str(), Some("r-1"));
    }
}
