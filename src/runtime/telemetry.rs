//! [`Telemetry`]: logs and traces of a program.

use crate::{config::Config, error::RegistryError, telemetry};

#[cfg(feature = "otel")]
use std::time::Duration;

/// How long spans that wait may take to be sent when the program stops.
#[cfg(feature = "otel")]
const FLUSH: Duration = Duration::from_secs(5);

/// The logs and traces of a program, which has them once. Nothing else in this library starts them:
/// a program that embeds a registry has its own.
#[derive(Debug)]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    traces: Option<telemetry::Traces>,
}

impl Telemetry {
    /// Sends log lines to standard error from now on, and traces where the settings say. To be
    /// called on the runtime that serves.
    pub fn start(config: &Config) -> Result<Self, RegistryError> {
        #[cfg(feature = "otel")]
        {
            let mut traces = None;
            if config.traces.are_on {
                let runtime = tokio::runtime::Handle::current();
                let sender = crate::net::TracesSender::new(runtime).map_err(super::unusable)?;
                let sending = telemetry::Traces::new(&config.traces, sender);
                traces = Some(sending.map_err(super::unusable)?);
            }
            telemetry::start_logs_and_traces(&config.log, traces.as_ref())
                .map_err(super::unusable)?;
            Ok(Self { traces })
        }
        #[cfg(not(feature = "otel"))]
        {
            telemetry::start_logs(&config.log).map_err(super::unusable)?;
            Ok(Self {})
        }
    }

    /// Sends what waits, for a few seconds at most. When everything else has ended.
    #[cfg_attr(
        not(feature = "otel"),
        expect(clippy::unused_async, reason = "the feature awaits")
    )]
    pub async fn stop(self) {
        #[cfg(feature = "otel")]
        if let Some(traces) = self.traces {
            // It waits for a thread that waits for this runtime.
            let stopped = tokio::task::spawn_blocking(move || traces.stop(FLUSH)).await;
            if !matches!(stopped, Ok(true)) {
                tracing::warn!("stopped before all traces were sent");
            }
        }
    }
}
