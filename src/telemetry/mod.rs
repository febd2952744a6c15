//! Floor 2: what the program tells about itself.

mod logs;
mod metrics;

pub use logs::{LogError, check_logs, start_logs};
pub use metrics::{
    Asked, Backend, Cached, Connections, METRICS_CONTENT_TYPE, Metrics, OpenConnection, Outcome,
    Requests, UnderWay, UplinkMetrics, Waited,
};
