//! Tests of behaviour, at the level where users meet it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be, and has no server to harm"
)]

mod support;

mod access;
mod accounts;
mod administration;
mod audit;
mod audit_log;
mod authorisation;
#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "gcs",
    feature = "azure",
    feature = "postgres"
))]
mod backends;
mod backup;
mod backup_faults;
#[cfg(feature = "test-clients")]
mod behind_proxies;
mod bootstrap;
#[cfg(all(feature = "test-services", feature = "s3"))]
mod buckets;
mod cache;
mod cache_bounds;
#[cfg(all(feature = "test-services", feature = "s3"))]
mod cache_shared;
#[cfg(feature = "test-clients")]
mod clients;
mod concurrency;
mod config;
mod contracts;
mod crash;
mod docs;
mod downloads;
mod embedding;
mod errors;
mod events;
mod faults;
mod first_run;
mod fsck;
mod fuzz_corpora;
mod healthcheck;
mod hostile;
mod http_accounts;
mod http_policy;
mod import;
#[cfg(feature = "test-clients")]
mod installs;
#[cfg(all(feature = "redis", feature = "s3", feature = "test-services"))]
mod leases;
mod limits;
mod logs;
#[cfg(all(feature = "test-services", feature = "s3"))]
mod lost_answers;
mod metrics;
#[cfg(all(feature = "postgres", feature = "test-services"))]
mod migrate;
#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "gcs",
    feature = "azure",
    feature = "postgres"
))]
mod nodes;
mod notify;
#[cfg(feature = "test-clients")]
mod npm;
mod operators;
mod organisations;
#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "postgres",
    feature = "redis"
))]
mod outages;
mod pages;
mod pages_admin;
mod pages_http;
mod patience;
#[cfg(all(feature = "postgres", feature = "test-services"))]
mod postgres;
#[cfg(all(feature = "postgres", feature = "test-services"))]
mod postgres_tls;
mod protocol_http;
mod protocol_reads;
mod protocol_table;
mod protocol_writes;
mod proxies;
mod publishing;
mod reading;
mod recovery;
mod restore;
mod search;
mod second_factor;
mod signatures;
mod snapshots;
mod stars;
mod storage_reports;
#[cfg(feature = "test-clients")]
mod takeover;
mod tidy;
mod tls;
mod tokens;
#[cfg(feature = "otel")]
mod traces;
mod unpublishing;
mod upstream;
mod verdaccio_accounts;
mod verdaccio_data;
mod verdaccio_folder;
mod web_login;
