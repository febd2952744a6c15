//! [`Attempt`]: a request that may change something, and what came of it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::models::Caller;

tokio::task_local! {
    static CURRENT: Attempt;
}

/// What happened, as the trail of audit has it.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// The type of the event.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// The package that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// What is found out about a request while it is worked on: by whom, and what it did.
///
/// It belongs to a task as its span does, and to those that [`carried`] hands it to.
#[derive(Clone, Debug, Default)]
pub struct Attempt(Arc<Mutex<Found>>);

/// What was found out.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Who sent it, once that is known.
    pub caller: Option<Caller>,
    /// The pattern of its route, if there is a route for it.
    pub route: Option<Arc<str>>,
    /// What happened.
    pub facts: Vec<Fact>,
    is_closed: bool,
}

impl Attempt {
    /// One whose route has this pattern, if there is a route for it.
    pub fn by(route: Option<Arc<str>>) -> Self {
        let found = Found {
            route,
            ..Found::default()
        };
        Self(Arc::new(Mutex::new(found)))
    }

    /// That of the present task.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// `work` on this request.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), work)
    }

    /// Who sent it.
    pub fn note_caller(&self, caller: &Caller) {
        self.0.lock().caller = Some(caller.clone());
    }

    /// What was found out, once the request is answered. What happens later is not of it any more.
    pub fn close(&self) -> Found {
        let mut found = self.0.lock();
        let found_out = std::mem::take(&mut *found);
        found.is_closed = true;
        found.route.clone_from(&found_out.route);
        found_out
    }

    /// What was found out so far.
    pub fn so_far(&self) -> Found {
        self.0.lock().clone()
    }

    pub(super) fn route(&self) -> Option<Arc<str>> {
        self.0.lock().route.clone()
    }

    /// The fact is given back where the request is answered already.
    pub(super) fn note(&self, fact: Fact) -> Option<Fact> {
        let mut found = self.0.lock();
        if found.is_closed {
            return Some(fact);
        }
        found.facts.push(fact);
        None
    }
}

/// `work` for a task of its own, about the same request.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let attempt = Attempt::current();
    async move {
        match attempt {
            Some(attempt) => CURRENT.scope(attempt, work).await,
            None => work.await,
        }
    }
}
