//! Signals: the first asks to stop, the second insists; a SIGHUP is no reason to.

use std::io::{self, IsTerminal as _};

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

/// Without a certificate there is nothing to read again: a service manager that reloads all its services
/// must not end this one. Someone's terminal that closes still does.
pub fn survive_hangups(lifecycle: &Lifecycle) -> io::Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let mut hangup = signal(SignalKind::hangup())?;
    let stopped = lifecycle.clone();
    // Not tracked: it waits for signals, and nobody waits for it.
    lifecycle.spawn_untracked(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => tracing::info!("there is no certificate to read again"),
                () = stopped.shutdown_begun() => return,
            }
        }
    });
    Ok(())
}
