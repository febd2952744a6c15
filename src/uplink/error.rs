//! [`UplinkError`]: why an uplink did not give what was asked for.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{BoxError, RegistryError},
    telemetry::Asked,
};

/// Yarn and others wait for as long as they are told; minutes of silence look like a hang.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why an uplink did not give what was asked for. Never "not found": that is an answer.
///
/// Cheap to clone, because all who wait for one answer share it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// No progress in time.
    #[error("no answer in time")]
    Timeout(#[source] Arc<reqwest::Error>),
    /// No connection, or it broke.
    #[error("connection failed")]
    Unreachable(#[source] Arc<reqwest::Error>),
    /// A status that is neither success nor "not found".
    #[error("status {0}")]
    BadStatus(u16),
    /// Upstream wants to be left alone for a while.
    #[error("too many requests")]
    RateLimited {
        /// For how long, if it said so.
        retry_after: Option<Duration>,
    },
    /// The body is larger than we take.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body is not what was asked for.
    #[error("unusable body: {0}")]
    BadBody(&'static str),
    /// The body ended too early or too late.
    #[error("the body has {received} bytes instead of {announced}")]
    Truncated {
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        announced: u64,
    },
    /// A redirect without end or without a usable address.
    #[error("bad redirect")]
    BadRedirect,
    /// The address may not be asked.
    #[error(
        "`{origin}` is neither an uplink nor a public address; if it is right, name it in `uplinks`"
    )]
    Refused {
        /// The origin of the address.
        origin: String,
    },
    /// The name has no address here, so that nobody can tell where a proxy would find it.
    #[error(
        "`{host}` cannot be resolved here and is not asked for through a proxy; if it is right, name it in `uplinks`"
    )]
    Unresolved {
        /// The name.
        host: String,
    },
    /// The uplink says that the question came from the registry that it would ask itself.
    #[error("the uplink leads back to this registry")]
    Circle,
    /// The uplink failed too often and is left alone for a while.
    #[error("left alone after repeated failures")]
    BreakerOpen {
        /// For how much longer.
        retry_after: Duration,
    },
}

impl UplinkError {
    /// Whether the uplink itself is in trouble, which the breaker counts.
    pub(super) fn is_trouble(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Unreachable(_) | Self::Truncated { .. } => true,
            Self::BadStatus(status) => *status >= 500,
            _ => false,
        }
    }

    /// Whether it holds only for those who came the same way, see [`crate::lifecycle::Hops`].
    pub fn is_circle(&self) -> bool {
        matches!(self, Self::Circle)
    }

    /// Whether any other question to this uplink would fail too.
    pub fn concerns_all(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_)
                | Self::Unreachable(_)
                | Self::RateLimited { .. }
                | Self::BreakerOpen { .. }
        )
    }

    /// Whether asking again at once may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Unreachable(_) | Self::RateLimited { .. } => true,
            Self::BadStatus(status) => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// What it is counted as.
    pub(super) fn kind(&self) -> Asked {
        match self {
            Self::Timeout(_) => Asked::Timeout,
            Self::Unreachable(_) | Self::Truncated { .. } | Self::Unresolved { .. } => {
                Asked::Unreachable
            }
            Self::BadStatus(_) | Self::Circle => Asked::BadStatus,
            Self::RateLimited { .. } => Asked::RateLimited,
            Self::TooLarge { .. } | Self::BadBody(_) | Self::BadRedirect => Asked::Unusable,
            Self::BreakerOpen { .. } => Asked::LeftAlone,
            Self::Refused { .. } => Asked::Refused,
        }
    }

    pub(super) fn from_reqwest(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::Timeout(Arc::new(error))
        } else if error.is_decode() {
            Self::BadBody("it cannot be decoded")
        } else {
            Self::Unreachable(Arc::new(error))
        }
    }
}

impl From<UplinkError> for RegistryError {
    fn from(error: UplinkError) -> Self {
        let source: BoxError = error.clone().into();
        let unavailable = |retry_after, source| Self::UpstreamUnavailable {
            message: "one of the uplinks is down, refuse to serve request".to_owned(),
            retry_after,
            source,
        };
        let bad = |message: &str, source| Self::UpstreamBadGateway {
            message: message.to_owned(),
            source,
        };
        match error {
            UplinkError::Timeout(_) => Self::UpstreamTimeout {
                message: "the uplink did not answer in time".to_owned(),
                source,
            },
            UplinkError::Unreachable(_) | UplinkError::BadStatus(503 | 504) => {
                unavailable(None, source)
            }
            UplinkError::RateLimited { retry_after } => unavailable(retry_after, source),
            UplinkError::BreakerOpen { retry_after } => {
                unavailable(Some(retry_after.min(LONGEST_PAUSE)), source)
            }
            UplinkError::BadStatus(_) => bad("bad status code", source),
            UplinkError::TooLarge { .. }
            | UplinkError::BadBody(_)
            | UplinkError::Truncated { .. } => bad("bad uplink payload", source),
            UplinkError::BadRedirect => bad("the uplink redirects without end", source),
            UplinkError::Circle => Self::Circle,
            UplinkError::Refused { .. } | UplinkError::Unresolved { .. } => {
                bad("the uplink names an address that may not be asked", source)
            }
        }
    }
}
