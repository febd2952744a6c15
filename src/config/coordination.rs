//! How nodes take turns at writing.

use std::time::Duration;

use secrecy::SecretString;

/// Where leases are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoordinationBackend {
    /// Nowhere: nodes do not take turns.
    #[default]
    None,
    /// In Redis.
    Redis,
}

/// Settings of leases.
#[derive(Clone, Debug)]
pub struct CoordinationConfig {
    /// Where they are kept.
    pub backend: CoordinationBackend,
    /// The address of Redis.
    pub redis_url: Option<SecretString>,
    /// What all keys in Redis begin with.
    pub lock_key: String,
    /// How long one lasts unless it is renewed.
    pub lease: Duration,
    /// How long a writer waits for his turn.
    pub acquire_timeout: Duration,
    /// How often he looks meanwhile.
    pub poll_interval: Duration,
    /// Whether to go on without one where the backend fails.
    pub fail_open: bool,
}

impl Default for CoordinationConfig {
    fn default() -> Self {
        Self {
            backend: CoordinationBackend::None,
            redis_url: None,
            lock_key: "rustaccio:state:lock".to_owned(),
            lease: Duration::from_millis(5000),
            acquire_timeout: Duration::from_millis(15_000),
            poll_interval: Duration::from_millis(100),
            fail_open: false,
        }
    }
}
