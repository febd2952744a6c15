//! Floor 2: the one way to make an HTTP client, and the addresses that it may reach.

mod client;
mod egress;
mod probe;
mod proxies;

pub use client::{ClientError, ClientOptions, build_client, read_authorities};
pub use egress::{Reach, has_public_addresses, is_of_this_machine, is_public};
pub use probe::probe;
