//! [`PolicyService`]: a company's own service that decides who may do what, asked over HTTP
//! (`docs/contracts/policy-decision-v1.md`).

use std::sync::Arc;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    auth::CompanyService,
    config::PolicyConfig,
    error::RegistryError,
    lifecycle::elsewhere,
    models::{AuthIdentity, Caller, PackageName, Right, Tenant},
    net::{Answered, Answers, ClientError, Memory, ServiceAnswer, ServiceError},
    telemetry::{Backend, Metrics, Outcome},
};

/// Packages in one question to the endpoint for many.
const BATCH: usize = 500;
/// Questions that one list asks at once where there is no such endpoint.
pub(super) const AT_ONCE: usize = 16;

/// All that a decision may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    right: Right,
    package: PackageName,
    identity: Option<Arc<AuthIdentity>>,
    method: http::Method,
    /// The hash of the path, which may be long.
    path: [u8; 32],
    tenant: Tenant,
}

/// Why there is no decision.
#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error("the policy service gave no answer")]
    NoAnswer(#[source] Arc<ServiceError>),
    #[error("the policy service answered {0}")]
    BadStatus(http::StatusCode),
    #[error("the policy service answered what is not JSON")]
    NotJson,
    #[error("the policy service did not decide about each package")]
    NotEach,
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::NoAnswer(Arc::new(error))
    }
}

/// What came of asking about several packages.
struct Decided {
    /// In their order; `None` where there is no opinion, or none is known.
    decisions: Vec<Option<bool>>,
    /// Why not all are known.
    failure: Option<Failure>,
}

/// A company's own service that decides.
pub struct PolicyService {
    service: CompanyService,
    config: PolicyConfig,
    decisions: Answers<Question, Option<bool>, Failure>,
    metrics: Metrics,
}

impl std::fmt::Debug for PolicyService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyService").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<Vec<&'a str>>,
    method: &'a str,
    path: &'a str,
    request_id: &'a str,
    username: Option<&'a str>,
    groups: &'a [String],
    identity: Option<Identity<'a>>,
    tenant: Organisation<'a>,
    #[serde(flatten)]
    organisation: Organisation<'a>,
}

#[derive(Serialize)]
struct Identity<'a> {
    username: Option<&'a str>,
    groups: &'a [String],
}

#[derive(Clone, Copy, Serialize)]
struct Organisation<'a> {
    org_id: Option<&'a str>,
    project_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Decisions {
    decisions: Vec<Option<bool>>,
}

impl<'a> Body<'a> {
    fn new(caller: &'a Caller, right: Right) -> Self {
        let identity = caller.identity.as_deref();
        let username = identity.and_then(|identity| identity.username.as_deref());
        let groups = identity.map_or(&[][..], |identity| &identity.groups);
        let request = &*caller.request;
        let organisation = Organisation {
            org_id: request.tenant.org_id.as_deref(),
            project_id: request.tenant.project_id.as_deref(),
        };
        Self {
            action: right.as_str(),
            package: None,
            packages: None,
            method: request.method.as_str(),
            path: &request.path,
            request_id: &request.id,
            username,
            groups,
            identity: identity.map(|_| Identity { username, groups }),
            tenant: organisation,
            organisation,
        }
    }
}

impl PolicyService {
    /// The service that `config` names, if it names one.
    pub fn new(config: PolicyConfig, metrics: Metrics) -> Result<Option<Self>, ClientError> {
        let Some(base) = &config.base_url else {
            return Ok(None);
        };
        let memory = Memory {
            ttl: config.cache_ttl,
            max_entries: config.cache_max_entries,
            prune_interval: config.cache_prune_interval,
        };
        Ok(Some(Self {
            service: CompanyService::new(base, config.timeout, Backend::Policy, metrics.clone())?,
            decisions: Answers::new(memory),
            config,
            metrics,
        }))
    }

    /// Forgets all decisions.
    pub(super) fn forget(&self) {
        self.decisions.forget();
    }

    /// How many packages of a list are decided about together.
    pub(super) fn stride(&self) -> usize {
        if self.config.batch_endpoint.is_some() {
            BATCH
        } else {
            AT_ONCE
        }
    }

    /// Whether `caller` has a right to `package`; `None` leaves that to others.
    pub(super) async fn decide(
        &self,
        caller: &Caller,
        right: Right,
        package: &PackageName,
    ) -> Result<Option<bool>, RegistryError> {
        let answered = self.ask(caller, right, package).await;
        self.count(&answered);
        match answered {
            Ok(answered) => Ok(answered.answer),
            Err(failure) => self.without(failure).map(|()| None),
        }
    }

