//! Traces: requests as a collector of OpenTelemetry's sees them. Without the feature `otel`, and
//! where nobody has started them, what is here does nothing.

use http::HeaderMap;
use tracing::Span;

#[cfg(feature = "otel")]
pub use exporting::{TraceError, Traces, TracesClient};

/// Lets `span`, of a request with these headers, belong to the trace that the client is in.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    #[cfg(feature = "otel")]
    exporting::continue_trace(span, headers);
    #[cfg(not(feature = "otel"))]
    let _ = (span, headers);
}

/// Tells whoever gets these headers of the trace that the present task is in.
pub fn pass_trace_on(headers: &mut HeaderMap) {
    #[cfg(feature = "otel")]
    exporting::pass_trace_on(headers);
    #[cfg(not(feature = "otel"))]
    let _ = headers;
}

#[cfg(feature = "otel")]
mod exporting {
    use std::time::Duration;

    use http::HeaderMap;
    use opentelemetry::{
        KeyValue,
        propagation::TextMapPropagator as _,
        trace::{TraceContextExt as _, TracerProvider as _},
    };
    use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
    use opentelemetry_sdk::{
        Resource,
        propagation::TraceContextPropagator,
        trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Tracer},
    };
    use tracing::{Span, Subscriber};
    use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
    use tracing_subscriber::{
        Layer,
        filter::{LevelFilter, Targets},
        registry::LookupSpan,
    };

    use crate::config::TracesConfig;

    const TRACEPARENT: &str = "traceparent";
    /// Spans that wait to be sent; where the collector is slow, further ones are dropped.
    const MAX_WAITING: usize = 4096;
    const MAX_BATCH: usize = 512;
    const PAUSE: Duration = Duration::from_secs(2);
    /// How long the collector may take for a batch, retries included.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// What sends spans over HTTP.
    pub use opentelemetry_http::HttpClient as TracesClient;

    /// Spans cannot be sent.
    #[derive(Debug, thiserror::Error)]
    #[error("traces cannot be sent: {0}")]
    pub struct TraceError(#[from] opentelemetry_otlp::ExporterBuildError);

    /// Spans on their way to a collector, in the background.
    #[derive(Clone, Debug)]
    pub struct Traces {
        provider: SdkTracerProvider,
    }

    impl Traces {
        /// Spans that `client` sends where the settings say.
        pub fn new(
            config: &TracesConfig,
            client: impl HttpClient + 'static,
        ) -> Result<Self, TraceError> {
            let exporter = SpanExporter::builder()
                .with_http()
                .with_http_client(client)
                .with_endpoint(config.endpoint())
                .with_timeout(PATIENCE)
                .build()?;
            let batches = BatchConfigBuilder::default()
                .with_max_queue_size(MAX_WAITING)
                .with_max_export_batch_size(MAX_BATCH)
                .with_scheduled_delay(PAUSE);
            let processor =
                BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
            let provider = SdkTracerProvider::builder()
                .with_span_processor(processor.build())
                .with_resource(resource(config));
            Ok(Self {
                provider: provider.build(),
            })
        }

        /// The layer that makes spans of ours out of those of the log's.
        pub(in crate::telemetry) fn layer<S>(&self) -> impl Layer<S> + use<S>
        where
            S: Subscriber + for<'a> LookupSpan<'a>,
        {
            let tracer: Tracer = self.provider.tracer("rustaccio");
            OpenTelemetryLayer::new(tracer)
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_context_activation(false)
                .with_filter(Targets::new().with_target("rustaccio", LevelFilter::INFO))
        }

        /// Sends what waits, and ends; at most `limit`. Whether all of it was sent. Blocks.
        pub fn stop(&self, limit: Duration) -> bool {
            self.provider.shutdown_with_timeout(limit).is_ok()
        }
    }

    fn resource(config: &TracesConfig) -> Resource {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
                KeyValue::new("host.name", host),
            ])
            .build()
    }

    pub(super) fn continue_trace(span: &Span, headers: &HeaderMap) {
        if !headers.contains_key(TRACEPARENT) {
            return;
        }
        let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        if context.span().span_context().is_valid() {
            // It fails where nothing is traced.
            let _ = span.set_parent(context);
        }
    }

    pub(super) fn pass_trace_on(headers: &mut HeaderMap) {
        let context = Span::current().context();
        if context.span().span_context().is_valid() {
            TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
        }
    }
}
