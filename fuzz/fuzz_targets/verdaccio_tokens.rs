//! See `verdaccio_tokens` in src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustaccio_fuzz::verdaccio_tokens(data));
