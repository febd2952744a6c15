//! Floor 1: settings as data. One typed tree, filled from YAML and the environment.

mod auth;
mod coordination;
mod env;
mod events;
mod examples;
mod features;
mod foreign;
mod governance;
mod keys;
mod load;
mod log;
mod notify;
mod npmrc;
mod packages;
mod policy;
mod problem;
mod profile;
mod publish;
mod rules;
mod server;
mod show;
mod storage;
mod table;
mod telemetry;
mod units;
mod uplink_file;
mod uplinks;
mod upstream;
mod verdaccio;
mod web;
mod yaml;

use std::{collections::BTreeMap, path::PathBuf};

pub use auth::{
    AdminConfig, AuthBackend, AuthConfig, AuthHttpConfig, HtpasswdConfig, Registration,
};
pub use coordination::{CoordinationBackend, CoordinationConfig, LeaseBucketConfig};
pub use env::Env;
pub use events::{AuditLogConfig, EventsConfig, HookConfig};
pub use examples::{Example, examples};
pub use features::FEATURES;
pub use governance::{QuotaBackend, QuotaConfig, RateLimitBackend, RateLimitConfig};
pub use keys::FILE_KEYS;
pub use load::{Meaning, Reading, Sources};
pub use log::{LogConfig, LogFormat};
pub use npmrc::{NpmSettings, credentials_in};
pub use packages::{PackageRule, PackagesConfig};
pub use policy::{PolicyBackend, PolicyConfig};
pub use problem::{Problem, Source, describe};
pub use publish::PublishConfig;
pub use server::{ListenAddress, ServerConfig, TlsConfig, TrustProxy};
pub use storage::{
    AzureConfig, CacheConfig, GcsConfig, MetadataBackend, PostgresConfig, S3Config, StorageConfig,
    TarballBackend, VerdaccioFolder,
};
pub use table::{Setting, settings};
pub use telemetry::{MetricsConfig, TracesConfig};
pub(crate) use units::{size as parse_size, span as parse_span};
use uplink_file::UplinkDefaults;
pub use uplinks::{UplinkAuth, UplinkConfig, UplinksConfig};
pub use web::{LANGUAGES, WebConfig};

/// All settings of a registry.
#[derive(Clone, Debug)]
pub struct Config {
    /// The path below which the registry is, without a slash at its end; empty for the root.
    pub url_prefix: String,
    /// Where the server listens, and what it puts up with.
    pub server: ServerConfig,
    /// Where data lives.
    pub storage: StorageConfig,
    /// How nodes take turns at writing.
    pub coordination: CoordinationConfig,
    /// How many requests a caller may make in a short while.
    pub rate_limit: RateLimitConfig,
    /// How much a tenant may ask for on a day.
    pub quota: QuotaConfig,
    /// The upstream registries.
    pub uplinks: UplinksConfig,
    /// Who may do what with which names.
    pub packages: PackagesConfig,
    /// Accounts.
    pub auth: AuthConfig,
    /// Who decides before the rules.
    pub policy: PolicyConfig,
    /// Administrators.
    pub admin: AdminConfig,
    /// What a publish may do.
    pub publish: PublishConfig,
    /// What browsers see.
    pub web: WebConfig,
    /// Whether audits are forwarded to the uplinks.
    pub audit: bool,
    /// What others are told of what happens here.
    pub events: EventsConfig,
    /// The trail of audit.
    pub audit_log: AuditLogConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What is counted.
    pub metrics: MetricsConfig,
    /// What is traced.
    pub traces: TracesConfig,
    readings: Vec<Reading>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    given: BTreeMap<&'static str, Given>,
    uplinks_source: Source,
    packages_source: Source,
}

/// A text that somebody gave for a setting.
#[derive(Clone, Debug)]
struct Given {
    text: String,
    source: Source,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url_prefix: String::new(),
            server: ServerConfig::default(),
            storage: StorageConfig::default(),
            coordination: CoordinationConfig::default(),
            rate_limit: RateLimitConfig::default(),
            quota: QuotaConfig::default(),
            uplinks: UplinksConfig::default(),
            packages: PackagesConfig::default(),
            auth: AuthConfig::default(),
            policy: PolicyConfig::default(),
            admin: AdminConfig::default(),
            publish: PublishConfig::default(),
            web: WebConfig::default(),
            audit: true,
            events: EventsConfig::default(),
            audit_log: AuditLogConfig::default(),
            log: LogConfig::default(),
            metrics: MetricsConfig::default(),
            traces: TracesConfig::default(),
            readings: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            given: BTreeMap::new(),
            uplinks_source: Source::Default,
            packages_source: Source::Default,
        }
    }
}

impl Config {
    /// The settings of this process's environment, and of the files that it names. Problems are
    /// kept; starting a registry with them fails and tells all.
    pub fn from_env() -> Self {
        Self::load(&Sources {
            env: Env::of_process(),
            ..Sources::default()
        })
    }

    /// The same, with a file on top of those that the environment names. All problems in one text.
    pub fn from_env_with_config_file(path: PathBuf) -> Result<Self, String> {
        let config = Self::load(&Sources {
            env: Env::of_process(),
            file: Some(path),
            ..Sources::default()
        });
        if config.problems.is_empty() {
            Ok(config)
        } else {
            Err(config.describe_problems())
        }
    }

    /// The settings of `sources`; problems are kept.
    pub fn load(sources: &Sources) -> Self {
        let mut config = load::load(sources);
        // RUST_LOG is everybody's, not ours, and has no place in the table.
        config.log.directives = sources.env.get("RUST_LOG").map(str::to_owned);
        config
    }

    /// What each line of the files means, in their order.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// What must be put right before a registry can start.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What is probably not as it was meant.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// All problems, a line each.
    pub fn describe_problems(&self) -> String {
        describe(&self.problems)
    }

    /// What turned out to be wrong with a setting (a variable, or a path below `uplinks` or
    /// `packages`) when it was used.
    pub(crate) fn problem(&self, setting: &str, value: &str, message: &str) -> Problem {
        let known = settings().find(|known| known.variable == setting);
        let given = known.and_then(|known| Some((known, self.given.get(known.variable)?)));
        match given {
            Some((known, given)) => {
                Problem::new(known.name(&given.source), value, &given.source, message)
            }
            None if setting.starts_with("uplinks.") => {
                Problem::new(setting, value, &self.uplinks_source, message)
            }
            None if setting.starts_with("packages.") => {
                Problem::new(setting, value, &self.packages_source, message)
            }
            None => {
                let source = Source::Variable(setting.to_owned());
                Problem::new(setting, value, &source, message)
            }
        }
    }
}
