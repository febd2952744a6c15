//! The storage backend on a local disk.

pub(crate) mod atomic;
