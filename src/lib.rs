//! rustaccio: a private npm registry and caching proxy.

pub mod config;
pub mod error;
pub mod lifecycle;
pub mod models;
pub mod registry;
pub mod storage;
