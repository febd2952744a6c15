//! [`start_logs`]: log lines on standard error.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, prelude::*, registry::LookupSpan};

use crate::config::{LogConfig, LogFormat};

/// Libraries that say more at `info` than anybody wants to know.
const NOISY: [&str; 5] = ["h2", "hyper", "hyper_util", "reqwest", "rustls"];

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// `RUST_LOG` cannot be read.
    #[error("{0}; directives look like `warn,rustaccio=debug`")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// The program that embeds the registry has a log already.
    #[error("another log is running already")]
    Running(#[from] tracing_subscriber::util::TryInitError),
}

/// Whether the log could be started with these directives.
pub fn check_logs(config: &LogConfig) -> Result<(), LogError> {
    filter(config).map(drop)
}

/// Sends log lines to standard error from now on. Once in a process.
pub fn start_logs(config: &LogConfig) -> Result<(), LogError> {
    let registry = tracing_subscriber::registry().with(filter(config)?);
    registry.with(lines(config)).try_init()?;
    Ok(())
}

/// The same, and sends spans to a collector, whatever the log shows of them.
#[cfg(feature = "otel")]
pub fn start_logs_and_traces(
    config: &LogConfig,
    traces: Option<&super::Traces>,
) -> Result<(), LogError> {
    let Some(traces) = traces else {
        return start_logs(config);
    };
    let lines = lines(config).with_filter(filter(config)?);
    let registry = tracing_subscriber::registry().with(lines);
    registry.with(traces.layer()).try_init()?;
    Ok(())
}

fn lines<S>(config: &LogConfig) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let has_colours = io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(has_colours);
    match config.format {
        LogFormat::Pretty => lines.with_target(false).boxed(),
        LogFormat::Compact => lines.compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

fn filter(config: &LogConfig) -> Result<EnvFilter, LogError> {
    Ok(EnvFilter::try_new(directives(config))?)
}

fn directives(config: &LogConfig) -> String {
    let base = config
        .directives
        .clone()
        .unwrap_or_else(|| format!("warn,rustaccio={}", config.level));
    if config.verbose_dependencies {
        return base;
    }
    let mut directives = base.clone();
    for target in NOISY.iter().filter(|target| !base.contains(*target)) {
        directives.push_str(&format!(",{target}=warn"));
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_asked() {
        let mut config = LogConfig::default();
        assert!(directives(&config).starts_with("warn,rustaccio=info,h2=warn"));
        config.directives = Some("debug,hyper=trace".to_owned());
        assert!(!directives(&config).contains("hyper=warn"));
        config.verbose_dependencies = true;
        assert_eq!(directives(&config), "debug,hyper=trace");
    }
}
