//! What tests share: a registry to talk to, an upstream to lie to it, packages to publish.

#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "gcs",
    feature = "azure",
    feature = "postgres"
))]
pub(crate) mod backend;
#[cfg(all(feature = "test-services", feature = "s3"))]
pub(crate) mod bucket;
#[cfg(feature = "test-clients")]
pub(crate) mod client;
pub(crate) mod forward_proxy;
pub(crate) mod front;
pub(crate) mod packages;
pub(crate) mod pipe;
#[cfg(all(feature = "postgres", feature = "test-services"))]
pub(crate) mod postgres;
pub(crate) mod process;
#[cfg(all(feature = "redis", feature = "test-services"))]
pub(crate) mod redis;
pub(crate) mod registry;
pub(crate) mod second_factor;
pub(crate) mod service;
pub(crate) mod tls;
pub(crate) mod upstream;
#[cfg(all(feature = "test-services", feature = "s3"))]
pub(crate) mod wire;

pub(crate) use packages::{Package, publish_body};
pub(crate) use registry::{Answer, Registry, User};
pub(crate) use service::{Asked, Reply, Service};
pub(crate) use upstream::Upstream;
