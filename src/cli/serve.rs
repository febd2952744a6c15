//! `rustaccio serve`, which is what happens without a command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{all_problems, complain};
use crate::{
    config::{Config, ServerConfig},
    error::{RegistryError, explain},
    runtime::{Bound, Telemetry},
};

pub(super) fn serve(settings: &Config, out: &mut impl Write) -> ExitCode {
    let started = all_problems(settings).map_err(|error| error.to_string());
    let started = started.and_then(|problems| {
        if !problems.is_empty() {
            return Ok(complain(&problems));
        }
        run(settings, out).map_err(|error| explain(&error))?;
        Ok(ExitCode::SUCCESS)
    });
    match started {
        Ok(code) => code,
        Err(message) => {
            // There is nobody left to tell if this cannot be written.
            let _ = writeln!(io::stderr().lock(), "rustaccio: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Config, out: &mut impl Write) -> Result<(), RegistryError> {
    let runtime = threads(&settings.server).map_err(RegistryError::internal)?;
    runtime.block_on(async {
        let telemetry = Telemetry::start(settings)?;
        let served = serve_until_stopped(settings, out).await;
        telemetry.stop().await;
        served
    })
}

async fn serve_until_stopped(settings: &Config, out: &mut impl Write) -> Result<(), RegistryError> {
    let bound = Bound::open(settings, None).await?;
    // Somebody may have closed standard output; the registry is useful all the same.
    let _ = announce(settings, &bound, out);
    bound.serve().await
}

/// What requests run on.
fn threads(server: &ServerConfig) -> io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(server.worker_threads.unwrap_or(processors.clamp(1, 8)))
        .max_blocking_threads(server.max_blocking_threads)
        .thread_stack_size(server.thread_stack_size)
        .build()
}

/// What a person wants to know first.
fn announce(settings: &Config, bound: &Bound, out: &mut impl Write) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "rustaccio {version}")?;
    let prefix = &settings.url_prefix;
    for listener in bound.listeners() {
        writeln!(out, "  listening on  {listener}{prefix}")?;
    }
    let folder = &settings.storage.data_dir;
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
    writeln!(out, "  data in       {}", folder.display())?;
    let uplinks = &settings.uplinks.uplinks;
    if uplinks.is_empty() {
        writeln!(out, "  uplinks       none")?;
    }
    for (name, uplink) in uplinks {
        let origin = uplink.url.origin().ascii_serialization();
        writeln!(out, "  uplink        {name}: {origin}")?;
    }
    let public = settings.server.public_url.as_ref().map(ToString::to_string);
    let address = public.or_else(|| {
        let mut listeners = bound.listeners().iter();
        let (listener, tcp) = listeners.find_map(|one| Some((one, one.tcp_address()?)))?;
        let mut shown = listener.to_string();
        if tcp.ip().is_unspecified() {
            // All addresses of this machine, which is none to be sent to.
            let local = format!("localhost:{}", tcp.port());
            shown = shown.replacen(&tcp.to_string(), &local, 1);
        }
        Some(format!("{shown}{prefix}"))
    });
    if let Some(address) = address {
        writeln!(
            out,
            "\nPoint npm at it:\n  npm config set registry {address}/"
        )?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::*;
    use crate::config::{Env, Sources};

    fn runtime(blocking: &str) -> tokio::runtime::Runtime {
        let variables = [("RUSTACCIO_TOKIO_MAX_BLOCKING_THREADS", blocking)];
        let config = Config::load(&Sources {
            env: variables.into_iter().collect::<Env>(),
            ..Sources::default()
        });
        threads(&config.server).unwrap()
    }

    #[test]
    fn as_much_may_block_at_once_as_the_settings_say() {
        // All of nine begin.
        let nine = runtime("9");
        let barrier = Arc::new(Barrier::new(9));
        let tasks: Vec<_> = (0..9)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                nine.spawn_blocking(move || barrier.wait())
            })
            .collect();
        for task in tasks {
            nine.block_on(task).unwrap();
        }
        // The last of nine waits for one of the others.
        let eight = runtime("8");
        let is_released = Arc::new(AtomicBool::new(false));
        let (begun, begins) = mpsc::channel();
        let holders: Vec<_> = (0..8)
            .map(|_| {
                let (begun, is_released) = (begun.clone(), Arc::clone(&is_released));
                eight.spawn_blocking(move || {
                    begun.send(()).unwrap();
                    while !is_released.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..8 {
            begins.recv().unwrap();
        }
        let seen = Arc::clone(&is_released);
        let last = eight.spawn_blocking(move || seen.load(Ordering::SeqCst));
        std::thread::yield_now();
        is_released.store(true, Ordering::SeqCst);
        assert!(eight.block_on(last).unwrap(), "it did not wait");
        for holder in holders {
            eight.block_on(holder).unwrap();
        }
    }
}
