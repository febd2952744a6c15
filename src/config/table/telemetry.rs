//! Settings of metrics and traces.

use url::Url;

use super::{
    Kind::{Choice, Switch, Text},
    Setting,
};
use crate::config::TracesConfig;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_METRICS_BACKEND",
        "none",
        Choice(&["none", "prometheus"], |target, word| {
            target.config.metrics.are_on = word == "prometheus";
        }),
        "Whether anything is counted: `none` or `prometheus`, whose servers read it.",
    ),
    Setting::new(
        "RUSTACCIO_METRICS_PATH",
        "/-/metrics",
        Text(|target, text| {
            target.config.metrics.path = path(text)?;
            Ok(())
        }),
        "Where they read it, below `RUSTACCIO_URL_PREFIX`.",
    ),
    Setting::new(
        "RUSTACCIO_METRICS_REQUIRE_ADMIN",
        "true",
        Switch(|target, on| target.config.metrics.require_admin = on),
        "Whether only administrators may read it. `false` is for where nobody else reaches the registry.",
    ),
    Setting::new(
        "RUSTACCIO_OTEL_ENABLED",
        "false",
        Switch(|target, on| target.config.traces.are_on = on),
        "Whether traces are sent to a collector of OpenTelemetry's.",
    ),
    Setting::new(
        "RUSTACCIO_OTEL_EXPORTER_OTLP_ENDPOINT",
        TracesConfig::DEFAULT_ENDPOINT,
        Text(|target, text| {
            target.config.traces.endpoint = Some(endpoint(text)?);
            Ok(())
        }),
        "Where the collector takes traces over HTTP.",
    ),
    Setting::new(
        "RUSTACCIO_OTEL_SERVICE_NAME",
        "rustaccio",
        Text(|target, text| {
            text.clone_into(&mut target.config.traces.service_name);
            Ok(())
        }),
        "What the registry is called in traces.",
    ),
];

/// An absolute path, as requests have it.
fn path(text: &str) -> Result<String, String> {
    let path = format!("/{}", text.trim_matches('/'));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if path == "/" || path.contains("//") || !path.chars().all(is_plain) {
        return Err(
            "must be a path of letters, digits and `-._~`, such as `/-/metrics`".to_owned(),
        );
    }
    Ok(path)
}

fn endpoint(text: &str) -> Result<Url, String> {
    text.parse()
        .ok()
        .filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            format!(
                "must be an address such as `{}`",
                TracesConfig::DEFAULT_ENDPOINT
            )
        })
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_path_is_absolute_and_plain() {
        for (text, as_it_is_asked) in [("metrics", "/metrics"), ("/-/metrics/", "/-/metrics")] {
            assert_eq!(path(text).as_deref(), Ok(as_it_is_asked));
        }
        for text in ["/", "a//b", "a?b", "a b", "@s/metrics", "%6d"] {
            assert!(path(text).is_err(), "{text}");
        }
    }
}