    /// The same for many packages, in their order. Once it has failed, what is known still counts, and
    /// the rest is left to others, if that is how failures are taken.
    pub(super) async fn decide_each(
        &self,
        caller: &Caller,
        right: Right,
        packages: &[&PackageName],
    ) -> Result<Vec<Option<bool>>, RegistryError> {
        let mut decisions = Vec::with_capacity(packages.len());
        let mut has_failed = false;
        let (waited, limit) = (&caller.request.waited_for_policy, self.service.list_limit());
        for chunk in packages.chunks(self.stride()) {
            let left = waited.left_of(limit);
            if left.is_zero() && !has_failed {
                self.without(self.slow_together())?;
                has_failed = true;
            }
            if has_failed {
                let known = |package: &&PackageName| {
                    let known = self.decisions.known(&question(caller, right, package));
                    known.flatten()
                };
                decisions.extend(chunk.iter().map(known));
                continue;
            }
            let begun = Instant::now();
            let ends = begun + left;
            let decided = match &self.config.batch_endpoint {
                Some(endpoint) => {
                    let asked = self.ask_together(caller, right, chunk, endpoint, ends);
                    asked.await
                }
                None => self.ask_each(caller, right, chunk, ends).await,
            };
            waited.add(begun.elapsed());
            decisions.extend(decided.decisions);
            if let Some(failure) = decided.failure {
                self.without(failure)?;
                has_failed = true;
            }
        }
        Ok(decisions)
    }

    /// Asks about each of `packages`, of all at once.
    async fn ask_each(
        &self,
        caller: &Caller,
        right: Right,
        packages: &[&PackageName],
        ends: Instant,
    ) -> Decided {
        let mut asking = FuturesUnordered::new();
        for (place, package) in packages.iter().enumerate() {
            asking.push(async move { (place, self.ask(caller, right, package).await) });
        }
        let mut decisions = vec![None; packages.len()];
        let mut failure = None;
        loop {
            let (place, answered) = match timeout_at(ends, asking.next()).await {
                Ok(Some(answered)) => answered,
                Ok(None) => break,
                Err(_) => {
                    failure = Some(self.slow_together());
                    break;
                }
            };
            self.count(&answered);
            match answered {
                Ok(answered) => {
                    if let Some(decision) = decisions.get_mut(place) {
                        *decision = answered.answer;
                    }
                }
                Err(error) => failure = Some(error),
            }
            // The others count only where failures are passed over.
            if failure.is_some() && !self.config.fail_open {
                break;
            }
        }
        Decided { decisions, failure }
    }

    /// Asks one question about all of `packages` that nothing is known of.
    async fn ask_together(
        &self,
        caller: &Caller,
        right: Right,
        packages: &[&PackageName],
        endpoint: &str,
        ends: Instant,
    ) -> Decided {
        let questions = packages
            .iter()
            .map(|package| question(caller, right, package));
        let mut known: Vec<(Question, Option<Option<bool>>)> = questions
            .map(|question| {
                let known = self.decisions.known(&question);
                let known = known.inspect(|_| self.metrics.policy_backend(Outcome::Cached));
                (question, known)
            })
            .collect();
        let unknown: Vec<&str> = known
            .iter()
            .filter(|(_, decision)| decision.is_none())
            .map(|(question, _)| question.package.as_str())
            .collect();
        let mut failure = None;
        if !unknown.is_empty() {
            let asked_at = self.decisions.now();
            let count = unknown.len();
            let body = Body {
                packages: Some(unknown),
                ..Body::new(caller, right)
            };
            let asked = self
                .service
                .ask(endpoint, serde_json::to_vec(&body), &caller.request.id);
            let answer = match timeout_at(ends, elsewhere(asked)).await {
                Ok(answer) => answer.map_err(Failure::from),
                Err(_) => Err(self.slow_together()),
            };
            match answer.and_then(|answer| decisions(&answer, count)) {
                Ok(decisions) => {
                    let mut decisions = decisions.into_iter();
                    let mut new = Vec::with_capacity(count);
                    for (question, decision) in &mut known {
                        if decision.is_none() {
                            let decided = decisions.next().flatten();
                            self.metrics.policy_backend(outcome_of(decided));
                            *decision = Some(decided);
                            new.push((question.clone(), decided));
                        }
                    }
                    self.decisions.remember(asked_at, new);
                }
                Err(error) => {
                    self.metrics.policy_backend(self.outcome_of_failure());
                    failure = Some(error);
                }
            }
        }
        let decisions = known.into_iter().map(|(_, decision)| decision.flatten());
        Decided {
            decisions: decisions.collect(),
            failure,
        }
    }

