//! Tokens: opaque, random, kept as hashes.

use sha2::Digest as _;

use crate::lifecycle::random_hex;

/// Marks our tokens, so that scanners for leaked secrets can find them.
const PREFIX: &str = "rca_";
/// Characters of a token that listings show.
const VISIBLE: usize = 8;

/// A token that has just been made; shown once.
pub(super) struct NewToken {
    pub(super) token: String,
    pub(super) key: String,
    pub(super) prefix: String,
}

/// Makes a token with 192 random bits.
pub(super) fn generate() -> NewToken {
    let token = format!("{PREFIX}{}", random_hex::<24>());
    NewToken {
        key: key_of(&token),
        prefix: token.chars().take(VISIBLE).collect(),
        token,
    }
}

/// The SHA-256 of a token in hexadecimal: under it the token is kept and revoked.
pub(super) fn key_of(token: &str) -> String {
    hex::encode(sha2::Sha256::digest(token))
}
