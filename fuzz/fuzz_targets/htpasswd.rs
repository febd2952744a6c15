//! See `htpasswd` in src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustaccio_fuzz::htpasswd(data));
