//! Settings of what this version does not have. What would turn it on stops the start; what would
//! only adjust it is accepted.

use super::{
    Kind::{Later, Unused},
    Setting,
};

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
    later("RUSTACCIO_AUDIT_LOG_FILE", "", &[], UNSET),
    later("RUSTACCIO_EVENT_SINK", "none", NONE, "use `none`"),
    unused("RUSTACCIO_EVENT_HTTP_BASE_URL", ""),
    unused("RUSTACCIO_EVENT_HTTP_ENDPOINT", "/events/registry"),
    unused("RUSTACCIO_EVENT_HTTP_TIMEOUT_MS", "2000"),
    unused("RUSTACCIO_EVENT_HTTP_SECRET", "").secret(),
    unused("RUSTACCIO_NPM_TOKEN", "").secret(),
];
