//! Settings of accounts that a company keeps elsewhere.

use std::time::Duration;

use super::{
    Kind::{Choice, Number, Switch, Text},
    Setting, Target,
};
use crate::config::{AuthBackend, uplink_file::http_address};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_AUTH_BACKEND",
        "local",
        Choice(&["local", "http"], |target, word| {
            target.config.auth.backend = match word {
                "http" => AuthBackend::Http,
                _ => AuthBackend::Local,
            };
        }),
        "Who keeps accounts: `local`, the registry itself, or `http`, the service at \
         `RUSTACCIO_AUTH_HTTP_BASE_URL`; see `docs/access.md`.",
    ),
    Setting::new(
        "RUSTACCIO_AUTH_EXTERNAL_MODE",
        "false",
        Switch(|target, on| target.config.auth.is_external = on),
        "Whether tokens come from outside only: nobody signs in, makes tokens or changes a password \
         here.",
    )
    .also(&["auth_external", "auth_plugin_external_mode"]),
    Setting::new(
        "RUSTACCIO_AUTH_HTTP_BASE_URL",
        "",
        Text(|target, text| {
            let url = http_address(text).ok_or("must be an http or https address")?;
            target.config.auth.http.base_url = Some(url);
            Ok(())
        }),
        "The address of the service that keeps accounts.",
    ),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_ADDUSER_ENDPOINT",
        "/adduser",
        |target, text| text.clone_into(&mut target.config.auth.http.add_user_endpoint),
        "Where it makes users.",
    )
    .also(&["auth_http_add_user_endpoint"]),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_LOGIN_ENDPOINT",
        "/authenticate",
        |target, text| text.clone_into(&mut target.config.auth.http.login_endpoint),
        "Where it checks passwords.",
    ),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_CHANGE_PASSWORD_ENDPOINT",
        "/change-password",
        |target, text| text.clone_into(&mut target.config.auth.http.change_password_endpoint),
        "Where it changes passwords.",
    ),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT",
        "",
        |target, text| target.config.auth.http.request_auth_endpoint = Some(text.to_owned()),
        "Where it says whose token a request carries. Without it, only tokens that were made here \
         count.",
    ),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_ALLOW_ACCESS_ENDPOINT",
        "",
        |target, text| target.config.auth.http.allow_access_endpoint = Some(text.to_owned()),
        "Where it decides who may read a package. Without it, the rules do.",
    ),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_ALLOW_PUBLISH_ENDPOINT",
        "",
        |target, text| target.config.auth.http.allow_publish_endpoint = Some(text.to_owned()),
        "Where it decides who may publish a package. Without it, the rules do.",
    ),
    endpoint(
        "RUSTACCIO_AUTH_HTTP_ALLOW_UNPUBLISH_ENDPOINT",
        "",
        |target, text| target.config.auth.http.allow_unpublish_endpoint = Some(text.to_owned()),
        "Where it decides who may unpublish a package. Without it, the rules do.",
    ),
    Setting::new(
        "RUSTACCIO_AUTH_HTTP_TIMEOUT_MS",
        "5000",
        Number(250..=300_000, |target, millis| {
            target.config.auth.http.timeout = Duration::from_millis(millis);
        }),
        "How long an answer of it may take, in milliseconds; then the answer is 502.",
    ),
    Setting::new(
        "RUSTACCIO_AUTH_HTTP_CACHE_TTL_MS",
        "2000",
        Number(0..=300_000, |target, millis| {
            target.config.auth.http.cache_ttl = Duration::from_millis(millis);
        }),
        "How long after it was asked an answer about a token, or about who may do what, still counts, in \
         milliseconds: as long may a revoked token work. 0 asks for every request.",
    ),
    Setting::new(
        "RUSTACCIO_AUTH_HTTP_CACHE_MAX_ENTRIES",
        "10000",
        Number(0..=10_000_000, |target, count| {
            target.config.auth.http.cache_max_entries = super::count(count);
        }),
        "How many answers of each kind are remembered; 0 for any number.",
    ),
    Setting::new(
        "RUSTACCIO_AUTH_HTTP_CACHE_SCOPE",
        "request",
        Choice(&["request", "token"], |target, word| {
            target.config.auth.http.cache_by_token = word == "token";
        }),
        "What an answer about a token counts for: `request`, the same method and path, or `token`, \
         whatever its bearer asks for, where the service does not look at them.",
    ),
];

const fn endpoint(
    variable: &'static str,
    default: &'static str,
    put: fn(&mut Target, &str),
    help: &'static str,
) -> Setting {
    Setting::new(variable, default, super::Kind::Endpoint(put), help)
}
