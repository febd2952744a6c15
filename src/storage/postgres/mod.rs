//! The storage backend in Postgres: manifests, accounts, sessions and keys.

mod accounts;
mod database;
mod keys;
mod listener;
mod manifests;
mod sessions;

pub use accounts::PgAccounts;
pub use database::{Database, PostgresOptions};
pub(crate) use database::{pool, within};
pub use keys::PgKeys;
pub use manifests::PgMetadata;
pub use sessions::PgSessions;

#[cfg(feature = "test-services")]
#[cfg(test)]
mod tests;
