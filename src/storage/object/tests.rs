//! The suites, over the stores that the environment names.
#![cfg(feature = "test-services")]

use std::sync::Arc;

use secrecy::SecretString;

use super::{Bucket, ObjectBlobs, ObjectMetadata, client::connect, honours_preconditions, open};
use crate::{
    config::{Env, S3Config, StorageConfig, TarballBackend},
    lifecycle::random_hex,
    models::{PackageName, TarballName, Timestamp},
    storage::{
        Blobs as _, Created, MetadataStore as _, StorageError, TemporaryFolder, conformance,
    },
};

fn variable(name: &str) -> String {
    let value = Env::of_process().get(name).map(str::to_owned);
    value.unwrap_or_else(|| {
        panic!("{name} is not set; these tests need services, run them through ./scripts/test")
    })
}

#[cfg(feature = "s3")]
fn s3() -> StorageConfig {
    StorageConfig {
        tarballs: TarballBackend::S3,
        s3: S3Config {
            bucket: variable("RUSTACCIO_S3_IT_BUCKET"),
            endpoint: Some(variable("RUSTACCIO_S3_IT_ENDPOINT")),
            access_key_id: Some(SecretString::from(variable("RUSTACCIO_S3_IT_ACCESS_KEY"))),
            secret_access_key: Some(SecretString::from(variable("RUSTACCIO_S3_IT_SECRET_KEY"))),
            prefix: format!("unit/{}/", random_hex::<8>()),
            ..S3Config::default()
        },
        ..StorageConfig::default()
    }
}

/// Azurite's account and key are the same everywhere.
#[cfg(feature = "azure")]
fn azure() -> StorageConfig {
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    StorageConfig {
        tarballs: TarballBackend::Azure,
        azure: crate::config::AzureConfig {
            account: "devstoreaccount1".to_owned(),
            access_key: Some(SecretString::from(KEY)),
            container: "rustaccio-it".to_owned(),
            prefix: format!("unit/{}/", random_hex::<8>()),
            endpoint: Some(variable("RUSTACCIO_AZURE_IT_ENDPOINT")),
        },
        ..StorageConfig::default()
    }
}

#[cfg(feature = "gcs")]
fn gcs() -> StorageConfig {
    StorageConfig {
        tarballs: TarballBackend::Gcs,
        gcs: crate::config::GcsConfig {
            bucket: "rustaccio-it".to_owned(),
            prefix: format!("unit/{}/", random_hex::<8>()),
            endpoint: Some(variable("RUSTACCIO_GCS_IT_ENDPOINT")),
            service_account: None,
        },
        ..StorageConfig::default()
    }
}

