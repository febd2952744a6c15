//! [`Governance`]: whether a request is let through, as far as it is a question of how many.

use std::{sync::Arc, time::Duration};

use futures_util::future::Either;
use http::HeaderValue;

use super::{
    Class, Counted, GovernanceError, Metric, QuotaStore, RateLimit, RateLimiter, Usage,
    key::Keys,
    rest::Rest,
    standing::{Policies, Standing, in_short},
};
use crate::{
    error::{BoxError, RegistryError},
    lifecycle::{SharedClock, elsewhere},
    models::Caller,
    telemetry::{Metrics, Outcome},
};

/// How often a backend that is started again may be late before a request has failed: it gives up
/// by itself, and this is for one that does not.
const GRACE: Duration = Duration::from_secs(1);

/// A rate limit and where it is counted.
#[derive(Debug)]
pub struct RateOptions {
    /// Where.
    pub limiter: Arc<dyn RateLimiter>,
    /// How much.
    pub limit: RateLimit,
    /// Whether requests are let through where it cannot be counted.
    pub fail_open: bool,
    /// How long counting may take.
    pub patience: Duration,
}

/// Quotas and where they are counted. One of 0 is none.
#[derive(Debug)]
pub struct QuotaOptions {
    /// Where.
    pub store: Arc<dyn QuotaStore>,
    /// Other requests a day.
    pub requests: u64,
    /// Downloads a day.
    pub downloads: u64,
    /// Publishes a day.
    pub publishes: u64,
    /// Whether requests are let through where they cannot be counted.
    pub fail_open: bool,
    /// How long counting may take.
    pub patience: Duration,
}

impl QuotaOptions {
    /// How much a day.
    pub(super) fn limit_of(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Downloads => self.downloads,
            Metric::Publishes => self.publishes,
            Metric::Requests => self.requests,
        }
    }
}

/// What a [`Governance`] is made of.
#[derive(Debug)]
pub struct GovernanceOptions {
    /// The rate limit, if there is one.
    pub rate: Option<RateOptions>,
    /// The quotas, if there are some.
    pub quotas: Option<QuotaOptions>,
    /// What is counted of decisions.
    pub metrics: Metrics,
    /// Which day it is.
    pub clock: SharedClock,
}

/// What limits requests.
#[derive(Debug)]
pub struct Governance {
    options: GovernanceOptions,
    rate_rest: Rest,
    quota_rest: Rest,
    policies: Policies,
}

/// What became of a request, with all limits that were looked at.
#[derive(Debug, Default)]
pub struct Admission {
    /// What the answer says of limits, if it does; in a box, because it is kept until there is one.
    pub told: Option<Box<Told>>,
    /// Why it is not let through.
    pub refusal: Option<Box<RegistryError>>,
}

/// What an answer says of the limits that were looked at.
#[derive(Debug)]
pub struct Told {
    /// What `RateLimit-Policy` says.
    pub policy: HeaderValue,
    /// What `RateLimit` says.
    pub standing: HeaderValue,
}

/// What was found out about one limit.
#[derive(Default)]
struct Looked {
    standing: Option<Standing>,
    refusal: Option<Box<RegistryError>>,
}

impl Governance {
    /// Limits as `options` say.
    pub fn new(options: GovernanceOptions) -> Self {
        let patience = |patience: Option<Duration>| patience.unwrap_or_default() + GRACE;
        Self {
            rate_rest: Rest::new(patience(options.rate.as_ref().map(|rate| rate.patience))),
            quota_rest: Rest::new(patience(
                options.quotas.as_ref().map(|quota| quota.patience),
            )),
            policies: Policies::new(
                options.rate.as_ref().map(|rate| rate.limit),
                options.quotas.as_ref(),
            ),
            options,
        }
    }

    /// Whether there are limits, or somebody counts what they let through.
    pub fn is_asked(&self) -> bool {
        let Self { options, .. } = self;
        options.rate.is_some() || options.quotas.is_some() || options.metrics.are_counted()
    }

    /// Whether a request of this class is let through; `None` is never limited.
    pub async fn admit(&self, caller: &Caller, class: Option<Class>) -> Admission {
        let admission = match class {
            Some(class) => self.look(&Keys::of(caller, class), class).await,
            None => Admission::default(),
        };
        let class = class.unwrap_or(Class::Other).as_str();
        let metrics = &self.options.metrics;
        metrics.governed(class, admission.refusal.is_none());
        admission
    }

