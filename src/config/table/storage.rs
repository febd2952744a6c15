//! Settings of storage and of the upstream registries.

use super::{
    Kind::{Choice, Number, Path, Seconds, Switch, Text},
    Setting,
};
use crate::config::units;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_DATA_DIR",
        ".rustaccio-data",
        Path(|target, path| target.config.storage.data_dir = path),
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
        "RUSTACCIO_UPSTREAM_SEARCH",
        "true",
        Switch(|target, on| target.config.uplinks.searches_are_local = !on),
        "Whether a search asks the uplinks too.",
    )
    .also(&["flags_search_remote"]),
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
