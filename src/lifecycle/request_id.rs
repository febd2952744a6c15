//! [`RequestId`]: what a request is called, wherever it leads.

use std::sync::Arc;

use super::Errand;

/// What the request is called that a task works for.
///
/// Of many who wait for one answer, that is the first one's; see [`Errand`].
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
        Errand::look(|errand| errand.request.clone())
    }

    /// The text; `None` for work that no request asked for.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Hops, Lifecycle};

    #[tokio::test]
    async fn spawned_work_inherits_it() {
        let lifecycle = Lifecycle::new();
        assert_eq!(RequestId::current().as_str(), None);
        let errand = Errand {
            hops: Hops::default(),
            request: RequestId::new("r-1".into()),
        };
        let spawned = errand.scope(async {
            let task = lifecycle.spawn(async { RequestId::current() });
            task.await.unwrap()
        });
        assert_eq!(spawned.await.as_str(), Some("r-1"));
    }
}
