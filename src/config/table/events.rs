//! Settings of events and of the trail of audit.

use std::time::Duration;

use super::{
    Kind::{Choice, Number, Path, Size, Text},
    Setting,
};
use crate::config::uplink_file::http_address;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_EVENT_SINK",
        "none",
        Choice(&["none", "http"], |target, word| {
            target.config.events.is_http = word == "http";
        }),
        "Where events go: `none`, or `http`, a service that gets each as JSON after what it tells of \
         has been stored. Nobody waits for it.",
    ),
    Setting::new(
        "RUSTACCIO_EVENT_HTTP_BASE_URL",
        "",
        Text(|target, text| {
            let wrong = || "must be an http or https address".to_owned();
            target.config.events.base_url = Some(http_address(text).ok_or_else(wrong)?);
            Ok(())
        }),
        "The address of the service that gets events.",
    ),
    Setting::new(
        "RUSTACCIO_EVENT_HTTP_ENDPOINT",
        "/events/registry",
        Text(|target, text| {
            text.clone_into(&mut target.config.events.endpoint);
            Ok(())
        }),
        "The path of events below that address.",
    ),
    Setting::new(
        "RUSTACCIO_EVENT_HTTP_TIMEOUT_MS",
        "2000",
        Number(250..=600_000, |target, millis| {
            target.config.events.timeout = Duration::from_millis(millis);
        }),
        "How long the service has to answer, in milliseconds; then the event is sent again. Hooks of \
         `notify` have as long.",
    ),
    Setting::new(
        "RUSTACCIO_EVENT_HTTP_SECRET",
        "",
        Text(|target, text| {
            target.config.events.secret = Some(text.into());
            Ok(())
        }),
        "What events are signed with, in the header `x-rustaccio-signature`; see docs/events.md.",
    )
    .secret(),
    Setting::new(
        "RUSTACCIO_AUDIT_LOG_FILE",
        "",
        Path(|target, path| target.config.audit_log.file = Some(path)),
        "A file that gets a line of JSON for each attempt to change something, each sign-in and each \
         call of an administrator; see docs/events.md. Without it, there is none.",
    ),
    Setting::new(
        "RUSTACCIO_AUDIT_LOG_MAX_SIZE",
        "100mb",
        Size(|target, bytes| target.config.audit_log.max_size = bytes),
        "How large that file may become; then it gets the time behind its name, and another is begun. \
         `0` leaves that to others, such as logrotate.",
    ),
    Setting::new(
        "RUSTACCIO_AUDIT_LOG_MAX_FILES",
        "0",
        Number(0..=100_000, |target, files| {
            target.config.audit_log.max_files = usize::try_from(files).unwrap_or(0);
        }),
        "How many full files are kept; `0` keeps all.",
    ),
];
