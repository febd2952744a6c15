//! [`Outcome`]: how something ended that may end in several ways.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

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
    /// What limits come to.
    pub(super) const OF_LIMITS: &[Self] = &[
        Self::Allowed,
        Self::Rejected,
        Self::FailedOpen,
        Self::FailedClosed,
    ];
    /// What questions to backends come to.
    pub(super) const OF_BACKENDS: &[Self] = &[
        Self::Allowed,
        Self::Rejected,
        Self::FailedOpen,
        Self::FailedClosed,
        Self::Cached,
        Self::Abstained,
    ];
    /// What becomes of events.
    pub(super) const OF_EVENTS: &[Self] = &[Self::Delivered, Self::Retried, Self::Dropped];

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
