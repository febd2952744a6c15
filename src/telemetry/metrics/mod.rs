//! [`Metrics`]: what is counted, in Prometheus' form.
//!
//! Each server has its own: two may live in one process. One that nobody reads counts nothing.

mod durations;
mod governed;
mod outcome;
mod requests;
mod traffic;
mod uplinks;
mod writes;

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::prometheus_text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

pub use governed::Backend;
pub use outcome::Outcome;
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use requests::{Requests, UnderWay};
pub use traffic::{Cached, Connections, OpenConnection};
pub use uplinks::{Asked, UplinkMetrics};
pub use writes::Waited;

use governed::{Ended, Governed};
use traffic::Packages;
use uplinks::Uplinks;
use writes::Writes;

/// What is counted. Clones count together; the default counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Option<Arc<Families>>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    requests: requests::Place,
    connections: Connections,
    packages: Packages,
    uplinks: Uplinks,
    writes: Writes,
    started: Gauge<i64>,
    governed: Governed,
}

impl Families {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("rustaccio");
        let started = about_the_program(&mut registry);
        let requests = requests::Place::default();
        registry.register_collector(Box::new(requests.clone()));
        let connections = Connections::register(&mut registry);
        let packages = Packages::register(&mut registry);
        let uplinks = Uplinks::register(&mut registry);
        let writes = Writes::register(&mut registry);
        let governed = Governed::register(&mut registry);
        Self {
            registry,
            requests,
            connections,
            packages,
            uplinks,
            writes,
            started,
            governed,
        }
    }
}

fn about_the_program(registry: &mut Registry) -> Gauge<i64> {
    let features: Vec<&str> = crate::config::FEATURES
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect();
    let build = Info::new([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("features", features.join(",")),
    ]);
    registry.register("build", "What this program is", build);
    let started = Gauge::<i64>::default();
    registry.register(
        "start_time_seconds",
        "When this registry was started, in seconds since 1970",
        started.clone(),
    );
    started
}

impl Metrics {
    /// Metrics that count.
    pub fn counting() -> Self {
        Self(Some(Arc::new(Families::new())))
    }

    /// Whether anything is counted.
    pub fn are_counted(&self) -> bool {
        self.0.is_some()
    }

