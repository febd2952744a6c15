//! [`open`]: from settings to a bucket that answers.

use std::time::Duration;

use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::bucket::Bucket;
use crate::{
    config::{StorageConfig, TarballBackend},
    storage::StorageError,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time without a byte of an answer; a part of an upload has to be sent in it.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens the bucket that the settings name. Succeeds when it answers.
pub async fn open(config: &StorageConfig) -> Result<Bucket, StorageError> {
    let bucket = connect(config)?;
    let key = bucket.key(".rustaccio/probe/health")?;
    bucket.read(&key).await.map_err(|error| {
        let operation = format!("opening the bucket `{}`", name_of(config));
        StorageError::backend(operation, error)
    })?;
    Ok(bucket)
}

/// The bucket of S3 that `config` names, without a look at it.
#[cfg(feature = "s3")]
pub fn connect_s3(config: &crate::config::S3Config) -> Result<Bucket, StorageError> {
    s3(config).map_err(|error| StorageError::backend("opening the bucket", error))
}

fn name_of(config: &StorageConfig) -> &str {
    match config.tarballs {
        TarballBackend::Local => "",
        TarballBackend::S3 => &config.s3.bucket,
        TarballBackend::Gcs => &config.gcs.bucket,
        TarballBackend::Azure => &config.azure.container,
    }
}

pub(super) fn connect(config: &StorageConfig) -> Result<Bucket, StorageError> {
    let built = match config.tarballs {
        TarballBackend::Local => Err("tarballs are kept on the local disk".into()),
        #[cfg(feature = "s3")]
        TarballBackend::S3 => s3(&config.s3),
        #[cfg(feature = "gcs")]
        TarballBackend::Gcs => gcs(&config.gcs),
        #[cfg(feature = "azure")]
        TarballBackend::Azure => azure(&config.azure),
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        _ => Err("this kind of bucket was not compiled in".into()),
    };
    built.map_err(|error: Problem| StorageError::backend("opening the bucket", error))
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Attempts of a request; with one, whoever asks decides whether there is another.
fn attempts(count: usize) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: count.saturating_sub(1),
        retry_timeout: Duration::from_secs(15),
    }
}

fn options(endpoint: Option<&str>) -> ClientOptions {
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http:"));
    ClientOptions::new()
        .with_allow_http(is_plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled()
        .with_pool_max_idle_per_host(32)
}

#[cfg(feature = "s3")]
#[expect(clippy::disallowed_methods, reason = "reads one small file at start")]
fn s3(config: &crate::config::S3Config) -> Result<Bucket, Problem> {
    use object_store::{
        Certificate,
        aws::{AmazonS3Builder, S3ConditionalPut},
    };
    use secrecy::ExposeSecret as _;

    let mut options = options(config.endpoint.as_deref());
    if let Some(path) = &config.ca_bundle {
        for certificate in Certificate::from_pem_bundle(&std::fs::read(path)?)? {
            options = options.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.force_path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(options);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        builder = builder
            .with_access_key_id(id.expose_secret())
            .with_secret_access_key(secret.expose_secret());
    }
    let store = builder.clone().with_retry(attempts(4)).build()?;
    let once = builder.with_retry(attempts(1)).build()?;
    Ok(Bucket::new(store, once, &config.prefix, false))
}

#[cfg(feature = "gcs")]
fn gcs(config: &crate::config::GcsConfig) -> Result<Bucket, Problem> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    use secrecy::ExposeSecret as _;

    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&config.bucket)
        .with_client_options(options(config.endpoint.as_deref()));
    match &config.service_account {
        Some(account) => {
            let account = account.expose_secret();
            builder = if account.trim_start().starts_with('{') {
                builder.with_service_account_key(account)
            } else {
                builder.with_service_account_path(account)
            };
        }
        // Writes ask for a token even where nothing is to be signed.
        None if config.endpoint.is_some() => {
            builder = builder
                .with_skip_signature(true)
                .with_bearer_token("anonymous");
        }
        None => {}
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let store = builder.clone().with_retry(attempts(4)).build()?;
    let once = builder.with_retry(attempts(1)).build()?;
    Ok(Bucket::new(store, once, &config.prefix, true))
}

#[cfg(feature = "azure")]
fn azure(config: &crate::config::AzureConfig) -> Result<Bucket, Problem> {
    use object_store::azure::MicrosoftAzureBuilder;
    use secrecy::ExposeSecret as _;

    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_account(&config.account)
        .with_container_name(&config.container)
        .with_client_options(options(config.endpoint.as_deref()));
    if let Some(key) = &config.access_key {
        builder = builder.with_access_key(key.expose_secret());
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let store = builder.clone().with_retry(attempts(4)).build()?;
    let once = builder.with_retry(attempts(1)).build()?;
    Ok(Bucket::new(store, once, &config.prefix, false))
}
