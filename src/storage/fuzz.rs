//! Ways for fuzzers into the parsers of what others store. No part of the interface.

/// Reads and changes a file of users.
pub fn htpasswd(bytes: &[u8]) {
    super::accounts::fuzz_htpasswd(bytes);
}

/// Reads a file of Verdaccio's, and writes it again as if something had been published and unpublished.
///
/// # Panics
/// What is written cannot be read again.
pub fn sidecar(json: &[u8]) {
    super::fs::verdaccio::fuzz::sidecar(json);
}
