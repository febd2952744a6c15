//! Running what a command does, with a bar where it takes long.

use super::progress::Bar;
use crate::error::RegistryError;

/// Does `work` to its end.
pub(super) fn run<T>(
    work: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RegistryError::internal)?;
    runtime.block_on(Box::pin(work))
}

/// Does `work`, which counts `what` on a bar, to its end.
pub(super) fn run_with_bar<T>(
    what: &'static str,
    work: impl AsyncFnOnce(&Bar) -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let bar = Bar::new(what);
    let done = run(async { work(&bar).await });
    bar.clear();
    done
}

/// Does `work`, of which nobody knows how far it is, to its end, and says meanwhile that it does `what`.
pub(super) fn run_and_say<T>(
    what: &'static str,
    work: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    let bar = Bar::working(what);
    let done = run(work);
    bar.clear();
    done
}
