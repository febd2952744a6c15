//! [`Metrics`]: what is counted, in Prometheus' form.
//!
//! Each server has its own: two may live in one process. One that nobody reads counts nothing.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// How something ended that may end in several ways; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Let through.
    Allowed,
    /// Refused.
    Rejected,
    /// Nobody could decide, and the settings say to go on.
    FailedOpen,
    /// Nobody could decide, and the settings say to refuse.
    FailedClosed,
    /// Answered without asking anybody.
    Cached,
    /// No opinion.
    Abstained,
    /// Arrived.
    Delivered,
    /// Tried again.
    Retried,
    /// Given up.
    Dropped,
}

impl Outcome {
    /// The word in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Rejected => "rejected",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
            Self::Cached => "cached",
            Self::Abstained => "abstained",
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Dropped => "dropped",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// Labels of what the rate limit and the quota decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Governed {
    action: &'static str,
    outcome: Outcome,
}

/// Labels of what has only an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: Outcome,
}

/// What is counted. Clones count together; the default counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Option<Arc<Families>>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    governance: Family<Governed, Counter>,
    rate_limits: Family<Governed, Counter>,
    quotas: Family<Governed, Counter>,
    policy: Family<Ended, Counter>,
    auth: Family<Ended, Counter>,
    events: Family<Ended, Counter>,
    notifications: Family<Ended, Counter>,
    audit_lines: Family<Ended, Counter>,
}

impl Metrics {
    /// Metrics that count.
    pub fn counting() -> Self {
        let mut registry = Registry::with_prefix("rustaccio");
        let mut family = |name: &str, help: &str| {
            let family = Family::<Ended, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let policy = family(
            "policy_backend_requests",
            "Questions to the policy backend, by outcome",
        );
        let auth = family(
            "auth_backend_requests",
            "Questions to the HTTP auth backend about credentials, by outcome",
        );
        let events = family("events", "Registry events, by outcome");
        let notifications = family("notifications", "Messages of notify hooks, by outcome");
        let audit_lines = family("audit_lines", "Lines of the audit trail, by outcome");
        let mut governed = |name: &str, help: &str| {
            let family = Family::<Governed, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let governance = governed(
            "governance_requests",
            "Requests by class of action, and whether limits let them through",
        );
        let rate_limits = governed("rate_limit_decisions", "Decisions of the rate limit");
        let quotas = governed("quota_decisions", "Decisions of the quota");
        Self(Some(Arc::new(Families {
            registry,
            governance,
            rate_limits,
            quotas,
            policy,
            auth,
            events,
            notifications,
            audit_lines,
        })))
    }

    /// Whether anything is counted.
    pub fn are_counted(&self) -> bool {
        self.0.is_some()
    }

    /// The text for a scrape (`text/plain; version=0.0.4`); empty where nothing is counted.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(families) = &self.0 {
            // Writing to a string cannot fail.
            let _ = encode(&mut text, &families.registry);
        }
        text
    }

    /// A request of the class `action` met rate limit and quota, and was let through or not.
    pub fn governed(&self, action: &'static str, is_allowed: bool) {
        let outcome = if is_allowed {
            Outcome::Allowed
        } else {
            Outcome::Rejected
        };
        self.count(
            |families| &families.governance,
            &Governed { action, outcome },
        );
    }

    /// What the rate limit decided.
    pub fn rate_limit(&self, action: &'static str, outcome: Outcome) {
        self.count(
            |families| &families.rate_limits,
            &Governed { action, outcome },
        );
    }

    /// What the quota decided.
    pub fn quota(&self, action: &'static str, outcome: Outcome) {
        self.count(|families| &families.quotas, &Governed { action, outcome });
    }

    /// What became of a question to the policy backend.
    pub fn policy_backend(&self, outcome: Outcome) {
        self.count(|families| &families.policy, &Ended { outcome });
    }

    /// What became of a question to the HTTP auth backend about credentials.
    pub fn auth_backend(&self, outcome: Outcome) {
        self.count(|families| &families.auth, &Ended { outcome });
    }

    /// What became of an event.
    pub fn event(&self, outcome: Outcome) {
        self.count(|families| &families.events, &Ended { outcome });
    }

    /// What became of a message of a `notify` hook.
    pub fn notification(&self, outcome: Outcome) {
        self.count(|families| &families.notifications, &Ended { outcome });
    }

    /// What became of a line of the audit trail.
    pub fn audit_line(&self, outcome: Outcome) {
        self.count(|families| &families.audit_lines, &Ended { outcome });
    }

    fn count<L>(&self, family: impl FnOnce(&Families) -> &Family<L, Counter>, labels: &L)
    where
        L: Clone + std::hash::Hash + Eq,
    {
        if let Some(families) = &self.0 {
            family(families).get_or_create_owned(labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::counting();
        metrics.governed("download", true);
        metrics.clone().governed("download", true);
        metrics.quota("publish", Outcome::FailedOpen);
        let text = metrics.to_text();
        for line in [
            r#"rustaccio_governance_requests_total{action="download",outcome="allowed"} 2"#,
            r#"rustaccio_quota_decisions_total{action="publish",outcome="failed_open"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn what_nobody_reads_is_not_counted() {
        let metrics = Metrics::default();
        metrics.event(Outcome::Dropped);
        assert!(!metrics.are_counted());
        assert_eq!(metrics.to_text(), "");
    }
}
