//! How far limits are used up, as the IETF's draft of `RateLimit` and `RateLimit-Policy` has clients
//! told (draft-ietf-httpapi-ratelimit-headers).

use std::time::Duration;

use http::HeaderValue;

use super::{Metric, QuotaOptions, RateLimit};

const DAY: Duration = Duration::from_secs(86_400);

/// How far a caller has used up one limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// How much it is.
    pub(super) limit: u64,
    /// What is left of it.
    pub(super) remaining: u64,
    /// When it begins anew.
    pub(super) resets_in: Duration,
}

impl Standing {
    /// Whether at most half of it is left.
    pub(super) fn is_half_used(self) -> bool {
        self.remaining <= self.limit / 2
    }
}

/// What `RateLimit-Policy` says. Nothing of it changes, and many answers have it: each
/// combination of limits that may be looked at has its text.
#[derive(Debug)]
pub(super) struct Policies([Option<HeaderValue>; 8]);

impl Policies {
    pub(super) fn new(rate: Option<RateLimit>, quotas: Option<&QuotaOptions>) -> Self {
        let mut policies = [const { None }; 8];
        let metrics = [Metric::Downloads, Metric::Publishes, Metric::Requests];
        for metric in metrics.map(Some).into_iter().chain([None]) {
            for rate in [None, rate] {
                let mut listed = Listed::new();
                if let Some(RateLimit { requests, window }) = rate {
                    listed.put("window", [("q", requests), ("w", whole_seconds(window))]);
                }
                if let (Some(metric), Some(quotas)) = (metric, quotas) {
                    let limit = quotas.limit_of(metric);
                    listed.put("day", [("q", limit), ("w", whole_seconds(DAY))]);
                }
                if let Some(policy) = policies.get_mut(place(rate.is_some(), metric)) {
                    *policy = listed.into_value();
                }
            }
        }
        Self(policies)
    }

    /// Of the limits that were looked at.
    pub(super) fn of(&self, has_rate: bool, quota: Option<Metric>) -> Option<HeaderValue> {
        self.0.get(place(has_rate, quota)).cloned().flatten()
    }
}

fn place(has_rate: bool, quota: Option<Metric>) -> usize {
    let quota = match quota {
        None => 0,
        Some(Metric::Downloads) => 1,
        Some(Metric::Publishes) => 2,
        Some(Metric::Requests) => 3,
    };
    quota * 2 + usize::from(has_rate)
}

/// What `RateLimit` says.
pub(super) fn in_short(rate: Option<Standing>, quota: Option<Standing>) -> Option<HeaderValue> {
    let mut listed = Listed::new();
    for (policy, standing) in [("window", rate), ("day", quota)] {
        if let Some(Standing {
            remaining,
            resets_in,
            ..
        }) = standing
        {
            listed.put(policy, [("r", remaining), ("t", whole_seconds(resets_in))]);
        }
    }
    listed.into_value()
}

/// A list of items with whole numbers (RFC 9651), put together without the machinery of formats.
struct Listed(Vec<u8>);

impl Listed {
    fn new() -> Self {
        // Two items, and what they count.
        Self(Vec::with_capacity(96))
    }

    fn put(&mut self, item: &str, parameters: [(&str, u64); 2]) {
        let Self(text) = self;
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.push(b'"');
        text.extend_from_slice(item.as_bytes());
        text.push(b'"');
        for (name, number) in parameters {
            text.push(b';');
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }

    fn into_value(self) -> Option<HeaderValue> {
        let Self(text) = self;
        (!text.is_empty()).then(|| HeaderValue::from_bytes(&text).ok())?
    }
}

/// Rounded up: nobody shall come back too early.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
