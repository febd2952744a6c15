//! Where data lives, and how long it is remembered.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

/// Settings of the cache of what came from upstream.
#[derive(Clone, Debug, Default)]
pub struct CacheConfig {
    /// Its folder; `None` for `cache` in the data folder.
    pub folder: Option<PathBuf>,
    /// Its largest size in bytes, if it has one.
    pub max_size: Option<u64>,
    /// How long an unused entry is kept, if there is a limit.
    pub max_age: Option<Duration>,
}

/// Where manifests and accounts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataBackend {
    /// Manifests beside their tarballs, accounts with them.
    #[default]
    Sidecar,
    /// Both in Postgres.
    Transactional,
}

/// Settings of Postgres.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// The database; without it, there is none.
    pub url: Option<SecretString>,
    /// The most connections at once.
    pub max_connections: u32,
    /// How long anything may take.
    pub timeout: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 10,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Settings of storage.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// The folder of everything that is kept on disk.
    pub data_dir: PathBuf,
    /// The cache of what came from upstream.
    pub cache: CacheConfig,
    /// Where manifests and accounts are kept.
    pub metadata: MetadataBackend,
    /// The database that they are in, if they are in one.
    pub postgres: PostgresConfig,
    /// How long a hosted package is served from memory without a look at storage; zero looks at
    /// each read.
    pub package_cache_ttl: Duration,
    /// How long the absence of a package is remembered.
    pub negative_cache_ttl: Duration,
    /// What secrets that must be readable again are encrypted with; `None` for a key in the data
    /// folder.
    pub secret_key: Option<SecretString>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".rustaccio-data"),
            cache: CacheConfig::default(),
            metadata: MetadataBackend::default(),
            postgres: PostgresConfig::default(),
            package_cache_ttl: Duration::ZERO,
            negative_cache_ttl: Duration::from_secs(30),
            secret_key: None,
        }
    }
}
