//! Settings of what a node remembers of packages, and how long.

use super::{
    Kind::{Choice, Seconds, Unused},
    Setting,
};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_PACKAGE_DISCOVERY_MODE",
        "single",
        Choice(
            &[
                "single",
                "single-node",
                "single_node",
                "local",
                "multi",
                "multi-node",
                "multi_node",
                "cluster",
            ],
            |target, word| {
                let is_multi = word.starts_with("multi") || word == "cluster";
                target.config.storage.is_multi_node = is_multi;
            },
        ),
        "Whether others publish to the same storage: `single` or `multi`. It decides what the two \
         settings below are where they are not set.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_TTL_SECS",
        "",
        Seconds(0..=86_400, |target, span| {
            target.config.storage.package_cache_ttl = span;
        }),
        "How long a package published here is served from memory without a look at storage; 0 \
         looks each time, so that a change from outside shows at once. A version or tarball that \
         is not in memory is looked for in storage whatever this says. Without it, 0 with a single \
         node and 120 with many.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_NEGATIVE_CACHE_TTL_SECS",
        "",
        Seconds(0..=86_400, |target, span| {
            target.config.storage.negative_cache_ttl = span;
        }),
        "How long it is remembered that upstream does not have a package. Without it, 30 with a \
         single node and 5 with many.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_DISCOVERY_REFRESH_SECS",
        "",
        Unused,
        "Accepted from older versions; no list of names is kept, and storage is asked for each.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_MAX_ENTRIES",
        "5000",
        Unused,
        "Accepted from older versions; memory is bounded in bytes.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_PRUNE_INTERVAL_SECS",
        "30",
        Unused,
        "Accepted from older versions; memory is bounded all the time.",
    ),
];
