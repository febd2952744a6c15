//! Floor 6: what the registry does with packages.

pub mod publish;
