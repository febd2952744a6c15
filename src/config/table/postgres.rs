//! Settings of manifests and accounts in Postgres.

use super::{
    Kind::{Choice, Number, Seconds, Text},
    Setting,
};
use crate::config::MetadataBackend;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_METADATA_BACKEND",
        "sidecar",
        Choice(
            &["sidecar", "transactional", "db", "database", "postgres"],
            |target, word| {
                target.config.storage.metadata = match word {
                    "sidecar" => MetadataBackend::Sidecar,
                    _ => MetadataBackend::Transactional,
                };
            },
        ),
        "Where manifests and accounts are kept: `sidecar`, manifests beside their tarballs and \
         accounts with them; or `transactional` (also `db`, `database`, `postgres`), all of it in \
         Postgres, shared by all nodes.",
    ),
    Setting::new(
        "RUSTACCIO_METADATA_POSTGRES_URL",
        "",
        Text(|target, text| {
            target.config.storage.postgres.url = Some(text.to_owned().into());
            Ok(())
        }),
        "The database: `postgres://user:password@host/database`. `?sslmode=verify-full` wants TLS \
         with a certificate that the system (or the file of `sslrootcert`) trusts; `require` wants \
         TLS alone. `options[search_path]=NAME` keeps everything in a schema of its own.",
    )
    .secret(),
    Setting::new(
        "RUSTACCIO_METADATA_POSTGRES_MAX_CONNECTIONS",
        "10",
        Number(2..=1000, |target, count| {
            target.config.storage.postgres.max_connections = u32::try_from(count).unwrap_or(10);
        }),
        "The most connections of one node to the database at once.",
    ),
    Setting::new(
        "RUSTACCIO_METADATA_POSTGRES_TIMEOUT_SECS",
        "5",
        Seconds(1..=60, |target, span| {
            target.config.storage.postgres.timeout = span;
        }),
        "How long the database may take, with the wait for a connection, before a request has \
         failed with 503.",
    ),
];