async fn conforms(config: &StorageConfig) {
    let bucket = open(config).await.unwrap();
    assert!(honours_preconditions(&bucket).await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let temporary = TemporaryFolder::open(folder.path()).unwrap();
    let tier = super::CacheTier::new(bucket.clone());
    crate::storage::cache::conformance::tier(&tier, &temporary).await;
    let metadata = Arc::new(ObjectMetadata::new(bucket.clone()));
    conformance::metadata_store(metadata.clone()).await;
    let blobs = Arc::new(ObjectBlobs::new(bucket.clone()));
    large_blobs_are_created_once(&bucket, &blobs, &temporary).await;
    conformance::blobs(conformance::Backend {
        temporary,
        metadata,
        blobs,
    })
    .await;
}

/// Those that do not fit into one request.
async fn large_blobs_are_created_once(
    bucket: &Bucket,
    blobs: &Arc<ObjectBlobs>,
    temporary: &TemporaryFolder,
) {
    const LENGTH: usize = 16 * 1024 * 1024;
    let name: PackageName = "@scope/large".parse().unwrap();
    for round in 0..2 {
        let file: TarballName = format!("large-{round}.0.0.tgz").parse().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..4_u8 {
            let mut blob = temporary.create(()).await.unwrap();
            blob.write(vec![writer; LENGTH].into()).await.unwrap();
            blob.finish().await.unwrap();
            let (blobs, name, file) = (Arc::clone(blobs), name.clone(), file.clone());
            tasks.spawn(async move {
                let created = blobs.create(&name, &file, blob.finished()).await.unwrap();
                (created == Created::New).then_some(writer)
            });
        }
        let winners: Vec<u8> = tasks.join_all().await.into_iter().flatten().collect();
        let [winner] = winners.as_slice() else {
            panic!("{winners:?} have all created it");
        };
        let blob = blobs.open(&name, &file).await.unwrap().unwrap();
        let bytes = blob.into_bytes().await.unwrap();
        assert!(bytes.len() == LENGTH && bytes.iter().all(|byte| byte == winner));
    }
    let listed = blobs.list(&name).await.unwrap();
    let lengths: Vec<_> = listed.iter().map(|blob| blob.length).collect();
    assert_eq!(lengths, [u64::try_from(LENGTH).unwrap(); 2]);
    let left = futures_util::StreamExt::count(bucket.list(".rustaccio/blobs/"));
    assert_eq!(left.await, 2, "losers leave nothing");
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    conforms(&s3()).await;
}

#[cfg(feature = "azure")]
#[tokio::test(flavor = "multi_thread")]
async fn azure_conforms() {
    conforms(&azure()).await;
}

#[cfg(feature = "gcs")]
#[tokio::test(flavor = "multi_thread")]
async fn gcs_conforms() {
    conforms(&gcs()).await;
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn only_what_nothing_leads_to_is_left_over() {
    let bucket = open(&s3()).await.unwrap();
    let blobs = ObjectBlobs::new(bucket.clone());
    let folder = tempfile::tempdir().unwrap();
    let temporary = TemporaryFolder::open(folder.path()).unwrap();
    let mut blob = temporary.create(()).await.unwrap();
    blob.write("bytes".into()).await.unwrap();
    blob.finish().await.unwrap();
    let name: PackageName = "@scope/name".parse().unwrap();
    let file: TarballName = "name-1.0.0.tgz".parse().unwrap();
    let new = blobs.create(&name, &file, blob.finished()).await.unwrap();
    assert_eq!(new, Created::New);
    let Created::Taken(seen) = blobs.create(&name, &file, blob.finished()).await.unwrap() else {
        panic!("it is there");
    };
    let replaced = blobs.replace(&name, &file, &seen, blob.finished()).await;
    assert!(replaced.unwrap());
    let stray = format!(".rustaccio/blobs/@scope/name/{file}/{}", random_hex::<16>());
    let key = bucket.key(&stray).unwrap();
    bucket.write_own(&key, "half".into()).await.unwrap();
    let (early, late) = (
        Timestamp::from_unix_millis(0),
        Timestamp::from_unix_millis(i64::MAX),
    );
    assert!(blobs.leftovers(early, true).await.unwrap().is_empty());
    for remove in [false, true] {
        let found = blobs.leftovers(late, remove).await.unwrap();
        assert_eq!(found, [stray.as_str()]);
    }
    assert!(blobs.leftovers(late, true).await.unwrap().is_empty());
    let blob = blobs.open(&name, &file).await.unwrap().unwrap();
    assert_eq!(blob.into_bytes().await.unwrap(), "bytes");
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_bucket_that_is_not_there_is_a_failure() {
    let mut config = s3();
    open(&config).await.unwrap();
    config.s3.bucket = format!("missing-{}", random_hex::<8>());
    let error = open(&config).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains(&config.s3.bucket));
    let innermost = std::error::Error::source(&error).unwrap().source().unwrap();
    assert!(
        innermost.to_string().contains("no such bucket"),
        "{cause}: {innermost}"
    );
    // One that goes while it is in use does not look empty.
    let gone = connect(&config).unwrap();
    let metadata = ObjectMetadata::new(gone.clone());
    let name: PackageName = "@scope/name".parse().unwrap();
    let failed = |error| matches!(error, StorageError::Backend { .. });
    assert!(failed(metadata.get(&name).await.unwrap_err()));
    assert!(failed(metadata.stamp(&name).await.unwrap_err()));
    let blobs = ObjectBlobs::new(gone);
    let file = "name-1.0.0.tgz".parse().unwrap();
    assert!(failed(blobs.open(&name, &file).await.unwrap_err()));
    let listed = blobs.list(&name).await;
    assert!(failed(listed.unwrap_err()));
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn scopes_that_anybody_asks_for_are_not_all_remembered() {
    let bucket = open(&s3()).await.unwrap();
    let (metadata, remembered) = ObjectMetadata::new(bucket).remembering(3);
    for number in 0..20 {
        let name: PackageName = format!("@scope-{number}/app").parse().unwrap();
        assert!(metadata.get(&name).await.unwrap().is_none());
    }
    assert!((1..=3).contains(&remembered()), "{}", remembered());
}
