//! Settings of buckets, as their stores see them.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::support::{
    Package, Registry,
    process::Process,
    service::{Asked, Reply, Service},
};

/// What a store is asked first by a registry with these settings, and why that does not start.
async fn first_asked(variables: Vec<(&'static str, String)>) -> (Asked, String) {
    let store = Service::replying(Reply::Json(403, json!({}))).await;
    let url = store.url.clone();
    let said = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let pairs: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, value.replace("STORE", &url)))
            .collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        refusal(folder.path(), &pairs)
    });
    let said = said.await.unwrap();
    let asked = store.asked();
    let first = asked
        .first()
        .unwrap_or_else(|| panic!("nothing is asked: {said}"));
    (first.clone(), said)
}

fn refusal(folder: &Path, variables: &[(&str, &str)]) -> String {
    let output = Process::command(folder, variables).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn s3_is_asked_as_the_settings_say() {
    let settings = |change: (&'static str, &str)| {
        let mut settings = vec![
            ("RUSTACCIO_TARBALL_BACKEND", "s3".to_owned()),
            ("RUSTACCIO_S3_ENDPOINT", "STORE".to_owned()),
            ("RUSTACCIO_S3_BUCKET", "shelf".to_owned()),
            ("RUSTACCIO_S3_ACCESS_KEY_ID", "mine".to_owned()),
            ("RUSTACCIO_S3_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        settings.retain(|(name, _)| *name != change.0);
        settings.push((change.0, change.1.to_owned()));
        settings
    };
    let authorization = |asked: &Asked| asked.header("authorization").unwrap().to_owned();
    let (asked, _) = first_asked(settings(("RUSTACCIO_S3_BUCKET", "shelf"))).await;
    assert!(asked.path.starts_with("/shelf"), "{asked:?}");
    assert!(!asked.path.contains("npm"), "{asked:?}");
    let signed = authorization(&asked);
    assert!(signed.contains("Credential=mine/"), "{signed}");
    assert!(signed.contains("/us-east-1/s3/"), "{signed}");
    let (asked, _) = first_asked(settings(("RUSTACCIO_S3_BUCKET", "other"))).await;
    assert!(asked.path.starts_with("/other"), "{asked:?}");
    let (asked, _) = first_asked(settings(("RUSTACCIO_S3_REGION", "eu-north-1"))).await;
    let signed = authorization(&asked);
    assert!(signed.contains("/eu-north-1/s3/"), "{signed}");
    let (asked, _) = first_asked(settings(("RUSTACCIO_S3_ACCESS_KEY_ID", "yours"))).await;
    let signed = authorization(&asked);
    assert!(signed.contains("Credential=yours/"), "{signed}");
    let (asked, _) = first_asked(settings(("RUSTACCIO_S3_PREFIX", "npm"))).await;
    assert!(asked.path.contains("npm"), "{asked:?}");
    let (asked, _) = first_asked(settings(("RUSTACCIO_S3_FORCE_PATH_STYLE", "false"))).await;
    assert!(!asked.path.starts_with("/shelf"), "{asked:?}");
    // A key is both of its halves.
    let folder = tempfile::tempdir().unwrap();
    let half = settings(("RUSTACCIO_S3_SECRET_ACCESS_KEY", ""));
    let pairs: Vec<_> = half.iter().map(|(name, value)| (*name, &**value)).collect();
    let said = refusal(folder.path(), &pairs);
    assert!(said.contains("RUSTACCIO_S3_ACCESS_KEY_ID"), "{said}");
}

/// Without keys of its own a registry has those that AWS's tools would have.
#[cfg(feature = "s3")]
#[tokio::test]
async fn s3_may_have_its_keys_from_where_aws_has_them() {
    let settings = vec![
        ("RUSTACCIO_TARBALL_BACKEND", "s3".to_owned()),
        ("RUSTACCIO_S3_ENDPOINT", "STORE".to_owned()),
        ("RUSTACCIO_S3_BUCKET", "shelf".to_owned()),
        ("AWS_ACCESS_KEY_ID", "environments".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let (asked, _) = first_asked(settings.clone()).await;
    let signed = asked.header("authorization").unwrap();
    assert!(signed.contains("Credential=environments/"), "{signed}");
    let own = [
        ("RUSTACCIO_S3_ACCESS_KEY_ID", "mine".to_owned()),
        ("RUSTACCIO_S3_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let (asked, _) = first_asked([settings, own.into()].concat()).await;
    let signed = asked.header("authorization").unwrap();
    assert!(signed.contains("Credential=mine/"), "{signed}");
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn leases_are_in_their_own_region() {
    for (region, expected) in [("eu-north-1", "eu-north-1"), ("", "eu-south-1")] {
        let store = Service::replying(Reply::Json(403, json!({}))).await;
        let registry = Registry::start(&[
            ("RUSTACCIO_S3_REGION", "eu-south-1"),
            ("RUSTACCIO_STATE_COORDINATION_BACKEND", "s3"),
            ("RUSTACCIO_STATE_COORDINATION_S3_ENDPOINT", &store.url),
            ("RUSTACCIO_STATE_COORDINATION_S3_BUCKET", "leases"),
            ("RUSTACCIO_STATE_COORDINATION_S3_ACCESS_KEY_ID", "mine"),
            ("RUSTACCIO_STATE_COORDINATION_S3_SECRET_ACCESS_KEY", "key"),
            ("RUSTACCIO_STATE_COORDINATION_S3_REGION", region),
        ])
        .await;
        let alice = registry.user("alice").await;
        let package = Package::new("app", "1.0.0");
        registry.publish(&alice, &package).await.assert(502);
        let asked = store.asked();
        let signed = asked[0].header("authorization").unwrap();
        assert!(signed.contains(&format!("/{expected}/s3/")), "{signed}");
    }
}

#[cfg(feature = "azure")]
#[tokio::test]
async fn azure_is_asked_as_the_settings_say() {
    let settings = |account: &str, container: &str, prefix: &str, key: &str| {
        vec![
            ("RUSTACCIO_TARBALL_BACKEND", "azure".to_owned()),
            ("RUSTACCIO_AZURE_ENDPOINT", "STORE".to_owned()),
            ("RUSTACCIO_AZURE_ACCOUNT", account.to_owned()),
            ("RUSTACCIO_AZURE_CONTAINER", container.to_owned()),
            ("RUSTACCIO_AZURE_PREFIX", prefix.to_owned()),
            ("RUSTACCIO_AZURE_ACCESS_KEY", STANDARD.encode(key)),
        ]
    };
    let (asked, _) = first_asked(settings("ours", "shelf", "", "key")).await;
    let (other, _) = first_asked(settings("theirs", "box", "npm", "another")).await;
    assert!(asked.path.contains("shelf") && !asked.path.contains("npm"));
    assert!(other.path.contains("box") && other.path.contains("npm"));
    let signed = |asked: &Asked| asked.header("authorization").unwrap().to_owned();
    assert!(signed(&asked).starts_with("SharedKey ours:"));
    assert!(signed(&other).starts_with("SharedKey theirs:"));
    assert_ne!(
        signed(&asked).split(':').next_back(),
        signed(&other).split(':').next_back()
    );
}

#[cfg(feature = "gcs")]
#[tokio::test]
async fn gcs_is_asked_as_the_settings_say() {
    let settings = |bucket: &str, prefix: &str| {
        vec![
            ("RUSTACCIO_TARBALL_BACKEND", "gcs".to_owned()),
            ("RUSTACCIO_GCS_ENDPOINT", "STORE".to_owned()),
            ("RUSTACCIO_GCS_BUCKET", bucket.to_owned()),
            ("RUSTACCIO_GCS_PREFIX", prefix.to_owned()),
        ]
    };
    let (asked, _) = first_asked(settings("shelf", "")).await;
    assert!(asked.path.contains("shelf") && !asked.path.contains("npm"));
    let (asked, _) = first_asked(settings("box", "npm")).await;
    assert!(asked.path.contains("box") && asked.path.contains("npm"));
    // The account is read, wherever the store is.
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("RUSTACCIO_TARBALL_BACKEND", "gcs"),
        ("RUSTACCIO_GCS_BUCKET", "shelf"),
        ("RUSTACCIO_GCS_SERVICE_ACCOUNT", "/missing/account.json"),
    ];
    let said = refusal(folder.path(), &variables);
    assert!(said.contains("/missing/account.json"), "{said}");
}
