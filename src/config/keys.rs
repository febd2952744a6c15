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

/// What a key that only files have does, in the map of this name; empty for one that nobody knows.
pub(super) fn meaning(map: &str, key: &str) -> &'static str {
    match (map, key) {
        ("", "http_proxy") => "the proxy for uplinks whose address is http",
        ("", "https_proxy") => "the proxy for uplinks whose address is https",
        ("", "no_proxy") => "hosts that are asked without a proxy",
        ("uplinks", "url") => "the uplink's address",
        ("uplinks", "timeout") => "how long the uplink may send nothing",
        ("uplinks", "maxage") => "how long a document of the uplink is fresh",
        ("uplinks", "max_fails") => "failures after which the uplink is left alone",
        ("uplinks", "fail_timeout") => "how long it is left alone then",
        ("uplinks", "cache") => "whether its tarballs are kept",
        ("uplinks", "strict_ssl") => "whether its certificate is checked",
        ("uplinks", "ca") => "a certificate authority to trust for it",
        ("uplinks", "http_proxy" | "https_proxy") => "its proxy",
        ("uplinks", "no_proxy") => "hosts that it is asked for without a proxy",
        ("uplinks", "headers") => "headers that it is sent",
        ("uplinks", "auth") => "how the registry signs in there",
        ("uplinks", "agent_options") => "connections that are kept for it",
        ("uplinks", "retry") => {
            "WARNING does nothing: what fails for a moment is asked again twice"
        }
        ("packages", "access" | "allow_access") => "who may read these packages",
        ("packages", "publish" | "allow_publish") => "who may publish them",
        ("packages", "unpublish") => {
            "who may unpublish them; `false` means who may publish, empty means nobody"
        }
        ("packages", "proxy" | "proxy_access") => {
            "the uplinks that are asked for them, in this order"
        }
        ("packages", "merge") => {
            "whether versions of uplinks are mixed with those that were published here"
        }
        ("packages", "storage") => "the folder that they are in, below that of Verdaccio's storage",
        ("notify", "endpoint") => "whom the hook tells",
        ("notify", "method") => "how it tells",
        ("notify", "headers") => "headers of what it sends",
        ("notify", "content") => "the template of what it sends",
        ("notify", "package_pattern" | "package_pattern_flags") => "the packages that it is about",
        _ => "",
    }
}
