//! [`Connections`]: what goes over the wire; [`Packages`]: what becomes of packages.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The connections of one server. Clones count together; the default counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Connections(Option<Wire>);

#[derive(Clone, Debug)]
struct Wire {
    open: Gauge,
    received: Counter<u64, AtomicU64>,
    sent: Counter<u64, AtomicU64>,
}

/// A connection; open until it is dropped.
#[derive(Debug, Default)]
pub struct OpenConnection(Option<Wire>);

impl Connections {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let wire = Wire {
            open: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
        };
        registry.register(
            "connections_open",
            "Connections of clients that are open",
            wire.open.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes that came from clients, as they were on the wire",
            wire.received.clone(),
        );
        registry.register(
            "sent_bytes",
            "Bytes that went to clients, as they were on the wire",
            wire.sent.clone(),
        );
        Self(Some(wire))
    }

    /// A connection was opened.
    pub fn opened(&self) -> OpenConnection {
        if let Some(wire) = &self.0 {
            wire.open.inc();
        }
        OpenConnection(self.0.clone())
    }
}

impl OpenConnection {
    /// So many bytes came.
    pub fn received(&self, bytes: usize) {
        if let Some(wire) = &self.0 {
            wire.received.inc_by(length(bytes));
        }
    }

    /// So many bytes were sent.
    pub fn sent(&self, bytes: usize) {
        if let Some(wire) = &self.0 {
            wire.sent.inc_by(length(bytes));
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(wire) = &self.0 {
            wire.open.dec();
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What is looked up before it is made or fetched; the label `cache`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Cached {
    /// A body as a client gets it.
    Rendered,
    /// A document of upstream's.
    Document,
    /// A tarball of upstream's.
    Tarball,
}

/// Hits and misses of one cache.
#[derive(Debug)]
struct Looks {
    hits: Counter,
    misses: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Look {
    cache: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct From {
    source: &'static str,
}

/// What becomes of packages.
#[derive(Debug)]
pub(super) struct Packages {
    rendered: Looks,
    documents: Looks,
    tarballs: Looks,
    pub(super) stale: Counter,
    pub(super) published: Counter,
    pub(super) unpublished: Counter,
    pub(super) hosted_downloads: Counter,
    pub(super) upstream_downloads: Counter,
}

impl Packages {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let caches = Family::<Look, Counter>::default();
        let looks = |cache| {
            let counter = |outcome| caches.get_or_create_owned(&Look { cache, outcome });
            Looks {
                hits: counter("hit"),
                misses: counter("miss"),
            }
        };
        let downloads = Family::<From, Counter>::default();
        let downloaded = |source| downloads.get_or_create_owned(&From { source });
        let this = Self {
            rendered: looks("rendered"),
            documents: looks("document"),
            tarballs: looks("tarball"),
            stale: Counter::default(),
            published: Counter::default(),
            unpublished: Counter::default(),
            hosted_downloads: downloaded("hosted"),
            upstream_downloads: downloaded("upstream"),
        };
        registry.register(
            "cache_requests",
            "Looks into caches: rendered bodies, documents and tarballs of upstream's",
            caches,
        );
        registry.register(
            "stale_answers",
            "Answers that are older than they should be, because upstream failed",
            this.stale.clone(),
        );
        registry.register(
            "publishes",
            "Versions that were published",
            this.published.clone(),
        );
        registry.register(
            "unpublishes",
            "Times that versions or whole packages were removed",
            this.unpublished.clone(),
        );
        registry.register(
            "downloads",
            "Tarballs that clients were given, by where they were published",
            downloads,
        );
        this
    }

    pub(super) fn looked(&self, cache: Cached, is_hit: bool) {
        let looks = match cache {
            Cached::Rendered => &self.rendered,
            Cached::Document => &self.documents,
            Cached::Tarball => &self.tarballs,
        };
        let counter = if is_hit { &looks.hits } else { &looks.misses };
        counter.inc();
    }
}
