//! Where data lives, and how long it is remembered.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

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
    /// Whether what came from upstream is also in the bucket, for all nodes.
    pub is_shared: bool,
}

/// Where tarballs and manifests are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TarballBackend {
    /// In the data folder.
    #[default]
    Local,
    /// In a bucket of S3, or of what speaks like it.
    S3,
    /// In a bucket of Google's.
    Gcs,
    /// In a container of Azure's.
    Azure,
}

/// A bucket of S3.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The address of the store; `None` for Amazon's.
    pub endpoint: Option<String>,
    /// The name of a static key; `None` for what the environment offers.
    pub access_key_id: Option<SecretString>,
    /// The static key.
    pub secret_access_key: Option<SecretString>,
    /// What all keys begin with: empty, or with a slash at its end.
    pub prefix: String,
    /// Whether the bucket is in the path of addresses.
    pub force_path_style: bool,
    /// A file with certificate authorities to trust besides the system's.
    pub ca_bundle: Option<PathBuf>,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            prefix: String::new(),
            force_path_style: true,
            ca_bundle: None,
        }
    }
}

/// A bucket of Google's.
#[derive(Clone, Debug, Default)]
pub struct GcsConfig {
    /// Its name.
    pub bucket: String,
    /// A service account's key, or the path of its file.
    pub service_account: Option<SecretString>,
    /// What all keys begin with: empty, or with a slash at its end.
    pub prefix: String,
    /// The address of the store; `None` for Google's.
    pub endpoint: Option<String>,
}

/// A container of Azure's.
#[derive(Clone, Debug, Default)]
pub struct AzureConfig {
    /// The storage account.
    pub account: String,
    /// Its key; `None` for what the environment offers.
    pub access_key: Option<SecretString>,
    /// The container's name.
    pub container: String,
    /// What all keys begin with: empty, or with a slash at its end.
    pub prefix: String,
    /// The address of the store; `None` for Azure's.
    pub endpoint: Option<String>,
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

/// A folder that Verdaccio made, whose packages are used where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdaccioFolder {
    /// The folder of the packages' folders.
    pub root: PathBuf,
    /// The file with the list of hosted packages and the secret of Verdaccio's tokens.
    pub database: PathBuf,
    /// The patterns of the rules in their order; what matches one of them first is in this folder below
    /// `root`, or in `root` itself.
    pub subfolders: Vec<(String, Option<PathBuf>)>,
    /// The patterns of the rules in their order, each with whether uplinks are asked for such names.
    pub proxied: Vec<(String, bool)>,
    /// The uplinks' hosts, each with its port if that is not the usual one: what has its tarball there was not published here.
    pub uplinks: BTreeSet<String>,
}

/// Settings of storage.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// The folder of everything that is kept on disk. In a folder of Verdaccio's, `.rustaccio` in it:
    /// everything but hosted packages.
    pub data_dir: PathBuf,
    /// The folder of Verdaccio's that hosted packages are in, if it is one.
    pub verdaccio: Option<VerdaccioFolder>,
    /// Where tarballs and manifests are kept.
    pub tarballs: TarballBackend,
    /// The bucket of [`TarballBackend::S3`].
    pub s3: S3Config,
    /// The bucket of [`TarballBackend::Gcs`].
    pub gcs: GcsConfig,
    /// The container of [`TarballBackend::Azure`].
    pub azure: AzureConfig,
    /// Whether clients are sent to the bucket for tarballs.
    pub redirect: bool,
    /// The cache of what came from upstream.
    pub cache: CacheConfig,
    /// Where manifests and accounts are kept.
    pub metadata: MetadataBackend,
    /// The database that they are in, if they are in one.
    pub postgres: PostgresConfig,
    /// Whether others publish to the same storage.
    pub is_multi_node: bool,
    /// How long a hosted package is served from memory without a look at storage; zero looks at
    /// each read.
    pub package_cache_ttl: Duration,
    /// How long the absence of a package is remembered.
    pub negative_cache_ttl: Duration,
    /// How often storage is listed for what others have changed; zero never does.
    pub discovery_refresh: Duration,
    /// What secrets that must be readable again are encrypted with; `None` for a key in the data
    /// folder.
    pub secret_key: Option<SecretString>,
}

impl StorageConfig {
    /// The variable of the bucket's name that is needed and not set, if there is one.
    pub(crate) fn missing_bucket(&self) -> Option<&'static str> {
        let (name, variable) = match self.tarballs {
            TarballBackend::Local => return None,
            TarballBackend::S3 => (&self.s3.bucket, "RUSTACCIO_S3_BUCKET"),
            TarballBackend::Gcs => (&self.gcs.bucket, "RUSTACCIO_GCS_BUCKET"),
            TarballBackend::Azure if self.azure.account.is_empty() => {
                (&self.azure.account, "RUSTACCIO_AZURE_ACCOUNT")
            }
            TarballBackend::Azure => (&self.azure.container, "RUSTACCIO_AZURE_CONTAINER"),
        };
        name.is_empty().then_some(variable)
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".rustaccio-data"),
            verdaccio: None,
            tarballs: TarballBackend::default(),
            s3: S3Config::default(),
            gcs: GcsConfig::default(),
            azure: AzureConfig::default(),
            redirect: false,
            cache: CacheConfig::default(),
            metadata: MetadataBackend::default(),
            postgres: PostgresConfig::default(),
            is_multi_node: false,
            package_cache_ttl: Duration::ZERO,
            negative_cache_ttl: Duration::from_secs(30),
            discovery_refresh: Duration::ZERO,
            secret_key: None,
        }
    }
}

impl StorageConfig {
    /// Sets what nobody set, as it suits the number of nodes.
    pub(super) fn settle(&mut self, is_given: impl Fn(&str) -> bool) {
        if !self.is_multi_node {
            return;
        }
        if !is_given("RUSTACCIO_PACKAGE_CACHE_TTL_SECS") {
            self.package_cache_ttl = Duration::from_secs(120);
        }
        if !is_given("RUSTACCIO_PACKAGE_NEGATIVE_CACHE_TTL_SECS") {
            self.negative_cache_ttl = Duration::from_secs(5);
        }
        if !is_given("RUSTACCIO_PACKAGE_DISCOVERY_REFRESH_SECS") {
            self.discovery_refresh = Duration::from_secs(15);
        }
    }
}
