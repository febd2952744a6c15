//! [`WebState`]: what handlers have at hand.

use std::{ops::Deref, sync::Arc, time::Duration};

use super::extract::Bases;
use crate::{
    admin::Administration, auth::Auth, config::TrustProxy, events::Events, lifecycle::Lifecycle,
    models::BaseUrl, registry::Registry, telemetry::Metrics,
};

/// Settings of the HTTP side.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// Names this instance to the registries that it asks, see `Hops`.
    pub instance: Arc<str>,
    /// The path below which the registry is, without a slash at its end; empty for the root.
    pub url_prefix: String,
    /// The address that clients use, if it is not the one that they send.
    pub public_url: Option<BaseUrl>,
    /// Whose forwarded headers count.
    pub trust_proxy: TrustProxy,
    /// The largest request body in bytes, as sent and as decoded.
    pub max_body_size: u64,
    /// Whether `npm login` may go through the browser.
    pub web_login: bool,
    /// The title of pages.
    pub title: String,
    /// Whether audits are forwarded to the uplinks.
    pub audit: bool,
    /// How long a request body may make no progress, and our own work on a request.
    pub request_timeout: Duration,
}

/// What handlers have at hand. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct WebState(Arc<WebParts>);

/// What a [`WebState`] is made of.
#[derive(Debug)]
pub struct WebParts {
    /// The packages.
    pub registry: Arc<Registry>,
    /// The accounts.
    pub auth: Arc<Auth>,
    /// What administrators do.
    pub administration: Arc<Administration>,
    /// Settings of the HTTP side.
    pub settings: WebSettings,
    /// Tells when the server stops.
    pub lifecycle: Lifecycle,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is told of what happens.
    pub events: Events,
    /// Under which addresses clients see the registry.
    pub(super) bases: Bases,
}

impl WebState {
    /// A state of these parts.
    pub fn new(
        registry: Arc<Registry>,
        auth: Arc<Auth>,
        administration: Arc<Administration>,
        settings: WebSettings,
        lifecycle: Lifecycle,
        (metrics, events): (Metrics, Events),
    ) -> Self {
        Self(Arc::new(WebParts {
            registry,
            auth,
            administration,
            settings,
            lifecycle,
            metrics,
            events,
            bases: Bases::default(),
        }))
    }
}

impl Deref for WebState {
    type Target = WebParts;

    fn deref(&self) -> &WebParts {
        &self.0
    }
}
