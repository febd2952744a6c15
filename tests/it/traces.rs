//! Traces, as a collector gets them.

mod protobuf;

use std::{
    net::TcpListener as Listener,
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use http::HeaderMap;
use tokio::sync::mpsc;

use serde_json::json;

use crate::support::{Package, Reply, Service, Upstream, process::Process, registry::client};
use protobuf::{Export, Span};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector, which keeps what it gets.
struct Collector {
    endpoint: String,
    exports: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Collector {
    async fn start() -> Self {
        let (sender, exports) = mpsc::unbounded_channel();
        let take = async |State(sender): State<mpsc::UnboundedSender<_>>,
                          headers: HeaderMap,
                          body: Bytes| {
            let _ = sender.send((headers, body));
        };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(sender);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, exports }
    }

    /// All that it has got.
    fn exports(&mut self) -> Vec<Export> {
        let mut exports = Vec::new();
        while let Ok((headers, body)) = self.exports.try_recv() {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            exports.extend(Export::parse(&body));
        }
        exports
    }
}

async fn ended(process: Process) -> String {
    let ended = tokio::task::spawn_blocking(|| process.stop());
    ended.await.unwrap()
}

#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let found = named.next();
    let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
    found.unwrap_or_else(|| panic!("no `{name}` in {names:?}"))
}

#[tokio::test]
async fn a_collector_gets_the_spans_of_a_request_and_the_last_one_at_the_end() {
    let mut collector = Collector::start().await;
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("far", "1.0.0")]);
    let decider = Service::start(|_| Reply::Json(200, json!({}))).await;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(
        folder.path(),
        &[
            ("RUSTACCIO_UPSTREAM", &upstream.url),
            ("RUSTACCIO_POLICY_BACKEND", "http"),
            ("RUSTACCIO_POLICY_HTTP_BASE_URL", &decider.url),
            ("RUSTACCIO_OTEL_ENABLED", "true"),
            ("RUSTACCIO_OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("RUSTACCIO_OTEL_SERVICE_NAME", "npm of a test"),
            // The log's level is the log's.
            ("RUST_LOG", "error"),
        ],
    );
    let request = client()
        .get(format!("{}/far", process.url))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("x-request-id", "r-1");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let last = client().get(format!("{}/-/ping?last", process.url));
    assert_eq!(last.send().await.unwrap().status(), 200);
    let log = ended(process).await;
    assert!(!log.contains("ERROR"), "{log}");

    let exports = collector.exports();
    for export in &exports {
        let has = |key: &str| export.resource.get(key).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(has("service.name"), "npm of a test");
        assert_eq!(has("service.version"), env!("CARGO_PKG_VERSION"));
        assert!(!has("service.instance.id").is_empty() && !has("host.name").is_empty());
    }
    let spans: Vec<Span> = exports
        .into_iter()
        .flat_map(|export| export.spans)
        .collect();
    let question = decider.asked().remove(0);
    let trace = question.header("traceparent").unwrap();
    assert!(trace.starts_with(&format!("00-{TRACE}-")), "{trace}");
    assert_eq!(question.header("x-request-id"), Some("r-1"));
    let request = one(&spans, "GET /{package}");
    assert_eq!((&*request.trace, &*request.parent), (TRACE, PARENT));
    assert_eq!(request.kind, 2, "of a server");
    assert_eq!(request.attributes["http.response.status_code"], "200");
    assert_eq!(request.attributes["http.route"], "/{package}");
    assert_eq!(request.attributes["request.id"], "r-1");
    let asked = one(&spans, "uplink.packument");
    assert_eq!(asked.trace, TRACE);
    let ping = one(&spans, "GET /-/ping");
    assert_ne!(ping.trace, TRACE);
    assert!(ping.parent.is_empty());
    // The uplink can go on from there.
    let seen = upstream.seen();
    let (_, headers) = seen.iter().find(|(path, _)| path == "/far").unwrap();
    let passed_on = headers["traceparent"].to_str().unwrap();
    assert_eq!(passed_on, format!("00-{TRACE}-{}-01", asked.id));
}

#[tokio::test]
async fn a_collector_that_is_down_costs_nobody_anything() {
    // One takes connections and never answers, the other takes none.
    let silent = Listener::bind("127.0.0.1:0").unwrap();
    let gone = Listener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("http://{address}/v1/traces");
        let process = Process::start(
            folder.path(),
            &[
                ("RUSTACCIO_OTEL_ENABLED", "true"),
                ("RUSTACCIO_OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ],
        );
        // More than may wait to be sent.
        for _ in 0..6000 {
            let request = client_of_many().get(format!("{}/-/ping", process.url));
            assert_eq!(request.send().await.unwrap().status(), 200);
        }
        let asked = Instant::now();
        let log = ended(process).await;
        assert!(asked.elapsed() < Duration::from_secs(40), "{log}");
        assert!(log.contains("stopped"), "{log}");
        assert!(
            log.matches("the collector takes no traces").count() <= 1,
            "{log}"
        );
    }
}

fn client_of_many() -> &'static reqwest::Client {
    static CLIENT: std::sync::OnceLock<reqwest::Client> = std::sync::OnceLock::new();
    CLIENT.get_or_init(client)
}
