//! Settings of what this version does not have. What would turn it on stops the start; what would
//! only adjust it is accepted.

use super::{
    Kind::{Later, Unused},
    Setting,
};

const OFF: &[&str] = &["false", "no", "off", "0"];
const NONE: &[&str] = &["none", ""];

const fn later(
    variable: &'static str,
    default: &'static str,
    off: &'static [&'static str],
    instead: &'static str,
) -> Setting {
    Setting::new(
        variable,
        default,
        Later(off, instead),
        "Not in this version; leave it as it is.",
    )
}

const fn unused(variable: &'static str, default: &'static str) -> Setting {
    Setting::new(
        variable,
        default,
        Unused,
        "Adjusts what is not in this version.",
    )
}

const UNSET: &str = "leave it unset";

pub(super) const SETTINGS: &[Setting] = &[
    later("RUSTACCIO_AUTH_BACKEND", "local", &["local"], "use `local`"),
    later("RUSTACCIO_AUTH_EXTERNAL_MODE", "false", OFF, UNSET)
        .also(&["auth_external", "auth_plugin_external_mode"]),
    unused("RUSTACCIO_AUTH_HTTP_BASE_URL", ""),
    unused("RUSTACCIO_AUTH_HTTP_ADDUSER_ENDPOINT", "/adduser")
        .also(&["auth_http_add_user_endpoint"]),
    unused("RUSTACCIO_AUTH_HTTP_LOGIN_ENDPOINT", "/authenticate"),
    unused(
        "RUSTACCIO_AUTH_HTTP_CHANGE_PASSWORD_ENDPOINT",
        "/change-password",
    ),
    unused("RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT", ""),
    unused("RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT", ""),
    unused("RUSTACCIO_AUTH_HTTP_ALLOW_PUBLISH_ENDPOINT", ""),
    unused("RUSTACCIO_AUTH_HTTP_ALLOW_UNPUBLISH_ENDPOINT", ""),
    unused("RUSTACCIO_AUTH_HTTP_TIMEOUT_MS", "5000"),
    later("RUSTACCIO_RATE_LIMIT_BACKEND", "none", NONE, "use `none`"),
    unused("RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW", "0"),
    unused("RUSTACCIO_RATE_LIMIT_WINDOW_SECS", "60"),
    unused("RUSTACCIO_RATE_LIMIT_REDIS_URL", "").secret(),
    unused("RUSTACCIO_RATE_LIMIT_FAIL_OPEN", "true"),
    unused("RUSTACCIO_RATE_LIMIT_MEMORY_MAX_KEYS", "10000"),
    later("RUSTACCIO_QUOTA_BACKEND", "none", NONE, "use `none`"),
    unused("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "0"),
    unused("RUSTACCIO_QUOTA_DOWNLOADS_PER_DAY", "0"),
    unused("RUSTACCIO_QUOTA_PUBLISHES_PER_DAY", "0"),
    unused("RUSTACCIO_QUOTA_POSTGRES_URL", "").secret(),
    unused("RUSTACCIO_QUOTA_FAIL_OPEN", "true"),
    unused("RUSTACCIO_QUOTA_MEMORY_MAX_KEYS", "50000"),
    unused("RUSTACCIO_QUOTA_MEMORY_RETENTION_DAYS", "2"),
    later("RUSTACCIO_METRICS_BACKEND", "none", NONE, "use `none`"),
    unused("RUSTACCIO_METRICS_PATH", "/-/metrics"),
    unused("RUSTACCIO_METRICS_REQUIRE_ADMIN", "true"),
    later("RUSTACCIO_OTEL_ENABLED", "false", OFF, UNSET),
    unused(
        "RUSTACCIO_OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://127.0.0.1:4318/v1/traces",
    ),
    unused("RUSTACCIO_OTEL_SERVICE_NAME", "rustaccio"),
    later(
        "RUSTACCIO_POLICY_BACKEND",
        "local",
        &["local"],
        "use `local`",
    ),
    unused("RUSTACCIO_POLICY_HTTP_BASE_URL", ""),
    unused("RUSTACCIO_POLICY_HTTP_DECISION_ENDPOINT", "/authorize"),
    unused("RUSTACCIO_POLICY_HTTP_TIMEOUT_MS", "3000"),
    unused("RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS", "5000"),
    unused("RUSTACCIO_POLICY_HTTP_CACHE_MAX_ENTRIES", "10000"),
    unused("RUSTACCIO_POLICY_HTTP_CACHE_PRUNE_INTERVAL_MS", "30000"),
    unused("RUSTACCIO_POLICY_HTTP_FAIL_OPEN", "false"),
    unused("RUSTACCIO_NPM_TOKEN", "").secret(),
];
