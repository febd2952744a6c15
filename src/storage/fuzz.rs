//! Ways for fuzzers into the parsers of what others store. No part of the interface.

/// Reads and changes a file of users.
pub fn htpasswd(bytes: &[u8]) {
    super::accounts::fuzz_htpasswd(bytes);
}
