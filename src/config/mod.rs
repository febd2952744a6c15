//! Floor 1: settings as data. One typed tree, filled from YAML and the environment.

mod auth;
mod log;
mod packages;
mod publish;
mod server;
mod storage;
mod uplinks;
mod web;

pub use auth::{AdminConfig, AuthConfig, Registration};
pub use log::{LogConfig, LogFormat};
pub use packages::{PackageRule, PackagesConfig};
pub use publish::PublishConfig;
pub use server::{ListenAddress, ServerConfig, TrustProxy};
pub use storage::{CacheConfig, StorageConfig};
pub use uplinks::{UplinkAuth, UplinkConfig, UplinksConfig};
pub use web::WebConfig;
