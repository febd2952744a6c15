//! Randomness from the operating system.

use std::time::Duration;

use rand::RngExt as _;

/// `N` bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::rng().random()
}

/// `N` unguessable bytes in lower-case hexadecimal.
pub fn random_hex<const N: usize>() -> String {
    hex::encode(random_bytes::<N>())
}

/// A duration between half of `base` and all of it, so that those who wait do not wake together.
pub fn jittered(base: Duration) -> Duration {
    base.mul_f64(0.5 + rand::rng().random::<f64>() / 2.0)
}
