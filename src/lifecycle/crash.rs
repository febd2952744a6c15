//! [`crash_point`]: where tests let the process die.

/// Ends the process at once, as a power cut would, if this point was chosen.
///
/// `RUSTACCIO_CRASH_AT=<point>:<n>` chooses the n-th time that a point is passed. Only with the
/// feature `crash-points`; without it, nothing happens and nothing is read.
#[cfg(feature = "crash-points")]
pub fn crash_point(point: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    #[expect(clippy::disallowed_methods, reason = "a test's way into the process")]
    static CHOSEN: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("RUSTACCIO_CRASH_AT").ok()?;
        let (point, count) = text.split_once(':')?;
        Some((point.to_owned(), AtomicU32::new(count.parse().ok()?)))
    });
    if let Some((chosen, left)) = &*CHOSEN
        && chosen == point
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

/// Ends the process at once if this point was chosen; without the feature `crash-points`, none is.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn crash_point(_point: &str) {}
