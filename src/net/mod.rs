//! Floor 2: the one way to make an HTTP client, and the addresses that it may reach.

mod client;
mod egress;

pub use client::{ClientError, ClientOptions, build_client};
pub use egress::{Reach, is_public};
