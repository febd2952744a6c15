//! Where a test's registries keep what they store: a folder, or what [`on`] says.

use std::{cell::Cell, path::Path};

use super::{bucket, postgres, registry::STORED_IN};

/// What stores packages and accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Folder,
    /// All of it in S3.
    Bucket,
    /// All of it in Azure.
    Azure,
    /// All of it in what speaks like Google's.
    Gcs,
    /// Tarballs in S3, the rest in Postgres.
    BucketAndDatabase,
    /// Tarballs in a folder, the rest in Postgres.
    FolderAndDatabase,
}

impl Backend {
    fn has_database(self) -> bool {
        matches!(self, Self::BucketAndDatabase | Self::FolderAndDatabase)
    }
}

thread_local! {
    static CHOSEN: Cell<Backend> = const { Cell::new(Backend::Folder) };
    static STARTED: Cell<usize> = const { Cell::new(0) };
}

/// Runs a test whose registries use `backend`.
pub(crate) fn on(backend: Backend, test: fn()) {
    CHOSEN.set(backend);
    STARTED.set(0);
    test();
    CHOSEN.set(Backend::Folder);
    assert!(
        STARTED.get() > 0,
        "the test started no registry on {backend:?}"
    );
}

/// The variables of a registry that starts in `folder`; in the same folder they are the same again.
pub(crate) async fn variables(folder: &Path) -> Vec<(String, String)> {
    let chosen = CHOSEN.get();
    if chosen == Backend::Folder {
        return Vec::new();
    }
    STARTED.set(STARTED.get() + 1);
    let kept = folder.join(STORED_IN);
    if let Ok(bytes) = std::fs::read(&kept) {
        return serde_json::from_slice(&bytes).unwrap();
    }
    let mut variables = fresh(chosen).await;
    if chosen.has_database() {
        // All of them are made at each start, and there are hundreds of starts.
        let few = "RUSTACCIO_METADATA_POSTGRES_MAX_CONNECTIONS";
        variables.push((few.to_owned(), "5".to_owned()));
    }
    std::fs::write(kept, serde_json::to_vec(&variables).unwrap()).unwrap();
    variables
}

/// Variables of storage that nobody else uses.
pub(crate) async fn fresh(backend: Backend) -> Vec<(String, String)> {
    let mut variables = match backend {
        Backend::Folder | Backend::FolderAndDatabase => Vec::new(),
        Backend::Bucket | Backend::BucketAndDatabase => bucket::s3_at(&bucket::s3_endpoint()),
        Backend::Azure => bucket::azure(),
        Backend::Gcs => bucket::gcs(),
    };
    if backend.has_database() {
        variables.extend(postgres::variables(&postgres::schema().await));
    }
    let variables = variables.into_iter();
    variables
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
