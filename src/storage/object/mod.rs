//! The storage backend in a bucket: S3 and what speaks like it, Google's, Azure's. Any number of
//! registries may share one, and none of them ever holds a lock.
//!
//! All that may be changed by several is changed by a conditional write: create-only, or If-Match of
//! the entity tag that was read. For manifests that is all there is to it.
//!
//! **Blobs.** No store deletes conditionally, and the tag of an object is often but a hash of its
//! bytes: after unpublishing and publishing the same bytes again, a slow deleter would find the very
//! tag that it saw. So the key of a tarball is never deleted, and holds its bytes only if they fit into
//! one request and nothing was there before. Anything else is a *marker*, a few random bytes: "gone", or
//! "elsewhere", which names an object below `.rustaccio/blobs/` that holds the bytes and is never written
//! again. Hence:
//!
//! 1. No state of a key comes back. Whoever changes it with the tag of a state that he saw fails
//!    if anybody changed it since.
//! 2. Whoever replaces or deletes looks at the key, then writes a manifest that does not name it, then
//!    changes the key if it still is as he saw it.
//! 3. Whoever commits a manifest that names the key has, after reading the manifest that he replaces,
//!    created the key, or changed it.
//!
//! Could a deleter or replacer D, with its manifest at revision R, hit what a manifest of P names? P's
//! manifest came after R, or D would have read it, and its write of R would have failed. So P read R or
//! a later one (or its own write failed), and changed the key after that. D looked before R: either the
//! key existed then, P has changed it since, and D fails by 1; or it did not, and D has nothing to
//! change. It does not matter how slow either of them is.

mod blobs;
mod bucket;
mod cache;
mod client;
mod keys;
mod legacy;
mod listing;
mod marker;
mod metadata;
mod probe;
mod upload;

#[cfg(test)]
mod tests;

pub use blobs::ObjectBlobs;
pub use bucket::{Bucket, Precondition, Read, Tag, Written};
pub(in crate::storage) use cache::CacheTier;
#[cfg(feature = "s3")]
pub use client::connect_s3;
pub use client::open;
pub use legacy::legacy_names;
pub use metadata::ObjectMetadata;
pub use probe::honours_preconditions;
