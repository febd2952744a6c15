//! [`HttpPlugin`]: a company's own service that keeps accounts, asked over HTTP
//! (`docs/contracts/auth-request-v1.md`).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use sha2::Digest as _;

use super::{
    company_service::CompanyService,
    outside::{Outsider, Sender},
    passwords,
};
use crate::{
    config::AuthHttpConfig,
    error::RegistryError,
    lifecycle::elsewhere,
    models::{AuthIdentity, Caller, PackageName, RequestInfo, Right},
    net::{Answered, Answers, ClientError, Memory, ServiceAnswer, ServiceError},
    telemetry::{Backend, Metrics, Outcome},
};

const BAD_CREDENTIALS: &str = "bad username/password, access denied";
/// How much of a service's text clients are shown, in characters.
const MAX_MESSAGE: usize = 300;
/// Longest name and groups of a user together, in bytes: they are kept with each answer about her.
const MAX_IDENTITY: usize = 64 * 1024;
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// What a token's bearer is known by. The token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenQuestion {
    token: [u8; 32],
    /// What was asked for, where the answer may depend on it.
    request: Option<(http::Method, [u8; 32])>,
}

/// What a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RightQuestion {
    right: Right,
    package: PackageName,
    identity: Option<Arc<AuthIdentity>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error("the auth service gave no answer")]
    NoAnswer(#[source] Arc<ServiceError>),
    #[error("the auth service answered {0}")]
    BadStatus(StatusCode),
    #[error(
        "the auth service has no such endpoint: it answered 404; check RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT"
    )]
    NoEndpoint,
    #[error("the auth service answered what is not JSON")]
    NotJson,
    #[error("the auth service named a user with more than {MAX_IDENTITY} bytes of groups")]
    TooLarge,
    /// A status that clients are told.
    #[error("the auth service answered {0}: {1}")]
    Refused(StatusCode, String),
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::NoAnswer(Arc::new(error))
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(status, message) => Self::answered_with(status, message),
            failure => Self::AuthUnavailable(Box::new(failure)),
        }
    }
}

/// A company's own service that keeps accounts.
pub struct HttpPlugin {
    service: CompanyService,
    config: AuthHttpConfig,
    bearers: Answers<TokenQuestion, Option<Arc<AuthIdentity>>, Failure>,
    rights: Answers<RightQuestion, Option<bool>, Failure>,
    /// Passwords that were right, by the hash of user and password.
    passwords: Answers<[u8; 32], (), Failure>,
    metrics: Metrics,
}

impl std::fmt::Debug for HttpPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPlugin").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Password<'a> {
    username: &'a str,
    password: &'a str,
}

#[derive(Serialize)]
struct PasswordChange<'a> {
    username: &'a str,
    #[serde(rename = "old_password")]
    old: &'a str,
    #[serde(rename = "new_password")]
    new: &'a str,
}

