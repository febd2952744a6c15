//! See `lockfile` in src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustaccio_fuzz::lockfile(data));
