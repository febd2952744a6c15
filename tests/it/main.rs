//! The one integration-test binary.
// `allow-unwrap-in-tests` covers `#[test]` functions only, not the helpers beside them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod tidy;
