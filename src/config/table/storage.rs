//! Settings of storage and of the upstream registries.

use super::{
    Kind::{Choice, Number, Seconds, Text, Unused},
    Setting,
};
use crate::config::units;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_DATA_DIR",
        ".rustaccio-data",
        Text(|target, text| {
            target.config.storage.data_dir = units::path(text)?;
            Ok(())
        }),
        "The folder of everything that is kept.",
    )
    .also(&["storage", "storage_path"]),
    Setting::new(
        "RUSTACCIO_PACKAGE_METADATA_AUTHORITY",
        "sidecar",
        Choice(
            &["sidecar", "sidecar_authoritative", "sidecar-authoritative"],
            |_, _| {},
        ),
        "Which copy of a manifest counts: the one in storage.",
    ),
    Setting::new(
        "RUSTACCIO_CACHE_DIR",
        "",
        Text(|target, text| {
            target.config.storage.cache.folder = Some(units::path(text)?);
            Ok(())
        }),
        "The folder of what came from upstream. Without it, `cache` in the data folder. All of it \
         may be deleted at any time; several registries may share one.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_MAX_ENTRIES",
        "5000",
        Unused,
        "Accepted from older versions; memory is bounded in bytes.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_TTL_SECS",
        "0",
        Seconds(0..=86_400, |target, span| {
            target.config.storage.package_cache_ttl = span;
        }),
        "How long a package published here is served from memory without a look at the disk; 0 \
         looks each time, so that a change from outside shows at once.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_CACHE_PRUNE_INTERVAL_SECS",
        "30",
        Unused,
        "Accepted from older versions; memory is bounded all the time.",
    ),
    Setting::new(
        "RUSTACCIO_PACKAGE_NEGATIVE_CACHE_TTL_SECS",
        "30",
        Seconds(0..=86_400, |target, span| {
            target.config.storage.negative_cache_ttl = span;
        }),
        "How long it is remembered that upstream does not have a package.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM",
        "",
        Text(|target, text| {
            target.upstream = Some(text.to_owned());
            Ok(())
        }),
        "The address of the built-in uplink `default`; `none` turns all proxying off. Without it, the \
         registry that npm on this machine uses.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM_ALLOWED_ORIGINS",
        "",
        Text(|target, text| {
            let origins = units::words(text).map(units::origin);
            target.config.uplinks.allowed_origins = origins.collect::<Result<_, _>>()?;
            Ok(())
        }),
        "Origins such as `https://files.example.com` that upstream's tarballs may come from although \
         their addresses are private, with commas or spaces between. Uplinks' own origins always \
         may; public addresses too. Credentials go to an uplink's own origin only.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM_CONNECT_TIMEOUT_SECS",
        "3",
        Seconds(1..=300, |target, span| {
            target.uplink_defaults.connect_timeout = span;
        }),
        "How long a connection to an uplink may take to be made.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM_TIMEOUT_SECS",
        "20",
        Seconds(1..=3600, |target, span| {
            target.uplink_defaults.timeout = span;
        }),
        "How long an uplink may send nothing. An uplink's own `timeout` overrules it.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM_POOL_IDLE_TIMEOUT_SECS",
        "30",
        Seconds(1..=3600, |target, span| {
            target.uplink_defaults.pool_idle_timeout = span;
        }),
        "How long an idle connection to an uplink is kept.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM_POOL_MAX_IDLE_PER_HOST",
        "4",
        Number(1..=1024, |target, count| {
            target.uplink_defaults.pool_max_idle = usize::try_from(count).unwrap_or(4);
        }),
        "Idle connections that are kept for each host.",
    ),
    Setting::new(
        "RUSTACCIO_UPSTREAM_TCP_KEEPALIVE_SECS",
        "30",
        Seconds(1..=3600, |target, span| {
            target.uplink_defaults.tcp_keepalive = span;
        }),
        "The interval of TCP keep-alive probes to uplinks.",
    ),
];
