//! Settings of what a node remembers of packages, and how long.

use super::{
    Kind::{Choice, Former, Seconds},
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
        "Whether others publish to the same storage: `single` or `multi`. With \
         `multi`, a packument or its dist-tags are never served without a look at storage while that \
         answers. It decides what the three settings below are where they are not set.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_TTL_SECS",
        "",
        Seconds(0..=86_400, |target, span| {
            target.config.storage.package_cache_ttl = span;
        }),
        "How long a package published here is served from memory without a look at storage; 0 \
         looks each time, so that a change from outside shows at once. A version, dist-tag or \
         tarball that is not in memory is looked for in storage whatever this says; with many \
         nodes, so is a newer packument, and this is how long the known one is served while storage \
         fails. Without it, 0 with a single node and 120 with many.",
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
        Seconds(0..=86_400, |target, span| {
            target.config.storage.discovery_refresh = span;
        }),
        "How often storage is listed in the background, so that searches find what others have \
         published, changed and removed; 0 never lists it again after the start. It is not needed \
         with Postgres, which tells. Without it, 0 with a single node and 15 with many.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_MAX_ENTRIES",
        "5000",
        Former,
        "Accepted from older versions; memory is bounded in bytes.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_PRUNE_INTERVAL_SECS",
        "30",
        Former,
        "Accepted from older versions; memory is bounded all the time.",
    ),
];
