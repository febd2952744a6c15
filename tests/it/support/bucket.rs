//! A part of a bucket that belongs to one test.

use rustaccio::{
    config::{Config, Env, Sources},
    storage::object::{self, Precondition},
};

use super::{
    registry::{Registry, Start},
    server::Server,
};

const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A store of a test's own.
pub(crate) fn server() -> Server {
    Server::start("s3", "RUSTACCIO_S3_IT_ENDPOINT")
}

/// Below a prefix of its own.
pub(crate) struct Bucket {
    pub(crate) variables: Vec<(&'static str, String)>,
    pub(crate) inside: object::Bucket,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; these tests need services, run them through ./scripts/test")
    })
}

/// Where S3 is.
pub(crate) fn s3_endpoint() -> String {
    variable("RUSTACCIO_S3_IT_ENDPOINT")
}

/// The settings of S3 at `endpoint`.
pub(crate) fn s3_at(endpoint: &str) -> Vec<(&'static str, String)> {
    let nonce: u64 = rand::random();
    vec![
        ("RUSTACCIO_TARBALL_BACKEND", "s3".to_owned()),
        ("RUSTACCIO_S3_ENDPOINT", endpoint.to_owned()),
        ("RUSTACCIO_S3_BUCKET", variable("RUSTACCIO_S3_IT_BUCKET")),
        (
            "RUSTACCIO_S3_ACCESS_KEY_ID",
            variable("RUSTACCIO_S3_IT_ACCESS_KEY"),
        ),
        (
            "RUSTACCIO_S3_SECRET_ACCESS_KEY",
            variable("RUSTACCIO_S3_IT_SECRET_KEY"),
        ),
        ("RUSTACCIO_S3_PREFIX", format!("it/{nonce:016x}")),
    ]
}

/// The settings of Azurite, whose account and key are the same everywhere.
pub(crate) fn azure() -> Vec<(&'static str, String)> {
    let nonce: u64 = rand::random();
    vec![
        ("RUSTACCIO_TARBALL_BACKEND", "azure".to_owned()),
        (
            "RUSTACCIO_AZURE_ENDPOINT",
            variable("RUSTACCIO_AZURE_IT_ENDPOINT"),
        ),
        ("RUSTACCIO_AZURE_ACCOUNT", "devstoreaccount1".to_owned()),
        ("RUSTACCIO_AZURE_ACCESS_KEY", AZURITE_KEY.to_owned()),
        ("RUSTACCIO_AZURE_CONTAINER", "rustaccio-it".to_owned()),
        ("RUSTACCIO_AZURE_PREFIX", format!("it/{nonce:016x}")),
    ]
}

/// The settings of the store of our own that speaks like Google's.
pub(crate) fn gcs() -> Vec<(&'static str, String)> {
    let nonce: u64 = rand::random();
    vec![
        ("RUSTACCIO_TARBALL_BACKEND", "gcs".to_owned()),
        (
            "RUSTACCIO_GCS_ENDPOINT",
            variable("RUSTACCIO_GCS_IT_ENDPOINT"),
        ),
        ("RUSTACCIO_GCS_BUCKET", "rustaccio-it".to_owned()),
        ("RUSTACCIO_GCS_PREFIX", format!("it/{nonce:016x}")),
    ]
}

impl Bucket {
    pub(crate) async fn s3() -> Self {
        Self::of(s3_at(&s3_endpoint())).await
    }

    pub(crate) async fn of(variables: Vec<(&'static str, String)>) -> Self {
        let env: Env = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let config = Config::load(&Sources {
            env,
            ..Sources::default()
        });
        let inside = object::open(&config.storage).await.unwrap();
        Self { variables, inside }
    }

    /// A registry that keeps packages in it, and accounts in a folder of its own.
    pub(crate) async fn node(&self) -> Registry {
        self.node_with(&[]).await
    }

    pub(crate) async fn node_with(&self, more: &[(&'static str, &str)]) -> Registry {
        let mut variables = self.variables.clone();
        for (name, value) in more {
            variables.retain(|(known, _)| known != name);
            variables.push((name, (*value).to_owned()));
        }
        Registry::with(Start {
            variables,
            ..Start::default()
        })
        .await
    }

    /// Writes an object as somebody else would.
    pub(crate) async fn put(&self, name: &str, bytes: impl Into<bytes::Bytes>) {
        let key = self.inside.key(name).unwrap();
        let absent = Precondition::Absent;
        let written = self.inside.write(&key, bytes.into(), &absent).await;
        assert!(matches!(written.unwrap(), object::Written::Done(_)));
    }

    pub(crate) async fn read(&self, name: &str) -> Option<bytes::Bytes> {
        let key = self.inside.key(name).unwrap();
        Some(self.inside.read(&key).await.unwrap()?.bytes)
    }

    pub(crate) async fn delete(&self, name: &str) {
        let key = self.inside.key(name).unwrap();
        self.inside.delete(&key).await.unwrap();
    }

    /// The names of all objects.
    pub(crate) async fn names(&self) -> Vec<String> {
        use futures_util::TryStreamExt as _;
        let listed = self.inside.list("").try_collect::<Vec<_>>().await.unwrap();
        let names = listed
            .iter()
            .map(|meta| self.inside.name_of(&meta.location).unwrap().to_owned());
        names.collect()
    }
}
