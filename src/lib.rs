//! rustaccio: a private npm registry and caching proxy.

pub mod auth;
pub mod config;
pub mod error;
pub mod lifecycle;
pub mod models;
pub mod net;
pub mod policy;
pub mod registry;
pub mod search;
pub mod server;
pub mod storage;
pub mod uplink;
pub mod web;
