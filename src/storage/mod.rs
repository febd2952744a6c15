//! Floor 3: durable state. Documents change only by compare-and-swap, blobs are create-only.

mod error;
pub(crate) mod fs;

pub use error::StorageError;
