//! rustaccio: a private npm registry and caching proxy.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod error;
pub mod events;
pub mod governance;
pub mod lifecycle;
pub mod lockfile;
pub mod models;
pub mod net;
pub mod policy;
pub mod readme;
pub mod registry;
pub mod runtime;
pub mod search;
pub mod server;
pub mod storage;
pub mod telemetry;
pub mod uplink;
pub mod web;
