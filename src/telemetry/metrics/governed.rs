//! [`Governed`]: what limits and a company's own services decide, and what becomes of events.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{durations::Durations, outcome::Outcome};

/// The classes of action that limits know, those first that come most often.
const ACTIONS: [&str; 7] = [
    "access",
    "download",
    "other",
    "search",
    "publish",
    "unpublish",
    "admin",
];

/// Labels of what the rate limit and the quota decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    action: &'static str,
    outcome: Outcome,
}

/// Labels of what has only an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
}

/// A service that the registry asks; the label `backend`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// Of accounts.
    Auth,
    /// Of decisions.
    Policy,
    /// Of events.
    Events,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBackend {
    backend: &'static str,
}

impl Backend {
    fn label(self) -> OfBackend {
        let backend = match self {
            Self::Auth => "auth",
            Self::Policy => "policy",
            Self::Events => "events",
        };
        OfBackend { backend }
    }
}

/// Decisions by class of action and outcome. Every request is counted here, so that each counter has its
/// place: there is neither a lock nor a map.
#[derive(Debug)]
pub(super) struct Decisions([[Counter; Outcome::OF_LIMITS.len()]; ACTIONS.len()]);

impl Decisions {
    fn register(
        registry: &mut Registry,
        name: &str,
        help: &str,
        outcomes: &'static [Outcome],
    ) -> Self {
        let family = Family::<Decided, Counter>::default();
        let counters = ACTIONS.map(|action| {
            std::array::from_fn(|number| match outcomes.get(number) {
                Some(&outcome) => family.get_or_create_owned(&Decided { action, outcome }),
                None => Counter::default(),
            })
        });
        registry.register(name, help, family);
        Self(counters)
    }

    /// One more of them.
    pub(super) fn count(&self, action: &str, outcome: Outcome) {
        let action = ACTIONS.iter().position(|known| *known == action);
        let outcome = Outcome::OF_LIMITS.iter().position(|it| *it == outcome);
        let counters = action.and_then(|action| self.0.get(action));
        if let (Some(counters), Some(outcome)) = (counters, outcome)
            && let Some(counter) = counters.get(outcome)
        {
            counter.inc();
        }
    }
}

#[derive(Debug)]
pub(super) struct Governed {
    pub(super) requests: Decisions,
    pub(super) rate_limits: Decisions,
    pub(super) quotas: Decisions,
    pub(super) policy: Family<Ended, Counter>,
    pub(super) auth: Family<Ended, Counter>,
    pub(super) events: Family<Ended, Counter>,
    pub(super) event_queue: Gauge,
    pub(super) notifications: Family<Ended, Counter>,
    pub(super) audit_lines: Family<Ended, Counter>,
    backends: Family<OfBackend, Durations>,
}

impl Governed {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut decided = |name: &str, help: &str, outcomes: &'static [Outcome]| {
            Decisions::register(registry, name, help, outcomes)
        };
        let requests = decided(
            "governance_requests",
            "Requests by class of action, and whether limits let them through",
            &[Outcome::Allowed, Outcome::Rejected],
        );
        let limits = Outcome::OF_LIMITS;
        let rate_limits = decided(
            "rate_limit_decisions",
            "Decisions of the rate limit",
            limits,
        );
        let quotas = decided("quota_decisions", "Decisions of the quota", limits);
        let mut ended = |name: &str, help: &str, outcomes: &[Outcome]| {
            let family = Family::<Ended, Counter>::default();
            for &outcome in outcomes {
                let _ = family.get_or_create_owned(&Ended { outcome });
            }
            registry.register(name, help, family.clone());
            family
        };
        let policy = ended(
            "policy_backend_requests",
            "Decisions of the policy backend, by outcome: one for each package, and one for each question that failed",
            Outcome::OF_BACKENDS,
        );
        let auth = ended(
            "auth_backend_requests",
            "Questions to the HTTP auth backend about credentials, by outcome",
            Outcome::OF_BACKENDS,
        );
        let events = ended("events", "Registry events, by outcome", Outcome::OF_EVENTS);
        let notifications = ended(
            "notifications",
            "Messages of notify hooks, by outcome",
            Outcome::OF_EVENTS,
        );
        let audit_lines = ended(
            "audit_lines",
            "Lines of the audit trail, by outcome",
            &[Outcome::Delivered, Outcome::Dropped],
        );
        let event_queue = Gauge::default();
        registry.register(
            "event_queue_length",
            "Registry events that wait to be sent",
            event_queue.clone(),
        );
        let backends = Family::<OfBackend, Durations>::default();
        for backend in [Backend::Auth, Backend::Policy, Backend::Events] {
            let _ = backends.get_or_create_owned(&backend.label());
        }
        registry.register(
            "backend_request_duration_seconds",
            "How long the services of accounts, decisions and events took to answer",
            backends.clone(),
        );
        Self {
            requests,
            rate_limits,
            quotas,
            policy,
            auth,
            events,
            event_queue,
            notifications,
            audit_lines,
            backends,
        }
    }

    /// How long questions to `backend` took.
    pub(super) fn durations(&self, backend: Backend) -> Durations {
        self.backends.get_or_create_owned(&backend.label())
    }
}
