//! Keys that only files have; all others are in the table of settings. Readers find no key that is
//! not here, so that each is known to the test that asks what it does.

use super::yaml::snake_case;

/// Of the file itself, beside paths of settings.
pub(super) const FILE: &[&str] = &[
    "packages",
    "uplinks",
    "notify",
    "notifications",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "log",
    "logs",
    "auth",
    "store",
    "middlewares",
    "filters",
];
/// Of an uplink.
pub(super) const UPLINK: &[&str] = &[
    "url",
    "timeout",
    "maxage",
    "max_fails",
    "fail_timeout",
    "cache",
    "strict_ssl",
    "ca",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "headers",
    "auth",
    "agent_options",
    "retry",
    "publish",
];
/// Of `agent_options`.
pub(super) const AGENT: &[&str] = &["keep_alive", "max_free_sockets"];
/// Of an uplink's `auth`.
pub(super) const AUTH: &[&str] = &["type", "token", "token_env"];
/// Of a rule.
pub(super) const RULE: &[&str] = &[
    "access",
    "allow_access",
    "publish",
    "allow_publish",
    "unpublish",
    "proxy",
    "proxy_access",
    "merge",
    "storage",
];
/// Of a hook.
pub(super) const HOOK: &[&str] = &[
    "endpoint",
    "method",
    "headers",
    "content",
    "package_pattern",
    "package_pattern_flags",
];

/// The keys that only files have, by the map that they are in; that of the file has no name.
pub const FILE_KEYS: [(&str, &[&str]); 6] = [
    ("", FILE),
    ("uplinks", UPLINK),
    ("agent_options", AGENT),
    ("auth", AUTH),
    ("packages", RULE),
    ("notify", HOOK),
];

/// The one of `keys` that was `written`, in whatever spelling; empty if it is none.
pub(super) fn known(written: &str, keys: &[&'static str]) -> &'static str {
    let written = snake_case(written);
    let found = keys.iter().find(|key| **key == written);
    found.copied().unwrap_or_default()
}