    async fn look(&self, keys: &Keys, class: Class) -> Admission {
        let rate = self.count_for_rate(keys, class).await;
        let quota = match rate.refusal {
            None => self.count_for_quota(keys, class).await,
            Some(_) => Looked::default(),
        };
        Admission {
            told: self.told(class, rate.standing, quota.standing),
            refusal: rate.refusal.or(quota.refusal),
        }
    }

    /// What the answer says. Whoever has more than half of each limit left need not slow down, and is
    /// spared it: so is every answer.
    fn told(
        &self,
        class: Class,
        rate: Option<Standing>,
        quota: Option<Standing>,
    ) -> Option<Box<Told>> {
        let is_half_used =
            |standing: Option<Standing>| standing.is_some_and(Standing::is_half_used);
        if !is_half_used(rate) && !is_half_used(quota) {
            return None;
        }
        let metric = quota.map(|_| Metric::of(class));
        let policy = self.policies.of(rate.is_some(), metric)?;
        let standing = in_short(rate, quota)?;
        Some(Box::new(Told { policy, standing }))
    }

    async fn count_for_rate(&self, keys: &Keys, class: Class) -> Looked {
        let Some(rate) = &self.options.rate else {
            return Looked::default();
        };
        let counted = rate.limiter.count(keys.of_rate());
        let counted = in_time(&self.rate_rest, "counting for the rate limit", counted);
        let note = |outcome| self.options.metrics.rate_limit(class.as_str(), outcome);
        let verdict = match counted.await {
            Ok(verdict) => verdict,
            Err(error) => {
                note(failed(rate.fail_open));
                return unless_open(
                    rate.fail_open,
                    error,
                    "the rate limit cannot be counted; going on without it",
                    RegistryError::RateLimiterUnavailable,
                );
            }
        };
        note(decided(verdict.is_allowed));
        Looked {
            standing: Some(Standing {
                limit: rate.limit.requests,
                remaining: verdict.remaining,
                resets_in: verdict.resets_in,
            }),
            refusal: (!verdict.is_allowed).then(|| {
                Box::new(RegistryError::RateLimited {
                    message: "rate limit exceeded".to_owned(),
                    retry_after: verdict.resets_in,
                })
            }),
        }
    }

    async fn count_for_quota(&self, keys: &Keys, class: Class) -> Looked {
        let Some(quotas) = &self.options.quotas else {
            return Looked::default();
        };
        let metric = Metric::of(class);
        let limit = quotas.limit_of(metric);
        if limit == 0 {
            return Looked::default();
        }
        let now = self.options.clock.now();
        let usage = Usage {
            day: now.day(),
            tenant: keys.of_quota(),
            metric,
        };
        let counted = quotas.store.count(usage, limit);
        let counted = in_time(&self.quota_rest, "counting for the quota", counted);
        let note = |outcome| self.options.metrics.quota(class.as_str(), outcome);
        let used = match counted.await {
            Ok(used) => used,
            Err(error) => {
                note(failed(quotas.fail_open));
                return unless_open(
                    quotas.fail_open,
                    error,
                    "the quota cannot be counted; going on without it",
                    RegistryError::QuotaUnavailable,
                );
            }
        };
        note(decided(used.is_some()));
        let resets_in = now.rest_of_day();
        Looked {
            standing: Some(Standing {
                limit,
                remaining: used.map_or(0, |used| limit.saturating_sub(used)),
                resets_in,
            }),
            refusal: used.is_none().then(|| {
                Box::new(RegistryError::QuotaExceeded {
                    retry_after: resets_in,
                })
            }),
        }
    }
}

/// What was counted, at once or as soon as its backend says.
async fn in_time<T>(
    rest: &Rest,
    operation: &'static str,
    counted: Counted<'_, T>,
) -> Result<T, GovernanceError> {
    match counted {
        Either::Left(counted) => counted.into_inner(),
        Either::Right(counting) => elsewhere(rest.ask(operation, counting)).await,
    }
}

fn decided(is_allowed: bool) -> Outcome {
    if is_allowed {
        Outcome::Allowed
    } else {
        Outcome::Rejected
    }
}

