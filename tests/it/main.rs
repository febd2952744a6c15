//! Tests of behaviour, at the level where users meet it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be, and has no server to harm"
)]

mod support;

mod accounts;
#[cfg(feature = "test-clients")]
mod clients;
mod concurrency;
mod config;
mod crash;
mod embedding;
mod faults;
mod fsck;
mod fuzz_corpora;
mod hostile;
#[cfg(feature = "test-clients")]
mod npm;
mod publishing;
mod reading;
mod second_factor;
mod tidy;
mod tokens;
mod upstream;
