//! What the registry tells machines about itself: metrics and traces.

use url::Url;

/// Settings of the metrics.
#[derive(Clone, Debug)]
pub struct MetricsConfig {
    /// Whether anything is counted.
    pub are_on: bool,
    /// Where they are read, below the prefix of the registry.
    pub path: String,
    /// Whether only administrators may.
    pub require_admin: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            are_on: false,
            path: "/-/metrics".to_owned(),
            require_admin: true,
        }
    }
}

/// Settings of the traces.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// Whether spans are sent.
    pub are_on: bool,
    /// Where to: the address for traces of a collector; `None` for one on this machine.
    pub endpoint: Option<Url>,
    /// What the registry is called there.
    pub service_name: String,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            are_on: false,
            endpoint: None,
            service_name: "rustaccio".to_owned(),
        }
    }
}

impl TracesConfig {
    /// The address of the collector that most run beside their programs.
    pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:4318/v1/traces";

    /// Where spans are sent.
    pub fn endpoint(&self) -> &str {
        let own = self.endpoint.as_ref();
        own.map_or(Self::DEFAULT_ENDPOINT, Url::as_str)
    }
}
