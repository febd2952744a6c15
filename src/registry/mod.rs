//! Floor 6: what the registry does, in npm's terms. Knows no HTTP framework.

#[expect(dead_code, reason = "the use cases on top of it are the next step")]
mod documents;
#[expect(dead_code, reason = "the use cases on top of it are the next step")]
mod fill;
mod flight;
pub mod packument;
pub mod publish;
