//! Floor 2: what the program tells about itself.

mod logs;
mod metrics;
mod traces;

#[cfg(feature = "otel")]
pub use logs::start_logs_and_traces;
pub use logs::{LogError, check_logs, start_logs};
pub use metrics::{
    Asked, Backend, Cached, Connections, METRICS_CONTENT_TYPE, Metrics, OpenConnection, Outcome,
    Requests, UnderWay, UplinkMetrics, Waited,
};
#[cfg(feature = "otel")]
pub use traces::{TraceError, Traces, TracesClient};
pub use traces::{continue_trace, pass_trace_on};
