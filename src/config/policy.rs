//! Who decides before the rules: nobody, or a company's own service.

use std::time::Duration;

use url::Url;

/// Who decides before the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyBackend {
    /// Nobody.
    #[default]
    Local,
    /// A company's own service.
    Http,
}

/// Settings of decisions.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Who decides before the rules.
    pub backend: PolicyBackend,
    /// The address of the service.
    pub base_url: Option<Url>,
    /// Where it decides.
    pub decision_endpoint: String,
    /// Where it decides about many packages at once, if it does.
    pub batch_endpoint: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a decision counts after it was asked for; zero: for one request.
    pub cache_ttl: Duration,
    /// How many decisions are remembered; 0: any number.
    pub cache_max_entries: usize,
    /// How often those that no longer count are thrown away.
    pub cache_prune_interval: Duration,
    /// Whether the rules decide where the service fails; otherwise nothing is allowed then.
    pub fail_open: bool,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            backend: PolicyBackend::Local,
            base_url: None,
            decision_endpoint: "/authorize".to_owned(),
            batch_endpoint: None,
            timeout: Duration::from_secs(3),
            cache_ttl: Duration::from_secs(5),
            cache_max_entries: 10_000,
            cache_prune_interval: Duration::from_secs(30),
            fail_open: false,
        }
    }
}
