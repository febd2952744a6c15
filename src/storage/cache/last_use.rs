//! When an entry was last used: its file's time of modification.
//!
//! The time of access is of no use for that: many file systems are mounted without it, and backups
//! change it. A file's own time costs no second file, outlives restarts, and is the same for all
//! processes that share the folder. It is set again only where it is older than [`STEP`], so that
//! what is read all the time is not written all the time.

use std::{
    fs::{File, FileTimes, Metadata},
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime},
};

use crate::{
    lifecycle::{Clock as _, SystemClock},
    models::Timestamp,
};

/// How far the noted last use may lie behind the real one.
const STEP: Duration = Duration::from_secs(600);

/// Notes that `file` is used now.
pub(super) fn note_use(file: &File) {
    // Files are dated by the machine's clock, whatever the registry's own says.
    let now = SystemClock.now();
    let noted = file.metadata().and_then(|metadata| {
        if now.millis_since(last_use(&metadata)) < millis(STEP) {
            return Ok(());
        }
        let since_epoch = u64::try_from(now.unix_millis()).unwrap_or_default();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch);
        file.set_times(FileTimes::new().set_modified(time))
    });
    if let Err(error) = noted {
        // Somebody else's file, or a folder that is only read: it is evicted early at worst.
        tracing::debug!(%error, "cannot note the use of a cached file");
    }
}

/// When the file with this `metadata` was last used, as far as that was noted.
pub(super) fn last_use(metadata: &Metadata) -> Timestamp {
    let millis = metadata.mtime_nsec() / 1_000_000;
    Timestamp::from_unix_millis(metadata.mtime().saturating_mul(1000)).plus_millis(millis)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
