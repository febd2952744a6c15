//! The one error that crosses the HTTP and embedding boundary.

use std::{error::Error, fmt::Display, time::Duration};

use http::StatusCode;

/// Boxed source of an internal failure.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// The message of an error with its causes, for whoever may know them all.
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Why a registry operation failed, in terms a client can act on.
///
/// Lower floors have their own error enums and convert them here, in their own file, so that
/// this module depends on nothing above it. `message` is what the client reads; a `source` is for
/// the log only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// 400: the request itself is malformed.
    #[error("{message}")]
    BadRequest {
        /// Text for the client.
        message: String,
    },
    /// 401: credentials are missing or wrong.
    #[error("{message}")]
    Unauthorized {
        /// Text for the client.
        message: String,
    },
    /// 401: nobody is signed in and the rules want somebody for a write.
    #[error("{message}")]
    PolicyDenied {
        /// Text for the client.
        message: String,
    },
    /// 401: the account has a second factor, and the request lacks it.
    #[error("{message}")]
    OneTimePassRequired {
        /// Text for the client.
        message: &'static str,
        /// Whose account it is.
        user: String,
    },
    /// 403: the caller is known but may not do this.
    #[error("{message}")]
    Forbidden {
        /// Text for the client.
        message: String,
    },
    /// 404: the thing named in the request does not exist.
    #[error("{message}")]
    NotFound {
        /// Text for the client.
        message: String,
    },
    /// 405: the address exists for other methods.
    #[error("this address does not take this method")]
    MethodNotAllowed,
    /// A registry cannot be built with these settings.
    #[error("{message}")]
    Settings {
        /// What is wrong, with the settings' names.
        message: String,
    },
    /// 408: the request made no progress in time.
    #[error("the request made no progress in time")]
    RequestTimeout,
    /// 409: the write clashes with what is stored.
    #[error("{message}")]
    Conflict {
        /// Text for the client.
        message: String,
    },
    /// 413: the body is larger than the configuration allows.
    #[error("request entity too large")]
    PayloadTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// 413: the body says more than is worked on at once.
    #[error("{message}")]
    TooMuch {
        /// Text for the client.
        message: String,
    },
    /// 416: no byte of the asked range exists.
    #[error("the range is not satisfiable")]
    RangeNotSatisfiable {
        /// The length of the whole in bytes.
        length: u64,
    },
    /// 422: the body is well-formed but its fields cannot be used.
    #[error("{message}")]
    Unprocessable {
        /// Text for the client.
        message: String,
    },
    /// 429: too many requests, or too many failed logins.
    #[error("{message}")]
    RateLimited {
        /// Text for the client.
        message: String,
        /// When the client may try again.
        retry_after: Duration,
    },
    /// 429: a quota is used up.
    #[error("quota exceeded")]
    QuotaExceeded {
        /// When the client may try again.
        retry_after: Duration,
    },
    /// 502: upstream answered with something that cannot be used.
    #[error("{message}")]
    UpstreamBadGateway {
        /// Text for the client.
        message: String,
        /// What happened.
        source: BoxError,
    },
    /// 503: upstream cannot be asked now.
    #[error("{message}")]
    UpstreamUnavailable {
        /// Text for the client.
        message: String,
        /// When upstream, or our breaker, wants to be asked again.
        retry_after: Option<Duration>,
        /// What happened.
        source: BoxError,
    },
    /// 504: upstream did not answer in time.
    #[error("{message}")]
    UpstreamTimeout {
        /// Text for the client.
        message: String,
        /// What happened.
        source: BoxError,
    },
    /// 502: the policy service cannot decide, and the operator wants that to mean no.
    #[error("policy backend unavailable")]
    PolicyUnavailable(#[source] BoxError),
    /// 502: the service that keeps accounts cannot be asked.
    #[error("auth backend unavailable")]
    AuthUnavailable(#[source] BoxError),
    /// What the service that keeps accounts answered, with its status, where no other error is for
    /// that.
    #[error("{message}")]
    AuthRefused {
        /// Its status.
        status: StatusCode,
        /// Text for the client.
        message: String,
    },
    /// 502: leases cannot be taken, and the operator wants that to mean no.
    #[error("state coordination backend unavailable")]
    CoordinationUnavailable(#[source] BoxError),
    /// 502: the rate limit's backend cannot count, and the operator wants that to mean no.
    #[error("rate limiter backend unavailable")]
    RateLimiterUnavailable(#[source] BoxError),
    /// 502: the quota's backend cannot count, and the operator wants that to mean no.
    #[error("quota backend unavailable")]
    QuotaUnavailable(#[source] BoxError),
    /// 503: the storage backend failed. Never reported as "not found".
    #[error("storage is unavailable, try again later")]
    StorageUnavailable(#[source] BoxError),
    /// 507: there is no space left.
    #[error("no space left on the registry's storage")]
    StorageFull(#[source] BoxError),
    /// 503: the server is overloaded or going down.
    #[error("{message}")]
    Unavailable {
        /// Text for the client.
        message: String,
    },
    /// 508: the request came from this very registry, or an uplink would ask it in turn.
    #[error("loop detected: an uplink of this registry leads back to it")]
    Circle,
    /// 500: a bug or an unexpected failure; the client learns nothing more.
    #[error("internal server error")]
    Internal(#[source] BoxError),
}

const SIGN_IN_HINT: &str = "Send a Bearer token: run `npm login`, or put `//<registry host>/:_authToken=<token>` into .npmrc.";
const FORBIDDEN_HINT: &str =
    "You are signed in, but the registry's rules do not allow this. Ask an administrator.";
const OTP_HINT: &str =
    "Enter the code of your authenticator app, or add `--otp=<code>`; a recovery code does too.";
const CIRCLE_HINT: &str =
    "Point the uplink at the registry behind this one, or set RUSTACCIO_UPSTREAM=none.";
const AUTH_BACKEND_HINT: &str = "Try again; if it goes on, check the auth service.";
const POLICY_HINT: &str = "Try again; if it goes on, check the policy service.";

impl RegistryError {
    /// A 400 with `message`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest {
            message: message.into(),
        }
    }

    /// A 401 with `message`.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::Unauthorized {
            message: message.into(),
        }
    }

    /// The challenge for a second factor. Clients look for "one-time pass" in it.
    pub fn one_time_pass_required(user: &str, was_wrong: bool) -> Self {
        let message = if was_wrong {
            "The one-time pass is wrong or was used already. Enter a new one."
        } else {
            "You must provide a one-time pass. Upgrade your client to npm@latest in order to use \
             2FA."
        };
        Self::OneTimePassRequired {
            message,
            user: user.to_owned(),
        }
    }

    /// A 403 with `message`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::Forbidden {
            message: message.into(),
        }
    }

    /// A 404 with `message`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound {
            message: message.into(),
        }
    }

    /// The 404 for a package that is not there.
    pub fn no_such_package() -> Self {
        Self::not_found("no such package available")
    }

    /// The 404 for a version, or a dist-tag in its place, that is not there.
    pub fn no_such_version(version: impl Display) -> Self {
        Self::not_found(format!("this version doesn't exist: {version}"))
    }

    /// A 409 with `message`.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            message: message.into(),
        }
    }

    /// A 422 with `message`.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::Unprocessable {
            message: message.into(),
        }
    }

    /// A 500 that hides `source` from the client and keeps it for the log.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal(source.into())
    }

    /// What a service that keeps accounts said with `status`: the error that we have for it, else
    /// one of its own.
    pub fn answered_with(status: StatusCode, message: String) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::BadRequest { message },
            StatusCode::UNAUTHORIZED => Self::Unauthorized { message },
            StatusCode::FORBIDDEN => Self::Forbidden { message },
            StatusCode::NOT_FOUND => Self::NotFound { message },
            StatusCode::CONFLICT => Self::Conflict { message },
            StatusCode::UNPROCESSABLE_ENTITY => Self::Unprocessable { message },
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited {
                message,
                retry_after: Duration::from_secs(1),
            },
            status => Self::AuthRefused { status, message },
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.row().0
    }

    /// The stable, machine-readable code.
    pub fn code(&self) -> &'static str {
        self.row().1
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized { .. } | Self::PolicyDenied { .. } => Some(SIGN_IN_HINT),
            Self::Forbidden { .. } => Some(FORBIDDEN_HINT),
            Self::OneTimePassRequired { .. } => Some(OTP_HINT),
            Self::PolicyUnavailable(_) => Some(POLICY_HINT),
            Self::AuthUnavailable(_) => Some(AUTH_BACKEND_HINT),
            Self::Circle => Some(CIRCLE_HINT),
            _ => None,
        }
    }

    /// When the client may try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::QuotaExceeded { retry_after } => {
                Some(*retry_after)
            }
            Self::UpstreamUnavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The whole taxonomy in one table.
    fn row(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest { .. } => (S::BAD_REQUEST, "STORAGE_BAD_REQUEST"),
            Self::Unauthorized { .. } => (S::UNAUTHORIZED, "AUTH_UNAUTHORIZED"),
            Self::PolicyDenied { .. } => (S::UNAUTHORIZED, "POLICY_DENIED"),
            Self::OneTimePassRequired { .. } => (S::UNAUTHORIZED, "AUTH_OTP_REQUIRED"),
            Self::Forbidden { .. } => (S::FORBIDDEN, "AUTH_FORBIDDEN"),
            Self::NotFound { .. } => (S::NOT_FOUND, "STORAGE_NOT_FOUND"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Self::Conflict { .. } => (S::CONFLICT, "STORAGE_CONFLICT"),
            Self::PayloadTooLarge { .. } | Self::TooMuch { .. } => {
                (S::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE")
            }
            Self::RangeNotSatisfiable { .. } => (S::RANGE_NOT_SATISFIABLE, "RANGE_NOT_SATISFIABLE"),
            Self::Unprocessable { .. } => (S::UNPROCESSABLE_ENTITY, "STORAGE_UNPROCESSABLE"),
            Self::RateLimited { .. } => (S::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            Self::QuotaExceeded { .. } => (S::TOO_MANY_REQUESTS, "QUOTA_EXCEEDED"),
            Self::UpstreamBadGateway { .. } => (S::BAD_GATEWAY, "UPSTREAM_BAD_GATEWAY"),
            Self::UpstreamUnavailable { .. } => (S::SERVICE_UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
            Self::UpstreamTimeout { .. } => (S::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT"),
            Self::PolicyUnavailable(_) => (S::BAD_GATEWAY, "POLICY_BACKEND_UNAVAILABLE"),
            Self::AuthUnavailable(_) => (S::BAD_GATEWAY, "AUTH_BACKEND_UNAVAILABLE"),
            Self::AuthRefused { status, .. } => (*status, "AUTH_BACKEND_REFUSED"),
            Self::CoordinationUnavailable(_) => {
                (S::BAD_GATEWAY, "COORDINATION_BACKEND_UNAVAILABLE")
            }
            Self::RateLimiterUnavailable(_) => (S::BAD_GATEWAY, "RATE_LIMIT_BACKEND_UNAVAILABLE"),
            Self::QuotaUnavailable(_) => (S::BAD_GATEWAY, "QUOTA_BACKEND_UNAVAILABLE"),
            Self::StorageUnavailable(_) => (S::SERVICE_UNAVAILABLE, "STORAGE_UNAVAILABLE"),
            Self::StorageFull(_) => (S::INSUFFICIENT_STORAGE, "STORAGE_FULL"),
            Self::Unavailable { .. } => (S::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
            Self::Settings { .. } => (S::INTERNAL_SERVER_ERROR, "INVALID_SETTINGS"),
            Self::Circle => (S::LOOP_DETECTED, "LOOP_DETECTED"),
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        }
    }
}
