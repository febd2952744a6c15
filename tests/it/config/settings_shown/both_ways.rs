//! What a variable does, its path in a file does too.

use super::*;
use crate::config::{load, load_text};

/// Values of settings whose default does not tell what another value is like.
const VALUES: &[(&str, &str)] = &[
    ("BIND", "127.0.0.1:1"),
    ("DATA_DIR", "/other"),
    ("CACHE_DIR", "/other"),
    ("S3_CA_BUNDLE", "/other"),
    ("AUDIT_LOG_FILE", "/other"),
    ("AUTH_HTPASSWD_FILE", "/other"),
    ("WEB_LANGUAGE", "de"),
    ("PUBLIC_URL", "https://npm.example/x"),
    ("URL_PREFIX", "/npm"),
    ("TRUST_PROXY", "10.0.0.0/8"),
    ("MAX_BODY_SIZE", "7mb"),
    ("LOG_LEVEL", "debug"),
    ("LOG_FORMAT", "json"),
    ("TOKIO_WORKER_THREADS", "3"),
    ("UPSTREAM", "http://npm.example/"),
    ("UPSTREAM_ALLOWED_ORIGINS", "https://files.example"),
    ("CACHE_MAX_SIZE", "7gb"),
    ("CACHE_MAX_AGE", "7d"),
    ("PACKAGE_DISCOVERY_MODE", "multi"),
    ("METADATA_BACKEND", "transactional"),
    ("STATE_COORDINATION_BACKEND", "redis"),
    ("STATE_COORDINATION_S3_FORCE_PATH_STYLE", "true"),
    ("RATE_LIMIT_BACKEND", "memory"),
    ("QUOTA_BACKEND", "memory"),
    ("REGISTRATION", "closed"),
    ("MAX_USERS", "7"),
    ("ADMIN_ALLOW_ANY_AUTHENTICATED", "true"),
    ("STRICT_REVISION_CHECK", "true"),
    ("SIGNING", "off"),
    ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
    ("AUTH_BACKEND", "http"),
    ("AUTH_HTTP_BASE_URL", "https://accounts.example"),
    ("AUTH_HTTP_CACHE_SCOPE", "token"),
    ("POLICY_BACKEND", "http"),
    ("POLICY_HTTP_BASE_URL", "https://decisions.example"),
    ("METRICS_BACKEND", "prometheus"),
    ("METRICS_PATH", "/other"),
    ("EVENT_HTTP_BASE_URL", "https://events.example"),
    ("EVENT_HTTP_ENDPOINT", "/other"),
    ("AUDIT_LOG_MAX_SIZE", "7mb"),
];
/// Those that change nothing, change it elsewhere, or need others beside them.
const OTHERS: &str = "RUNTIME_PROFILE MANAGED_MODE TLS_CERT TLS_KEY PACKAGE_METADATA_AUTHORITY \
    PACKAGE_CACHE_MAX_ENTRIES PACKAGE_CACHE_PRUNE_INTERVAL_SECS NPM_TOKEN CACHE_SHARED \
    TARBALL_BACKEND EVENT_SINK AUTH_HTPASSWD_ROUNDS";

fn value(name: &str, default: &str) -> String {
    let known = VALUES.iter().find(|(known, _)| *known == name);
    match (known, default) {
        (Some((_, value)), _) => (*value).to_owned(),
        (None, "true" | "on") => "false".to_owned(),
        (None, "false" | "off") => "true".to_owned(),
        (None, default) => match default.parse::<u64>() {
            Ok(number) => (number + 1).to_string(),
            Err(_) if name.ends_with("_SECS") => "77".to_owned(),
            Err(_) if name.starts_with("AUTH_") || name.starts_with("POLICY_") => {
                "/other".to_owned()
            }
            Err(_) if name.ends_with("ENDPOINT") => "https://store.example".to_owned(),
            Err(_) => "other".to_owned(),
        },
    }
}

/// All that settings come to.
fn whole(config: &rustaccio::config::Config) -> String {
    assert_eq!(config.describe_problems(), "");
    let parts = (
        &config.url_prefix,
        &config.server,
        &config.storage,
        &config.coordination,
        &config.uplinks,
        &config.packages,
        (&config.rate_limit, &config.quota),
        (&config.auth, &config.admin, &config.publish, &config.web),
        &config.policy,
        (&config.events, &config.audit_log),
        (&config.metrics, &config.traces),
        (config.audit, &config.log),
    );
    format!("{parts:?}")
}

#[test]
fn paths_in_files_do_what_variables_do() {
    let others: BTreeSet<&str> = OTHERS.split(' ').collect();
    let without = whole(&load(&[("RUSTACCIO_UPSTREAM", "")]));
    for setting in settings() {
        let name = setting.variable.trim_start_matches("RUSTACCIO_");
        if others.contains(name) {
            continue;
        }
        let value = value(name, setting.default);
        let by_variable = whole(&load(&[(setting.variable, &value)]));
        assert_ne!(by_variable, without, "{name} = {value} changes nothing");
        let paths = setting.aliases.iter().map(|&alias| alias.to_owned());
        for path in paths.chain([setting.path()]) {
            let flat = format!("{path}: '{value}'\n");
            let grouped = path.split_once('_');
            let grouped = grouped.map(|(group, rest)| format!("{group}: {{{rest}: '{value}'}}\n"));
            for text in [Some(flat), grouped].into_iter().flatten() {
                let by_file = whole(&load_text(&text));
                assert_eq!(by_file, by_variable, "{text}");
            }
        }
    }
}
