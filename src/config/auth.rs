//! Accounts, tokens and administrators.

use std::time::Duration;

/// Whether visitors may make accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Anybody may.
    #[default]
    Open,
    /// Nobody may; accounts are made on the command line.
    Closed,
}

/// Settings of local accounts.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Whether visitors may make accounts.
    pub registration: Registration,
    /// The largest number of accounts, if there is one.
    pub max_users: Option<usize>,
    /// The smallest length of a new password in characters.
    pub password_min: usize,
    /// How long a login token lives; `None` for ever.
    pub token_ttl: Option<Duration>,
    /// How long a web login may take.
    pub login_session_ttl: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            max_users: None,
            password_min: 3,
            token_ttl: Some(Duration::from_secs(2_592_000)),
            login_session_ttl: Duration::from_secs(120),
        }
    }
}

/// Who administers the registry.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// Whether every signed-in caller is an administrator. `None`: not set, which means yes only
    /// while visitors cannot make accounts themselves.
    pub allow_any_authenticated: Option<bool>,
    /// Users that are administrators.
    pub users: Vec<String>,
    /// Groups whose members are administrators.
    pub groups: Vec<String>,
}
