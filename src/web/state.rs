//! [`WebState`]: what handlers have at hand.

use std::{ops::Deref, sync::Arc, time::Duration};

use http::HeaderName;

use super::extract::Bases;

use crate::{
    admin::Administration,
    auth::Auth,
    config::{MetricsConfig, TrustProxy},
    events::Events,
    governance::Governance,
    lifecycle::Lifecycle,
    models::BaseUrl,
    readme::Readmes,
    registry::Registry,
    telemetry::Metrics,
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
    /// Whether users sign in here, and keep their tokens and passwords here.
    pub has_local_logins: bool,
    /// Whether people sign in on pages.
    pub has_page_logins: bool,
    /// The language of pages for browsers that ask for none that there is.
    pub language: &'static str,
    /// The header in which proxies say whether the client uses TLS.
    pub forwarded_proto: HeaderName,
    /// Whether there are pages for browsers.
    pub has_pages: bool,
    /// Whether `npm login` may go through the browser.
    pub web_login: bool,
    /// The title of pages.
    pub title: String,
    /// Whether audits are forwarded to the uplinks.
    pub audit: bool,
    /// Where metrics are read, and who may.
    pub metrics: MetricsConfig,
    /// Whether spans of requests are sent to a collector.
    pub are_traced: bool,
    /// How long a request body may make no progress, and our own work on a request.
    pub request_timeout: Duration,
}

/// What handlers have at hand. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct WebState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: WebParts,
    bases: Bases,
    readmes: Readmes,
}

/// What a [`WebState`] is made of.
#[derive(Debug)]
pub struct WebParts {
    /// The packages.
    pub registry: Arc<Registry>,
    /// The accounts.
    pub auth: Arc<Auth>,
    /// What administrators do.
    pub administration: Arc<Administration>,
    /// How much callers may ask for.
    pub governance: Governance,
    /// Settings of the HTTP side.
    pub settings: WebSettings,
    /// Tells when the server stops.
    pub lifecycle: Lifecycle,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is told of what happens.
    pub events: Events,
}

impl WebState {
    /// A state of these parts.
    pub fn new(parts: WebParts) -> Self {
        Self(Arc::new(Shared {
            parts,
            bases: Bases::default(),
            readmes: Readmes::default(),
        }))
    }

    /// The READMEs that pages have shown.
    pub(super) fn readmes(&self) -> &Readmes {
        &self.0.readmes
    }

    /// Under which addresses clients see the registry.
    pub(super) fn bases(&self) -> &Bases {
        &self.0.bases
    }
}

impl Deref for WebState {
    type Target = WebParts;

    fn deref(&self) -> &WebParts {
        &self.0.parts
    }
}
