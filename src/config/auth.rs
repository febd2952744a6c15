//! Accounts, tokens and administrators.

use std::{path::PathBuf, time::Duration};

use regex::Regex;
use url::Url;

/// Whether visitors may make accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Anybody may.
    #[default]
    Open,
    /// Nobody may; accounts are made on the command line.
    Closed,
}

/// Who keeps accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthBackend {
    /// The registry itself.
    #[default]
    Local,
    /// A company's own service.
    Http,
}

/// What a service that keeps accounts is asked, and how. An endpoint that is not set is not asked.
#[derive(Clone, Debug)]
pub struct AuthHttpConfig {
    /// Its address.
    pub base_url: Option<Url>,
    /// Where users are made.
    pub add_user_endpoint: String,
    /// Where passwords are checked.
    pub login_endpoint: String,
    /// Where passwords are changed.
    pub change_password_endpoint: String,
    /// Where the bearers of tokens are known.
    pub request_auth_endpoint: Option<String>,
    /// Where it is decided who may read a package.
    pub allow_access_endpoint: Option<String>,
    /// Where it is decided who may publish one.
    pub allow_publish_endpoint: Option<String>,
    /// Where it is decided who may unpublish one.
    pub allow_unpublish_endpoint: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long an answer counts after it was asked for; zero: for one request.
    pub cache_ttl: Duration,
    /// How many answers of a kind are remembered; 0: any number.
    pub cache_max_entries: usize,
    /// Whether who a token's bearer is holds for all that he asks for, or only for the method and
    /// the path that the service was told.
    pub cache_by_token: bool,
}

impl Default for AuthHttpConfig {
    fn default() -> Self {
        Self {
            base_url: None,
            add_user_endpoint: "/adduser".to_owned(),
            login_endpoint: "/authenticate".to_owned(),
            change_password_endpoint: "/change-password".to_owned(),
            request_auth_endpoint: None,
            allow_access_endpoint: None,
            allow_publish_endpoint: None,
            allow_unpublish_endpoint: None,
            timeout: Duration::from_secs(5),
            cache_ttl: Duration::from_secs(2),
            cache_max_entries: 10_000,
            cache_by_token: false,
        }
    }
}

/// A file of users and the hashes of their passwords, which is the truth about both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtpasswdConfig {
    /// The file; one that is missing has no users.
    pub file: PathBuf,
    /// The cost of new hashes, which are bcrypt's: twice the work for each step.
    pub rounds: u32,
}

impl Default for HtpasswdConfig {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            rounds: 10,
        }
    }
}

/// Settings of accounts.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// The file that users are in, where they are in one.
    pub htpasswd: Option<HtpasswdConfig>,
    /// Who keeps accounts.
    pub backend: AuthBackend,
    /// Whether tokens come from outside only, so that nobody signs in here.
    pub is_external: bool,
    /// The service that keeps accounts.
    pub http: AuthHttpConfig,
    /// Whether visitors may make accounts.
    pub registration: Registration,
    /// The largest number of accounts, if there is one.
    pub max_users: Option<usize>,
    /// The smallest length of a new password in characters.
    pub password_min: usize,
    /// What a new password has to match besides, if anything.
    pub password_pattern: Option<Regex>,
    /// How long a login token lives; `None` for ever.
    pub token_ttl: Option<Duration>,
    /// How long a web login may take.
    pub login_session_ttl: Duration,
}

impl AuthConfig {
    /// Whether visitors can make accounts here.
    pub fn anyone_can_register(&self) -> bool {
        self.registration == Registration::Open && !self.is_external
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            htpasswd: None,
            backend: AuthBackend::Local,
            is_external: false,
            http: AuthHttpConfig::default(),
            registration: Registration::Open,
            max_users: None,
            password_min: 3,
            password_pattern: None,
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
