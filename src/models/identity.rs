//! Who is calling: [`AuthIdentity`] as an authenticator gives it, [`Caller`] as the floors use it.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{PackageName, SecondFactor, Username};

/// What an authenticator knows about a request's credentials.
///
/// Part of the embedding API: an `AuthHook` builds it literally.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuthIdentity {
    /// The user, if the credentials name one.
    pub username: Option<String>,
    /// The groups that the authenticator vouches for.
    pub groups: Vec<String>,
}

impl AuthIdentity {
    /// The name in messages and events: the user, else the first group.
    pub fn primary_name(&self) -> Option<&str> {
        self.username
            .as_deref()
            .or_else(|| self.groups.first().map(String::as_str))
    }
}

/// Limits that a token puts on what its user may otherwise do. The default limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenLimits {
    /// Refuses everything that changes something.
    pub is_readonly: bool,
    /// When not empty, the only packages that the token works for.
    pub packages: Vec<PackageName>,
    /// When not empty, the only scopes (with their `@`) that the token works for.
    pub scopes: Vec<String>,
}

impl TokenLimits {
    /// Whether the token may do all that its user may.
    pub fn are_none(&self) -> bool {
        !self.is_readonly && self.packages.is_empty() && self.scopes.is_empty()
    }

    /// Whether the token may be used for `name` at all.
    pub fn cover(&self, name: &PackageName) -> bool {
        (self.packages.is_empty() && self.scopes.is_empty())
            || self.packages.contains(name)
            || name
                .scope()
                .is_some_and(|scope| self.scopes.iter().any(|limit| limit == scope))
    }
}

/// The organisation and the project that a trusted proxy says a request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// The organisation, if there is one.
    pub org_id: Option<Arc<str>>,
    /// The project, if there is one.
    pub project_id: Option<Arc<str>>,
}

/// For how long a request has waited for somebody, in microseconds: every request has room for it.
#[derive(Debug, Default)]
pub struct Waited(AtomicU32);

impl Waited {
    /// Counts `time` too.
    pub fn add(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let add = |waited: u32| Some(waited.saturating_add(micros));
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// What is left of `limit`.
    pub fn left_of(&self, limit: Duration) -> Duration {
        limit.saturating_sub(Duration::from_micros(self.0.load(Ordering::Relaxed).into()))
    }
}

/// What a request says of itself, for those who are asked about it or told of it.
#[derive(Debug, Default)]
pub struct RequestInfo {
    /// `x-request-id`.
    pub id: Arc<str>,
    /// Its method.
    pub method: http::Method,
    /// Its path as the client sent it, without the prefix of the registry and without a query.
    pub path: Box<str>,
    /// For whom it is.
    pub tenant: Tenant,
    /// How long its lists waited for the policy service.
    pub waited_for_policy: Waited,
    /// How long its lists waited for those who keep accounts.
    pub waited_for_accounts: Waited,
}

/// Everything that a decision may depend on: identity, token limits, address, the request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// `None` for an anonymous caller.
    pub identity: Option<Arc<AuthIdentity>>,
    /// How the token begins that was used, if it was one of ours.
    pub token: Option<Arc<str>>,
    /// Limits of the token that was used.
    pub limits: Arc<TokenLimits>,
    /// What the account wants as a second factor, and what the request shows.
    pub second_factor: SecondFactor,
    /// The client's address, forwarded by a trusted proxy or the socket's; `None` on a unix socket.
    pub address: Option<IpAddr>,
    /// The request that is being answered.
    pub request: Arc<RequestInfo>,
    /// `npm-session` or `x-npm-session` of the request; tells a client's own retry apart.
    pub session: Option<Arc<str>>,
}

impl Caller {
    /// Whether nobody is signed in.
    pub fn is_anonymous(&self) -> bool {
        self.identity.is_none()
    }

    /// The caller as far as her token goes: for a package that it is not for, she is anybody.
    pub fn within_limits(&self, name: &PackageName) -> Cow<'_, Self> {
        if self.limits.cover(name) {
            return Cow::Borrowed(self);
        }
        Cow::Owned(self.without_identity())
    }

    /// The same request from somebody who is not signed in.
    #[must_use]
    pub fn without_identity(&self) -> Self {
        Self {
            address: self.address,
            request: Arc::clone(&self.request),
            session: self.session.clone(),
            ..Self::default()
        }
    }

    /// The signed-in user's name, if the identity has one and it is a valid name.
    pub fn username(&self) -> Option<Username> {
        self.identity.as_ref()?.username.as_deref()?.parse().ok()
    }

    /// The name for messages and events; `anonymous` without an identity.
    pub fn display_name(&self) -> &str {
        self.identity
            .as_ref()
            .and_then(|identity| identity.primary_name())
            .unwrap_or("anonymous")
    }
}
