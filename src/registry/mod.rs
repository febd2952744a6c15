//! Floor 6: what the registry does, in npm's terms. Knows no HTTP framework.

pub mod packument;
