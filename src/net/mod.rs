//! Floor 2: the one way to make an HTTP client, the addresses that it may reach, and the services of a
//! company that are asked.

mod answers;
mod client;
mod egress;
mod itself;
mod probe;
mod proxies;
mod service;
#[cfg(feature = "otel")]
mod traces;

pub use answers::{Answered, Answers, AskedAt, Memory};
pub use client::{ClientError, ClientOptions, build_client, read_authorities};
pub use egress::{Reach, has_public_addresses, is_of_this_machine, is_public};
pub use itself::ask_itself;
pub use probe::probe;
pub use service::{Service, ServiceAnswer, ServiceError};
#[cfg(feature = "otel")]
pub use traces::TracesSender;
