//! [`compute`]: work for a processor, on the blocking pool, as much at a time as there are processors.

use std::{
    num::NonZero,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use tokio::{sync::Semaphore, task::JoinError};

/// More at a time would not be done earlier, and each needs its memory while it waits for a
/// processor. The processors are the whole process's, however many servers live in it.
static SLOTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(processors))
});

/// Runs `work`, which takes milliseconds and waits for nobody. It is done even if the caller goes
/// away.
///
/// # Errors
/// The work panicked, or the runtime is going down.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let slot = Arc::clone(&SLOTS).acquire_owned().await;
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        work()
    })
    .await
}

/// To hand work to another thread and back takes as long as to go through a quarter of these; to go
/// through all of them keeps others from a worker for less than a millisecond.
const SMALL: usize = 128 * 1024;

/// Runs `work` on about `length` bytes: here and now where they are few, else as [`compute`] does.
///
/// # Errors
/// The same.
pub async fn compute_on<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if length <= SMALL {
        return Ok(work());
    }
    compute(work).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_at_a_time_than_there_are_processors() {
        let (running, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            tasks.spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                compute(work).await.unwrap();
            });
        }
        tasks.join_all().await;
        let processors = available_parallelism().unwrap().get();
        assert!((1..=processors).contains(&most.load(Ordering::SeqCst)));
    }
}
