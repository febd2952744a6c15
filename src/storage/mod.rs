//! Floor 3: durable state. Documents change only by compare-and-swap, blobs are create-only.

mod accounts;
mod blobs;
mod cache;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
pub(crate) mod fs;
mod layout;
mod metadata;
#[cfg(feature = "object")]
pub mod object;
mod secrets;
mod signing_keys;
mod store;
mod sweep;

pub use accounts::{
    Accounts, AccountsError, OrganisationRecord, PackageNameText, Profile, Role,
    SecondFactorRecord, TeamRecord, TokenKind, TokenRecord, UserRecord,
};
pub use blobs::{Blob, Blobs, Created, Doomed, FinishedBlob, Seen, StoredBlob};
pub use cache::{CachedDocument, Freshness, UpstreamCache};
pub use error::StorageError;
pub use fs::{FileBlob, FsBlobs, FsMetadata, Observer, Pieces, TemporaryBlob, TemporaryFolder};
pub use layout::Layout;
pub use metadata::{Conflicts, Document, Expected, MetadataStore, MetadataStoreExt, Stamp};
pub use secrets::{Secrets, WrongKey};
pub use signing_keys::{PublicSigningKey, SigningKeys};
pub use store::{Store, StoreOptions};