fn failed(fail_open: bool) -> Outcome {
    if fail_open {
        Outcome::FailedOpen
    } else {
        Outcome::FailedClosed
    }
}

/// What becomes of a request whose limit cannot be counted.
fn unless_open(
    fail_open: bool,
    error: GovernanceError,
    warning: &str,
    refusal: impl FnOnce(BoxError) -> RegistryError,
) -> Looked {
    if !fail_open {
        return Looked {
            standing: None,
            refusal: Some(Box::new(refusal(error.into()))),
        };
    }
    // One that rests was warned of when it failed.
    if !matches!(error, GovernanceError::Resting) {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "{warning}");
    }
    Looked::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        governance::{MemoryQuotas, MemoryRateLimiter},
        lifecycle::ManualClock,
        models::Timestamp,
    };

    const SHORT: Duration = Duration::from_secs(60);

    /// One request in a window, and two publishes a day.
    fn options() -> GovernanceOptions {
        let clock: SharedClock = ManualClock::at(Timestamp::from_unix_millis(0));
        let limit = RateLimit {
            requests: 1,
            window: SHORT,
        };
        GovernanceOptions {
            rate: Some(RateOptions {
                limiter: Arc::new(MemoryRateLimiter::new(limit, 100, Arc::clone(&clock))),
                limit,
                fail_open: false,
                patience: SHORT,
            }),
            quotas: Some(QuotaOptions {
                store: Arc::new(MemoryQuotas::new(100, 2)),
                requests: 0,
                downloads: 0,
                publishes: 2,
                fail_open: false,
                patience: SHORT,
            }),
            metrics: Metrics::counting(),
            clock,
        }
    }

    #[track_caller]
    fn check_counted(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.to_text();
        for line in lines {
            let is_there = text
                .lines()
                .any(|found| found == format!("rustaccio_{line}"));
            assert!(is_there, "{line} is not in: {text}");
        }
    }

    #[tokio::test]
    async fn decisions_are_counted() {
        let options = options();
        let metrics = options.metrics.clone();
        let governance = Governance::new(options);
        let caller = Caller::default();
        for class in [Class::Publish, Class::Unpublish, Class::Access] {
            for _ in 0..2 {
                governance.admit(&caller, Some(class)).await;
            }
        }
        governance.admit(&caller, None).await;
        check_counted(
            &metrics,
            &[
                r#"governance_requests_total{action="publish",outcome="allowed"} 1"#,
                r#"governance_requests_total{action="publish",outcome="rejected"} 1"#,
                r#"governance_requests_total{action="other",outcome="allowed"} 1"#,
                r#"rate_limit_decisions_total{action="access",outcome="allowed"} 1"#,
                r#"rate_limit_decisions_total{action="access",outcome="rejected"} 1"#,
                r#"quota_decisions_total{action="publish",outcome="allowed"} 1"#,
                r#"quota_decisions_total{action="unpublish",outcome="allowed"} 1"#,
            ],
        );
        // What the rate limit refuses uses up no quota.
        check_counted(
            &metrics,
            &[r#"quota_decisions_total{action="publish",outcome="rejected"} 0"#],
        );
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn one_that_fails_lets_through_whom_it_shall() {
        use crate::governance::RedisRateLimiter;

        for (fail_open, outcome) in [(true, "failed_open"), (false, "failed_closed")] {
            let mut options = options();
            let limit = RateLimit {
                requests: 1,
                window: SHORT,
            };
            // Nobody is there.
            let limiter = RedisRateLimiter::new("redis://127.0.0.1:9/", limit, SHORT).unwrap();
            options.rate = Some(RateOptions {
                limiter: Arc::new(limiter),
                limit,
                fail_open,
                patience: SHORT,
            });
            let metrics = options.metrics.clone();
            let governance = Governance::new(options);
            for _ in 0..3 {
                let caller = Caller::default();
                let admission = governance.admit(&caller, Some(Class::Access)).await;
                assert!(admission.told.is_none());
                match admission.refusal {
                    None => assert!(fail_open),
                    Some(error) => {
                        assert!(!fail_open);
                        assert_eq!(error.status(), 502);
                    }
                }
            }
            let line =
                format!("rate_limit_decisions_total{{action=\"access\",outcome=\"{outcome}\"}} 3");
            check_counted(&metrics, &[&line]);
        }
    }
}
