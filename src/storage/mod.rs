//! Floor 3: durable state. Documents change only by compare-and-swap, blobs are create-only.

mod accounts;
mod blobs;
mod cache;
mod coherence;
#[cfg(test)]
pub(crate) mod conformance;
mod counted;
mod error;
pub(crate) mod fs;
pub mod fuzz;
#[cfg(any(feature = "object", feature = "postgres"))]
mod json;
mod keys;
mod layout;
mod leases;
mod metadata;
mod moving;
#[cfg(feature = "object")]
pub mod object;
#[cfg(feature = "object")]
pub mod object_accounts;
#[cfg(feature = "postgres")]
pub mod postgres;
mod secrets;
mod sessions;
mod signing_keys;
mod snapshot;
mod store;
mod sweep;
mod unix_millis;

pub use accounts::{
    AccountEntry, AccountStore, AccountStoreExt, AccountsError, FileAccounts, HashForm,
    HtpasswdAccounts, OrganisationEdit, OrganisationRecord, PackageNameText, Profile, Remember,
    Role, SecondFactorRecord, TeamRecord, TokenKind, TokenRecord, UserEdit, UserRecord,
    VerdaccioToken, VerdaccioTokenList, verdaccio_secret,
};
pub use blobs::{Blob, Blobs, Created, Doomed, FinishedBlob, Seen, StoredBlob};
pub use cache::{
    Amount, CacheBounds, CacheStats, CachedDocument, CachedPackage, Care, Freshness, Pruned,
    Selection, Survey, UpstreamCache,
};
pub use coherence::{Coherence, Epoch, LONGEST_SILENCE, Notice, Watcher};
pub use error::StorageError;
pub use fs::verdaccio::verdaccio_hosting;
pub use fs::{FileBlob, FsBlobs, FsMetadata, Observer, Pieces, TemporaryBlob, TemporaryFolder};
pub use keys::{FileKeys, KeyStore};
pub use layout::Layout;
#[cfg(feature = "object")]
pub use leases::ObjectLeases;
#[cfg(feature = "redis")]
pub use leases::RedisLeases;
pub use leases::{Lease, LeaseError, LeaseOptions, LeaseProvider, Leases};
pub use metadata::{
    Conflicts, Document, Expected, Hold, Holding, MetadataStore, MetadataStoreExt, Stamp,
};
pub use moving::{Moved, Moving, Place, Tally, Tokens, move_whole, require_same_key};
pub use secrets::{Secrets, WrongKey};
pub use sessions::{Claim, MemorySessions, SessionRecord, SessionStore};
pub use signing_keys::{PublicSigningKey, SigningKeys};
pub use snapshot::{Earlier, KeysOf, Snapshot, Snapshotting, Taken};
pub use store::{FolderClaim, Store, StoreOptions};
