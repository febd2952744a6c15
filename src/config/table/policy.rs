//! Settings of the service that decides before the rules.

use std::time::Duration;

use super::{
    Kind::{Choice, Endpoint, Number, Switch, Text},
    Setting,
};
use crate::config::{PolicyBackend, uplink_file::http_address};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_POLICY_BACKEND",
        "local",
        Choice(&["local", "http"], |target, word| {
            target.config.policy.backend = match word {
                "http" => PolicyBackend::Http,
                _ => PolicyBackend::Local,
            };
        }),
        "Who decides who may do what: `local`, the rules, or `http`, the service at \
         `RUSTACCIO_POLICY_HTTP_BASE_URL` before them; see `docs/access.md`.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_BASE_URL",
        "",
        Text(|target, text| {
            let url = http_address(text).ok_or("must be an http or https address")?;
            target.config.policy.base_url = Some(url);
            Ok(())
        }),
        "The address of the service that decides.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_DECISION_ENDPOINT",
        "/authorize",
        Endpoint(|target, text| text.clone_into(&mut target.config.policy.decision_endpoint)),
        "Where it decides about a package.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_BATCH_ENDPOINT",
        "",
        Endpoint(|target, text| target.config.policy.batch_endpoint = Some(text.to_owned())),
        "Where it decides about many packages at once, for searches and lists. Without it, it is asked \
         about each row.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_TIMEOUT_MS",
        "3000",
        Number(250..=300_000, |target, millis| {
            target.config.policy.timeout = Duration::from_millis(millis);
        }),
        "How long an answer of it may take, in milliseconds.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_CACHE_TTL_MS",
        "5000",
        Number(0..=3_600_000, |target, millis| {
            target.config.policy.cache_ttl = Duration::from_millis(millis);
        }),
        "How long after it was asked for a decision still counts, in milliseconds. 0 asks every time.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_CACHE_MAX_ENTRIES",
        "10000",
        Number(0..=10_000_000, |target, count| {
            target.config.policy.cache_max_entries = super::count(count);
        }),
        "How many decisions are remembered; 0 for any number.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_CACHE_PRUNE_INTERVAL_MS",
        "30000",
        Number(1000..=3_600_000, |target, millis| {
            target.config.policy.cache_prune_interval = Duration::from_millis(millis);
        }),
        "How often decisions that no longer count are thrown away, in milliseconds.",
    ),
    Setting::new(
        "RUSTACCIO_POLICY_HTTP_FAIL_OPEN",
        "false",
        Switch(|target, on| target.config.policy.fail_open = on),
        "Whether the rules decide where the service fails; otherwise the answer is 502.",
    ),
];