    /// The text for a scrape, of [`METRICS_CONTENT_TYPE`]; empty where nothing is counted.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(families) = &self.0 {
            // Writing to a string cannot fail.
            let _ = encode(&mut text, &families.registry);
        }
        text
    }

    /// The registry was started at this time, in seconds since 1970.
    pub fn started(&self, unix_seconds: i64) {
        if let Some(families) = &self.0 {
            families.started.set(unix_seconds);
        }
    }

    /// Where requests are counted, by these routes; `None` where nothing is. The first who asks
    /// says which routes there are.
    pub fn requests(&self, patterns: impl FnOnce() -> Vec<String>) -> Option<Arc<Requests>> {
        let place = &self.0.as_ref()?.requests.0;
        Some(Arc::clone(
            place.get_or_init(|| Arc::new(Requests::new(patterns()))),
        ))
    }

    /// Where connections are counted.
    pub fn connections(&self) -> Connections {
        let families = self.0.as_ref();
        families.map_or_else(Connections::default, |families| {
            families.connections.clone()
        })
    }

    /// Where questions to the uplink of this name are counted.
    pub fn uplink(&self, name: &str) -> UplinkMetrics {
        let families = self.0.as_ref();
        families.map_or_else(UplinkMetrics::default, |families| families.uplinks.of(name))
    }

    /// Somebody looked into a cache, and found what was wanted or not.
    pub fn looked(&self, cache: Cached, is_hit: bool) {
        if let Some(families) = &self.0 {
            families.packages.looked(cache, is_hit);
        }
    }

    /// An answer is older than it should be, because upstream failed.
    pub fn stale_answer(&self) {
        self.count(|families| &families.packages.stale);
    }

    /// A version was published.
    pub fn published(&self) {
        self.count(|families| &families.packages.published);
    }

    /// Versions, or a whole package, were removed.
    pub fn unpublished(&self) {
        self.count(|families| &families.packages.unpublished);
    }

    /// A client was given a tarball, or the first of its parts.
    pub fn downloaded(&self, is_hosted: bool) {
        self.count(|families| {
            if is_hosted {
                &families.packages.hosted_downloads
            } else {
                &families.packages.upstream_downloads
            }
        });
    }

    /// A writer waited for a lease.
    pub fn waited_for_lease(&self, how: Waited) {
        if let Some(families) = &self.0 {
            families.writes.waited(how);
        }
    }

    /// Somebody else had changed a manifest before it was written.
    pub fn manifest_conflict(&self) {
        self.count(|families| &families.writes.conflicts);
    }

    /// Storage failed at this.
    pub fn storage_failed(&self, operation: &'static str) {
        if let Some(families) = &self.0 {
            families.writes.failed(operation);
        }
    }

    /// A request of the class `action` met rate limit and quota, and was let through or not.
    pub fn governed(&self, action: &'static str, is_allowed: bool) {
        let outcome = if is_allowed {
            Outcome::Allowed
        } else {
            Outcome::Rejected
        };
        if let Some(families) = &self.0 {
            families.governed.requests.count(action, outcome);
        }
    }

    /// What the rate limit decided.
    pub fn rate_limit(&self, action: &'static str, outcome: Outcome) {
        if let Some(families) = &self.0 {
            families.governed.rate_limits.count(action, outcome);
        }
    }

    /// What the quota decided.
    pub fn quota(&self, action: &'static str, outcome: Outcome) {
        if let Some(families) = &self.0 {
            families.governed.quotas.count(action, outcome);
        }
    }

    /// What the policy backend decided about a package, or how a question to it failed.
    pub fn policy_backend(&self, outcome: Outcome) {
        self.count_in(|families| &families.governed.policy, &Ended { outcome });
    }

    /// What became of a question to the HTTP auth backend about credentials.
    pub fn auth_backend(&self, outcome: Outcome) {
        self.count_in(|families| &families.governed.auth, &Ended { outcome });
    }

    /// What became of an event.
    pub fn event(&self, outcome: Outcome) {
        self.count_in(|families| &families.governed.events, &Ended { outcome });
    }

    /// What became of a message of a `notify` hook.
    pub fn notification(&self, outcome: Outcome) {
        self.count_in(
            |families| &families.governed.notifications,
            &Ended { outcome },
        );
    }

    /// What became of a line of the audit trail.
    pub fn audit_line(&self, outcome: Outcome) {
        self.count_in(
            |families| &families.governed.audit_lines,
            &Ended { outcome },
        );
    }

    /// One more event waits to be sent.
    pub fn event_waits(&self) {
        if let Some(families) = &self.0 {
            families.governed.event_queue.inc();
        }
    }

    /// One event less waits.
    pub fn event_left(&self) {
        if let Some(families) = &self.0 {
            families.governed.event_queue.dec();
        }
    }

    /// How long a service took to answer, or to fail.
    pub fn backend_took(&self, backend: Backend, took: Duration) {
        if let Some(families) = &self.0 {
            families.governed.durations(backend).observe(took);
        }
    }

    fn count(&self, counter: impl FnOnce(&Families) -> &Counter) {
        if let Some(families) = &self.0 {
            counter(families).inc();
        }
    }

    fn count_in<L>(&self, family: impl FnOnce(&Families) -> &Family<L, Counter>, labels: &L)
    where
        L: Clone + std::hash::Hash + Eq,
    {
        if let Some(families) = &self.0 {
            family(families).get_or_create(labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::counting();
        metrics.governed("download", true);
        metrics.clone().governed("download", true);
        metrics.quota("publish", Outcome::FailedOpen);
        let text = metrics.to_text();
        for line in [
            r#"rustaccio_governance_requests_total{action="download",outcome="allowed"} 2"#,
            r#"rustaccio_quota_decisions_total{action="publish",outcome="failed_open"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn what_nobody_reads_is_not_counted() {
        let metrics = Metrics::default();
        metrics.event(Outcome::Dropped);
        assert!(!metrics.are_counted());
        assert!(metrics.requests(|| panic!("nobody asks")).is_none());
        assert_eq!(metrics.to_text(), "");
    }

    #[test]
    fn clients_make_no_labels() {
        let metrics = Metrics::counting();
        let requests = metrics.requests(|| vec!["/{package}".to_owned()]).unwrap();
        let strange = Method::from_bytes(b"BREW").unwrap();
        let teapot = StatusCode::IM_A_TEAPOT;
        for (route, method, status) in [
            (Some(0), &Method::GET, StatusCode::OK),
            (Some(7), &strange, StatusCode::OK),
            (None, &Method::GET, teapot),
        ] {
            let under_way = requests.begin(method);
            under_way.ended(route, status, Duration::from_millis(3));
        }
        let text = metrics.to_text();
        for labels in [
            r#"{route="/{package}",method="GET",status="200"} 1"#,
            r#"{route="other",method="other",status="200"} 1"#,
            r#"{route="other",method="GET",status="other"} 1"#,
        ] {
            let line = format!("rustaccio_http_requests_total{labels}");
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        let failed = requests.begin(&Method::GET);
        let odd = StatusCode::from_u16(599).unwrap();
        failed.ended(Some(0), odd, Duration::from_millis(3));
        let text = text + &metrics.to_text();
        // Failures have a series before the first of them.
        for labels in [
            r#"{route="/{package}",method="GET",status="500"} 0"#,
            r#"{route="/{package}",method="GET",status="5xx"} 0"#,
            r#"{route="/{package}",method="GET",status="5xx"} 1"#,
        ] {
            let line = format!("rustaccio_http_requests_total{labels}");
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(!text.contains("BREW") && !text.contains("418"), "{text}");
    }
}