    async fn ask(
        &self,
        caller: &Caller,
        right: Right,
        package: &PackageName,
    ) -> Result<Answered<Option<bool>>, Failure> {
        let ask = || {
            let body = Body {
                package: Some(package.as_str()),
                ..Body::new(caller, right)
            };
            let endpoint = &self.config.decision_endpoint;
            let asked = self
                .service
                .ask(endpoint, serde_json::to_vec(&body), &caller.request.id);
            async move { decision(&asked.await?) }
        };
        let question = question(caller, right, package);
        elsewhere(self.decisions.get(question, ask)).await
    }

    fn slow_together(&self) -> Failure {
        ServiceError::SlowTogether(self.service.list_limit()).into()
    }

    /// Goes on without a decision, if that is how failures are taken.
    fn without(&self, failure: Failure) -> Result<(), RegistryError> {
        if self.config.fail_open {
            tracing::warn!(
                error = &failure as &dyn std::error::Error,
                "the rules decide without the policy service"
            );
            return Ok(());
        }
        Err(RegistryError::PolicyUnavailable(Box::new(failure)))
    }

    fn outcome_of_failure(&self) -> Outcome {
        if self.config.fail_open {
            Outcome::FailedOpen
        } else {
            Outcome::FailedClosed
        }
    }

    fn count(&self, answered: &Result<Answered<Option<bool>>, Failure>) {
        self.metrics.policy_backend(match answered {
            Ok(Answered {
                was_known: true, ..
            }) => Outcome::Cached,
            Ok(Answered { answer, .. }) => outcome_of(*answer),
            Err(_) => self.outcome_of_failure(),
        });
    }
}

/// What a decision that was asked for is counted as.
fn outcome_of(decision: Option<bool>) -> Outcome {
    match decision {
        Some(true) => Outcome::Allowed,
        Some(false) => Outcome::Rejected,
        None => Outcome::Abstained,
    }
}

fn question(caller: &Caller, right: Right, package: &PackageName) -> Question {
    let request = &*caller.request;
    Question {
        right,
        package: package.clone(),
        identity: caller.identity.clone(),
        method: request.method.clone(),
        path: sha2::Sha256::digest(request.path.as_bytes()).into(),
        tenant: request.tenant.clone(),
    }
}

fn decision(answer: &ServiceAnswer) -> Result<Option<bool>, Failure> {
    match answer.status {
        http::StatusCode::UNAUTHORIZED | http::StatusCode::FORBIDDEN => Ok(Some(false)),
        status if !status.is_success() => Err(Failure::BadStatus(status)),
        _ => answer.decision().map_err(|_| Failure::NotJson),
    }
}

/// The same about `count` packages at once. A refusal is one of each of them.
fn decisions(answer: &ServiceAnswer, count: usize) -> Result<Vec<Option<bool>>, Failure> {
    match answer.status {
        http::StatusCode::UNAUTHORIZED | http::StatusCode::FORBIDDEN => {
            return Ok(vec![Some(false); count]);
        }
        status if !status.is_success() => return Err(Failure::BadStatus(status)),
        _ => {}
    }
    let Decisions { decisions } =
        serde_json::from_slice(&answer.body).map_err(|_| Failure::NotJson)?;
    (decisions.len() == count)
        .then_some(decisions)
        .ok_or(Failure::NotEach)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `RUSTACCIO_POLICY_HTTP_CACHE_PRUNE_INTERVAL_MS`, which shows in memory that is free again.
    #[tokio::test]
    async fn decisions_that_ended_are_thrown_away_as_often_as_they_shall() {
        for (interval, kept) in [(Duration::ZERO, 1), (Duration::from_secs(3600), 2)] {
            let config = PolicyConfig {
                base_url: "http://127.0.0.1:9".parse().ok(),
                cache_ttl: Duration::from_nanos(1),
                cache_prune_interval: interval,
                ..PolicyConfig::default()
            };
            let service = PolicyService::new(config, Metrics::default());
            let decisions = service.unwrap().unwrap().decisions;
            for name in ["one", "other"] {
                let package = name.parse().unwrap();
                let question = question(&Caller::default(), Right::Access, &package);
                let decided = decisions.get(question.clone(), || async { Ok(None) });
                decided.await.unwrap();
                while decisions.known(&question).is_some() {
                    std::thread::yield_now();
                }
            }
            assert_eq!(decisions.kept(), kept);
        }
    }
}
