//! [`UplinkMetrics`]: what became of questions to one uplink.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::durations::Durations;

/// How a question to an uplink ended; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// With an answer: the document, that it has not changed, or that there is none.
    Answered,
    /// Without one in time.
    Timeout,
    /// Without a connection, or with one that broke.
    Unreachable,
    /// With a status that is no answer.
    BadStatus,
    /// With the wish to be left alone for a while.
    RateLimited,
    /// With something else than was asked for.
    Unusable,
    /// It was not asked, after repeated failures.
    LeftAlone,
    /// It was not asked, because the address may not be.
    Refused,
}

impl Asked {
    const ALL: [Self; 8] = [
        Self::Answered,
        Self::Timeout,
        Self::Unreachable,
        Self::BadStatus,
        Self::RateLimited,
        Self::Unusable,
        Self::LeftAlone,
        Self::Refused,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::BadStatus => "bad_status",
            Self::RateLimited => "rate_limited",
            Self::Unusable => "unusable",
            Self::LeftAlone => "left_alone",
            Self::Refused => "refused",
        }
    }
}

/// What is counted of one uplink. Clones count together; the default counts nothing.
#[derive(Clone, Debug, Default)]
pub struct UplinkMetrics(Option<Counted>);

#[derive(Clone, Debug)]
struct Counted {
    /// In the order of [`Asked::ALL`].
    outcomes: [Counter; Asked::ALL.len()],
    durations: Durations,
    open_breakers: Gauge,
}

impl UplinkMetrics {
    /// A question ended like this; one that was not asked took no time.
    pub fn asked(&self, how: Asked, took: Option<Duration>) {
        let Some(counted) = &self.0 else {
            return;
        };
        let outcome = Asked::ALL.iter().position(|known| *known == how);
        if let Some(counter) = outcome.and_then(|outcome| counted.outcomes.get(outcome)) {
            counter.inc();
        }
        if let Some(took) = took {
            counted.durations.observe(took);
        }
    }

    /// About so many kinds of questions the uplink is left alone now.
    pub fn breakers_open(&self, count: usize) {
        if let Some(counted) = &self.0 {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            counted.open_breakers.set(count);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    uplink: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    uplink: String,
}

/// All uplinks'.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    outcomes: Family<Ending, Counter>,
    durations: Family<Named, Durations>,
    open_breakers: Family<Named, Gauge>,
}

impl Uplinks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "uplink_requests",
            "Questions to uplinks, each attempt, by outcome",
            this.outcomes.clone(),
        );
        registry.register(
            "uplink_request_duration_seconds",
            "How long questions to uplinks took until they had an answer or failed; of tarballs, until their bytes began",
            this.durations.clone(),
        );
        registry.register(
            "uplink_breakers_open",
            "Kinds of questions that an uplink is not asked for a while after repeated failures",
            this.open_breakers.clone(),
        );
        this
    }

    pub(super) fn of(&self, name: &str) -> UplinkMetrics {
        let named = Named {
            uplink: name.to_owned(),
        };
        let outcome = |asked: Asked| {
            self.outcomes.get_or_create_owned(&Ending {
                uplink: name.to_owned(),
                outcome: asked.as_str(),
            })
        };
        UplinkMetrics(Some(Counted {
            outcomes: Asked::ALL.map(outcome),
            durations: self.durations.get_or_create_owned(&named),
            open_breakers: self.open_breakers.get_or_create_owned(&named),
        }))
    }
}
