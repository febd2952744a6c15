//! What others are told of what happens here: a sink of events, Verdaccio's `notify`, a trail of audit.

use std::{path::PathBuf, time::Duration};

use handlebars::Template;
use http::{HeaderMap, Method};
use regex::Regex;
use secrecy::SecretString;
use url::Url;

/// Settings of the sink of events, and of `notify`.
#[derive(Clone, Debug)]
pub struct EventsConfig {
    /// Whether events go to a service over HTTP.
    pub is_http: bool,
    /// The address of the service.
    pub base_url: Option<Url>,
    /// The path below it.
    pub endpoint: String,
    /// How long it has for an answer.
    pub timeout: Duration,
    /// What events are signed with.
    pub secret: Option<SecretString>,
    /// How many events may wait.
    pub capacity: usize,
    /// The hooks of `notify`.
    pub hooks: Vec<HookConfig>,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            is_http: false,
            base_url: None,
            endpoint: "/events/registry".to_owned(),
            timeout: Duration::from_millis(2000),
            secret: None,
            capacity: 10_000,
            hooks: Vec::new(),
        }
    }
}

/// One hook of `notify`: a request for each publish and each removal.
#[derive(Clone, Debug)]
pub struct HookConfig {
    /// Its path in the file, such as `notify` or `notify.chat`.
    pub path: String,
    /// Where it goes. May hold a secret.
    pub endpoint: Url,
    /// By which method.
    pub method: Method,
    /// With which headers. They may hold secrets.
    pub headers: HeaderMap,
    /// What it says.
    pub content: Template,
    /// The packages that it is about; all of them without a pattern.
    pub packages: Option<Regex>,
}

/// Settings of the trail of audit.
#[derive(Clone, Debug)]
pub struct AuditLogConfig {
    /// The file; without it there is no trail.
    pub file: Option<PathBuf>,
    /// How large the file may become before another is begun; 0 for any size.
    pub max_size: u64,
    /// How many full files are kept; 0 for all.
    pub max_files: usize,
}

impl Default for AuditLogConfig {
    fn default() -> Self {
        Self {
            file: None,
            max_size: 100 << 20,
            max_files: 0,
        }
    }
}
