//! Settings of leases, by which nodes take turns at writing.

use std::time::Duration;

use super::{
    Kind::{Choice, Number, Switch, Text},
    Setting,
};
use crate::config::CoordinationBackend;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_BACKEND",
        "none",
        Choice(&["none", "redis"], |target, word| {
            target.config.coordination.backend = match word {
                "redis" => CoordinationBackend::Redis,
                _ => CoordinationBackend::None,
            };
        }),
        "Where nodes take turns at writing a package: `none` or `redis`. It saves retries between \
         many writers; nothing is lost without it.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_REDIS_URL",
        "",
        Text(|target, text| {
            target.config.coordination.redis_url = Some(text.into());
            Ok(())
        }),
        "The address of Redis, such as `redis://127.0.0.1:6379/`.",
    )
    .secret(),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_LOCK_KEY",
        "rustaccio:state:lock",
        Text(|target, text| {
            text.clone_into(&mut target.config.coordination.lock_key);
            Ok(())
        }),
        "What the keys in Redis begin with. Nodes of one registry have the same.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_LEASE_MS",
        "5000",
        Number(1000..=300_000, |target, millis| {
            target.config.coordination.lease = Duration::from_millis(millis);
        }),
        "How long the others wait for a node that was killed, in milliseconds.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_ACQUIRE_TIMEOUT_MS",
        "15000",
        Number(1000..=600_000, |target, millis| {
            target.config.coordination.acquire_timeout = Duration::from_millis(millis);
        }),
        "How long a writer waits for his turn, in milliseconds; then the answer is 503.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_POLL_INTERVAL_MS",
        "100",
        Number(10..=5000, |target, millis| {
            target.config.coordination.poll_interval = Duration::from_millis(millis);
        }),
        "How often he looks whether it is his turn, in milliseconds.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_FAIL_OPEN",
        "false",
        Switch(|target, on| target.config.coordination.fail_open = on),
        "Whether to write without a turn where Redis fails; otherwise the answer is 502.",
    ),
];
