//! [`Requests`]: what became of requests, by route, method and status.
//!
//! Every request is counted here, so that what is counted has its place before it comes: a few
//! additions, and neither a lock nor memory. Labels are ours; whatever clients send, there are no
//! more of them.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::MetricType,
};

use super::durations::Durations;

const METHODS: [&str; 7] = ["GET", "PUT", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"];
const STATUSES: [(u16, &str); 24] = [
    (200, "200"),
    (304, "304"),
    (201, "201"),
    (404, "404"),
    (401, "401"),
    (403, "403"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (302, "302"),
    (400, "400"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (416, "416"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
    (508, "508"),
];
/// The label for all that is not known by name.
const OTHER: &str = "other";
/// The label for failures of ours that are not known by name: alarms look for `5..`.
const FAILED: &str = "5xx";
/// The status of requests whose clients went away before there was one.
const ABORTED: &str = "aborted";

/// The requests of one server.
#[derive(Debug)]
pub struct Requests {
    /// Those that met no route are the last ones.
    routes: Vec<Route>,
    under_way: AtomicI64,
}

#[derive(Debug)]
struct Route {
    pattern: String,
    /// Made when the first of their requests comes; other methods are the last ones.
    methods: [OnceLock<Box<Ended>>; METHODS.len() + 1],
}

#[derive(Debug, Default)]
struct Ended {
    /// The last ones are other statuses, other failures, and none.
    statuses: [AtomicU64; STATUSES.len() + 3],
    durations: Durations,
}

/// A request that is being worked on.
#[derive(Debug)]
pub struct UnderWay<'a> {
    requests: &'a Requests,
    /// The number of its method.
    method: usize,
}

impl Requests {
    pub(super) fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let route = |pattern| Route {
            pattern,
            methods: std::array::from_fn(|_| OnceLock::new()),
        };
        let patterns = patterns.into_iter().chain([OTHER.to_owned()]);
        Self {
            routes: patterns.map(route).collect(),
            under_way: AtomicI64::new(0),
        }
    }

    /// A request begins, and is under way until what this returns is dropped.
    pub fn begin(&self, method: &Method) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let method = method.as_str();
        let method = METHODS.iter().position(|known| *known == method);
        UnderWay {
            requests: self,
            method: method.unwrap_or(METHODS.len()),
        }
    }

    fn ended(&self, route: Option<usize>, method: usize, status: usize, took: Duration) {
        let route = route.and_then(|number| self.routes.get(number));
        let Some(route) = route.or(self.routes.last()) else {
            return;
        };
        let Some(ended) = route.methods.get(method) else {
            return;
        };
        let ended = ended.get_or_init(Box::default);
        if let Some(status) = ended.statuses.get(status) {
            status.fetch_add(1, Ordering::Relaxed);
        }
        ended.durations.observe(took);
    }

    /// What was counted, each with its route and method.
    fn counted(&self) -> impl Iterator<Item = ([(&str, &str); 2], &Ended)> {
        self.routes.iter().flat_map(|route| {
            let methods = METHODS.iter().chain([&OTHER]);
            let methods = methods.zip(&route.methods);
            methods.filter_map(|(method, ended)| {
                let labels = [("route", route.pattern.as_str()), ("method", method)];
                Some((labels, &**ended.get()?))
            })
        })
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that are being worked on: their answers have not begun.";
        encoder
            .encode_descriptor("http_requests_in_flight", help, None, MetricType::Gauge)?
            .encode_gauge(&self.under_way.load(Ordering::Relaxed))?;
        let help = "Requests by the route that they met, method, and status of the answer.";
        let mut requests =
            encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        for ([route, method], ended) in self.counted() {
            let statuses = STATUSES.iter().map(|(_, text)| *text);
            let statuses = statuses.chain([OTHER, FAILED, ABORTED]);
            for (status, count) in statuses.zip(&ended.statuses) {
                let count = count.load(Ordering::Relaxed);
                // A series that begins above 0 has no increase: the first failure would raise no alarm.
                if count > 0 || status.starts_with('5') {
                    let labels = [route, method, ("status", status)];
                    let mut counter = requests.encode_family(&labels)?;
                    counter.encode_counter::<[(&str, &str); 0], _, u64>(&count, None)?;
                }
            }
        }
        let help = "How long requests took until their answer began, by route and method.";
        let name = "http_request_duration_seconds";
        let mut durations = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, ended) in self.counted() {
            let histogram = durations.encode_family(&labels)?;
            ended.durations.encode(histogram)?;
        }
        Ok(())
    }
}

impl UnderWay<'_> {
    /// It was answered, and met the route with this number, or none.
    pub fn ended(self, route: Option<usize>, status: StatusCode, took: Duration) {
        let known = STATUSES.iter().position(|(it, _)| *it == status.as_u16());
        let other = STATUSES.len() + usize::from(status.is_server_error());
        let status = known.unwrap_or(other);
        self.requests.ended(route, self.method, status, took);
    }

    /// Its client went away before it was answered.
    pub fn aborted(self, route: Option<usize>, took: Duration) {
        let status = STATUSES.len() + 2;
        self.requests.ended(route, self.method, status, took);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.requests.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the requests are once the routes are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Place(pub(super) Arc<OnceLock<Arc<Requests>>>);

impl Collector for Place {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.get() {
            Some(requests) => requests.encode(&mut encoder),
            None => Ok(()),
        }
    }
}
