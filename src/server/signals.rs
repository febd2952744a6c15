//! Signals: the first asks to stop, the second insists.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::lifecycle::Lifecycle;

/// Begins the shutdown on the first SIGINT or SIGTERM and stops everything on the second.
pub fn stop_on_signals(lifecycle: &Lifecycle) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = lifecycle.clone();
    // Not tracked: it waits for signals, and nobody waits for it.
    lifecycle.spawn_untracked(async move {
        for count in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = stopped.must_stop() => return,
            }
            if count == 0 {
                tracing::info!("stopping; requests under way are finished first");
                stopped.begin_shutdown();
            } else {
                stopped.stop_now();
                return;
            }
        }
    });
    Ok(())
}
