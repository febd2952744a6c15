//! Settings of leases, by which nodes take turns at writing.

use std::time::Duration;

use super::{
    Kind::{Address, Choice, Number, Switch, Text},
    Setting, bucket,
};
use crate::config::CoordinationBackend;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_BACKEND",
        "none",
        Choice(&["none", "redis", "s3"], |target, word| {
            target.config.coordination.backend = match word {
                "redis" => CoordinationBackend::Redis,
                "s3" => CoordinationBackend::S3,
                _ => CoordinationBackend::None,
            };
        }),
        "Where nodes take turns at writing a package: `none`, `redis` or `s3`, a bucket. It saves \
         retries between many writers; nothing is lost without it.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_REDIS_URL",
        "",
        Text(|target, text| {
            target.config.coordination.redis_url = Some(text.into());
            Ok(())
        }),
        "The address of Redis, such as `redis://127.0.0.1:6379/`; with TLS, `rediss://`. The system's \
         authorities are trusted.",
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
        "Whether to write without a turn where Redis or the bucket fails; otherwise the answer is 502.",
    ),
    text(
        "RUSTACCIO_STATE_COORDINATION_S3_BUCKET",
        |target, text| {
            target.config.coordination.bucket.bucket = Some(text.to_owned());
            Ok(())
        },
        "The bucket for turns. What is not set of it is as for the bucket of packages.",
    ),
    text(
        "RUSTACCIO_STATE_COORDINATION_S3_REGION",
        |target, text| {
            target.config.coordination.bucket.region = Some(text.to_owned());
            Ok(())
        },
        "Its region.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_S3_ENDPOINT",
        "",
        Address(|target, address| target.config.coordination.bucket.endpoint = Some(address)),
        "The address of its store.",
    ),
    text(
        "RUSTACCIO_STATE_COORDINATION_S3_ACCESS_KEY_ID",
        |target, text| {
            target.config.coordination.bucket.access_key_id = Some(text.into());
            Ok(())
        },
        "The name of the key for it. Both halves of a key are set here, or neither.",
    )
    .secret(),
    text(
        "RUSTACCIO_STATE_COORDINATION_S3_SECRET_ACCESS_KEY",
        |target, text| {
            target.config.coordination.bucket.secret_access_key = Some(text.into());
            Ok(())
        },
        "The key itself.",
    )
    .secret(),
    text(
        "RUSTACCIO_STATE_COORDINATION_S3_PREFIX",
        |target, text| {
            target.config.coordination.bucket.prefix = Some(bucket::prefix(text)?);
            Ok(())
        },
        "What the keys in it begin with. Without it, `.rustaccio/leases/` after `RUSTACCIO_S3_PREFIX`, \
         which is never among packages. Nodes of one registry have the same.",
    ),
    Setting::new(
        "RUSTACCIO_STATE_COORDINATION_S3_FORCE_PATH_STYLE",
        "",
        Switch(|target, on| target.config.coordination.bucket.force_path_style = Some(on)),
        "Whether the bucket is in the path of addresses, or in the host's name.",
    ),
];

const fn text(
    variable: &'static str,
    put: fn(&mut super::Target, &str) -> Result<(), String>,
    help: &'static str,
) -> Setting {
    Setting::new(variable, "", Text(put), help)
}