#[derive(Serialize)]
struct Bearer<'a> {
    token: &'a str,
    method: &'a str,
    path: &'a str,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Wish<'a> {
    package: &'a str,
    username: Option<&'a str>,
    groups: &'a [String],
    identity: Option<Identity<'a>>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Identity<'a> {
    username: Option<&'a str>,
    groups: &'a [String],
}

impl HttpPlugin {
    /// The service that `config` names, if it names one.
    pub fn new(config: AuthHttpConfig, metrics: Metrics) -> Result<Option<Self>, ClientError> {
        let Some(base) = &config.base_url else {
            return Ok(None);
        };
        let memory = Memory {
            ttl: config.cache_ttl,
            max_entries: config.cache_max_entries,
            prune_interval: PRUNE_INTERVAL,
        };
        Ok(Some(Self {
            service: CompanyService::new(base, config.timeout, Backend::Auth, metrics.clone())?,
            bearers: Answers::new(memory),
            rights: Answers::new(memory),
            passwords: Answers::new(memory),
            config,
            metrics,
        }))
    }

    /// Tells it something that it takes or refuses.
    fn tell(
        &self,
        sender: &Sender,
        endpoint: &str,
        body: serde_json::Result<Vec<u8>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let asked = self.service.ask(endpoint, body, &sender.request_id);
        async move {
            let answer = asked.await?;
            if answer.status.is_success() {
                return Ok(());
            }
            Err(refusal(&answer, BAD_CREDENTIALS))
        }
    }

    fn count<A>(&self, answered: &Result<Answered<Option<A>>, Failure>) {
        self.metrics.auth_backend(match answered {
            Ok(Answered {
                was_known: true, ..
            }) => Outcome::Cached,
            Ok(Answered {
                answer: Some(_), ..
            }) => Outcome::Allowed,
            Ok(Answered { answer: None, .. }) => Outcome::Abstained,
            Err(_) => Outcome::FailedClosed,
        });
    }

    fn count_password(&self, told: &Result<Outcome, Failure>) {
        self.metrics.auth_backend(match told {
            Ok(outcome) => *outcome,
            Err(Failure::Refused(status, _)) if status.is_client_error() => Outcome::Rejected,
            Err(_) => Outcome::FailedClosed,
        });
    }

    fn endpoint_for(&self, right: Right) -> Option<&String> {
        match right {
            Right::Access => self.config.allow_access_endpoint.as_ref(),
            Right::Publish => self.config.allow_publish_endpoint.as_ref(),
            Right::Unpublish => self.config.allow_unpublish_endpoint.as_ref(),
        }
    }
}

#[async_trait]
impl Outsider for HttpPlugin {
    async fn add_user(
        &self,
        sender: &Sender,
        user: &str,
        password: &str,
        min: usize,
    ) -> Result<(), RegistryError> {
        if !passwords::is_long_enough(password, min) {
            return Err(RegistryError::bad_request(passwords::INVALID));
        }
        let question = serde_json::to_vec(&Password {
            username: user,
            password,
        });
        let told = self.tell(sender, &self.config.add_user_endpoint, question);
        Ok(elsewhere(told).await?)
    }

    async fn authenticate(
        &self,
        sender: &Sender,
        user: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        let question = serde_json::to_vec(&Password {
            username: user,
            password,
        });
        let told = self.tell(sender, &self.config.login_endpoint, question);
        let told = elsewhere(told).await.map(|()| Outcome::Allowed);
        self.count_password(&told);
        told?;
        Ok(())
    }

    async fn recognise(
        &self,
        sender: &Sender,
        user: &str,
        password: &str,
    ) -> Result<(), RegistryError> {
        let mut digest = sha2::Sha256::new();
        digest.update(user.len().to_le_bytes());
        digest.update(user);
        digest.update(password);
        let question = serde_json::to_vec(&Password {
            username: user,
            password,
        });
        let ask = || self.tell(sender, &self.config.login_endpoint, question);
        let told = self.passwords.get(digest.finalize().into(), ask);
        let told = elsewhere(told).await.map(|answered| {
            if answered.was_known {
                Outcome::Cached
            } else {
                Outcome::Allowed
            }
        });
        self.count_password(&told);
        told?;
        Ok(())
    }

    async fn change_password(
        &self,
        sender: &Sender,
        user: &str,
        old: &str,
        new: &str,
        min: usize,
    ) -> Result<(), RegistryError> {
        if !passwords::is_long_enough(new, min) {
            return Err(RegistryError::unauthorized(passwords::INVALID));
        }
        let question = serde_json::to_vec(&PasswordChange {
            username: user,
            old,
            new,
        });
        let endpoint = &self.config.change_password_endpoint;
        let told = self.tell(sender, endpoint, question);
        let changed = elsewhere(told).await;
        self.passwords.forget();
        Ok(changed?)
    }

    async fn identify(
        &self,
        request: &RequestInfo,
        token: &str,
    ) -> Result<Option<Arc<AuthIdentity>>, RegistryError> {
        let Some(endpoint) = &self.config.request_auth_endpoint else {
            return Ok(None);
        };
        let path = || sha2::Sha256::digest(request.path.as_bytes()).into();
        let key = TokenQuestion {
            token: sha2::Sha256::digest(token).into(),
            request: (!self.config.cache_by_token).then(|| (request.method.clone(), path())),
        };
        let ask = || {
            let body = serde_json::to_vec(&Bearer {
                token,
                method: request.method.as_str(),
                path: &request.path,
                request_id: &request.id,
            });
            let asked = self.service.ask(endpoint, body, &request.id);
            async move { bearer(&asked.await?) }
        };
        let answered = elsewhere(self.bearers.get(key, ask)).await;
        self.count(&answered);
        Ok(answered?.answer)
    }

    async fn allows(
        &self,
        caller: &Caller,
        right: Right,
        package: &PackageName,
    ) -> Result<Option<bool>, RegistryError> {
        let Some(endpoint) = self.endpoint_for(right) else {
            return Ok(None);
        };
        let key = RightQuestion {
            right,
            package: package.clone(),
            identity: caller.identity.clone(),
        };
        let ask = || {
            let identity = caller.identity.as_deref();
            let username = identity.and_then(|identity| identity.username.as_deref());
            let groups = identity.map_or(&[][..], |identity| &identity.groups);
            let body = serde_json::to_vec(&Wish {
                package: package.as_str(),
                username,
                groups,
                identity: identity.map(|_| Identity { username, groups }),
                request_id: &caller.request.id,
            });
            let asked = self.service.ask(endpoint, body, &caller.request.id);
            async move { right_of(&asked.await?) }
        };
        let answered = elsewhere(self.rights.get(key, ask)).await;
        Ok(answered?.answer)
    }

    fn decides(&self, right: Right) -> bool {
        self.endpoint_for(right).is_some()
    }

    fn list_limit(&self, right: Right) -> Option<Duration> {
        self.decides(right).then(|| self.service.list_limit())
    }

    fn registers_by_itself(&self) -> bool {
        false
    }
}

/// Who the answer to `request-auth` says the bearer is.
fn bearer(answer: &ServiceAnswer) -> Result<Option<Arc<AuthIdentity>>, Failure> {
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
        StatusCode::NOT_FOUND => return Err(Failure::NoEndpoint),
        status if !status.is_success() => return Err(Failure::BadStatus(status)),
        _ => {}
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| Failure::NotJson)?;
    if body["authenticated"] == Value::Bool(false) {
        return Ok(None);
    }
    let text = |key: &str| {
        let text = body[key].as_str().map(str::trim);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let list = |key: &str| {
        let texts = body[key].as_array()?.iter();
        let texts = texts.filter_map(|text| text.as_str().map(str::to_owned));
        Some(texts.filter(|text| !text.is_empty()).collect::<Vec<_>>())
    };
    let group = text("group");
    let username = ["username", "user", "name"].into_iter().find_map(text);
    let groups = list("groups").or_else(|| list("roles"));
    let identity = AuthIdentity {
        username: username.or_else(|| group.clone()),
        groups: groups.unwrap_or_else(|| group.into_iter().collect()),
    };
    let groups = identity.groups.iter().map(String::len);
    if groups.sum::<usize>() + identity.username.as_ref().map_or(0, String::len) > MAX_IDENTITY {
        return Err(Failure::TooLarge);
    }
    let is_anybody = identity.username.is_some() || !identity.groups.is_empty();
    Ok(is_anybody.then(|| Arc::new(identity)))
}

/// What the answer to one of the `allow` questions says.
fn right_of(answer: &ServiceAnswer) -> Result<Option<bool>, Failure> {
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(Some(false)),
        status if !status.is_success() => {
            return Err(refusal(answer, "the auth service refused the request"));
        }
        _ => {}
    }
    answer.decision().map_err(|_| Failure::NotJson)
}

/// A status other than success, with the text that clients are shown. What a service says of its own
/// failures is for the log.
fn refusal(answer: &ServiceAnswer, otherwise: &str) -> Failure {
    let status = answer.status;
    if !status.is_client_error() && !status.is_server_error() {
        return Failure::BadStatus(status);
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = body["error"].as_str().or_else(|| body["message"].as_str());
    let text = text.map(|text| {
        let shown = text.chars().filter(|character| !character.is_control());
        shown.take(MAX_MESSAGE).collect::<String>()
    });
    let text = text.filter(|text| !text.trim().is_empty());
    if status.is_server_error() {
        let answer = text.as_deref().unwrap_or_default();
        tracing::warn!(%status, answer, "the auth service failed");
        return Failure::Refused(status, "the auth service failed".to_owned());
    }
    Failure::Refused(status, text.unwrap_or_else(|| otherwise.to_owned()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: &str) -> ServiceAnswer {
        ServiceAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[track_caller]
    fn check(body: &Value, username: Option<&str>, groups: &[&str]) {
        let found = bearer(&answer(200, &body.to_string())).unwrap();
        let found = found.map(|found| (found.username.clone(), found.groups.clone()));
        let expected = (username.is_some() || !groups.is_empty()).then(|| {
            let groups = groups.iter().map(|&group| group.to_owned());
            (username.map(str::to_owned), groups.collect::<Vec<_>>())
        });
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn a_bearer_is_named_in_several_ways() {
        check(
            &json!({ "username": "a", "groups": ["g", "", 7] }),
            Some("a"),
            &["g"],
        );
        check(
            &json!({ "user": "a", "roles": ["r"], "group": "g" }),
            Some("a"),
            &["r"],
        );
        check(&json!({ "name": "a", "group": "g" }), Some("a"), &["g"]);
        check(&json!({ "group": "g" }), Some("g"), &["g"]);
        check(&json!({ "groups": ["g"] }), None, &["g"]);
        for nobody in [
            json!({}),
            json!({ "username": " " }),
            json!(true),
            json!({ "authenticated": false, "username": "a" }),
        ] {
            check(&nobody, None, &[]);
        }
    }

    #[test]
    fn statuses_mean_what_the_contract_says() {
        for status in [401, 403] {
            assert_eq!(bearer(&answer(status, "")).unwrap(), None);
            assert_eq!(right_of(&answer(status, "")).unwrap(), Some(false));
        }
        for status in [302, 404, 418, 500, 503] {
            let error = RegistryError::from(bearer(&answer(status, "{}")).unwrap_err());
            assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        }
        for status in [400, 404, 418, 500, 503] {
            let error = RegistryError::from(right_of(&answer(status, "{}")).unwrap_err());
            assert_eq!(error.status().as_u16(), status);
        }
        for (body, decided) in [
            ("true", Some(true)),
            (r#"{"allowed":false}"#, Some(false)),
            ("{}", None),
            (" ", None),
            ("\"yes\"", None),
        ] {
            assert_eq!(right_of(&answer(200, body)).unwrap(), decided, "{body}");
        }
        assert!(right_of(&answer(200, "<html>")).is_err());
        assert!(bearer(&answer(200, "")).is_err());
    }
}
