//! [`Locks`]: who changes the manifest of a package does so alone, among all processes.

use std::{
    fs::{File, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use super::blocking;
use crate::{
    models::{PackageName, Revision},
    storage::{Hold, StorageError},
};

/// Held in a data folder by whoever writes what commands may write while a registry runs.
pub(in crate::storage) const STATE_LOCK: &str = "state.lock";
const SHARDS: usize = 256;
/// Nobody keeps a lock for longer who has not been stopped, and whose disk does not hang.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const HELD: &str =
    "another process has kept it for 10 seconds, and may have been stopped; `fuser` says which";

/// One of 256 lock files for each name, and a mutex in front of each, which keeps the threads of one
/// process from waiting for the file lock on the blocking pool.
#[derive(Debug)]
pub(super) struct Locks {
    folder: PathBuf,
    mutexes: Vec<Arc<Mutex<()>>>,
}

impl Locks {
    /// The locks in `folder`.
    pub(super) fn new(folder: PathBuf) -> Self {
        let mutexes = (0..SHARDS).map(|_| Arc::default()).collect();
        Self { folder, mutexes }
    }

    /// Runs `work`, which may block, while nobody else in any process changes the manifest of
    /// `name`.
    pub(super) async fn locked<T, W>(&self, name: &PackageName, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, StorageError> + Send + 'static,
    {
        let shard = shard_of(name);
        let _in_process = self.mutexes[shard].lock().await;
        let path = self.path(shard);
        blocking(move || {
            let lock = lock_file(&path)?;
            let result = work();
            drop(lock);
            result
        })
        .await
    }

    /// Keeps others from changing the manifest of `name`, if what `current` says is `revision`.
    pub(super) async fn hold<C>(
        &self,
        name: &PackageName,
        revision: Option<&Revision>,
        current: C,
    ) -> Result<Option<Hold>, StorageError>
    where
        C: FnOnce() -> Result<Option<Revision>, StorageError> + Send + 'static,
    {
        let shard = shard_of(name);
        let in_process = Arc::clone(&self.mutexes[shard]).lock_owned().await;
        let path = self.path(shard);
        let (lock, current) = blocking(move || Ok((lock_file(&path)?, current()?))).await?;
        let is_current = current.as_ref() == revision;
        Ok(is_current.then(|| Box::new((lock, in_process)) as Hold))
    }

    fn path(&self, shard: usize) -> PathBuf {
        self.folder.join(format!("{shard:02x}"))
    }
}

fn shard_of(name: &PackageName) -> usize {
    // Different processes must agree on it: `DefaultHasher::new` has fixed keys.
    let mut hasher = DefaultHasher::new();
    name.as_str().hash(&mut hasher);
    usize::from(hasher.finish().to_le_bytes()[0])
}

/// Takes the lock on the file, which is made if it is missing. Blocks, but not for ever: whoever has it
/// may have been stopped.
pub(in crate::storage) fn lock_file(path: &Path) -> Result<File, StorageError> {
    let lock = || -> io::Result<File> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        wait_for(&file, PATIENCE)?;
        Ok(file)
    };
    lock().map_err(|error| StorageError::io(format!("locking {}", path.display()), error))
}

/// Takes the lock on `file`, which whoever has it may keep for so long. Blocks.
pub(super) fn wait_for(file: &File, patience: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, HELD));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_keeps_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock_file(&path).unwrap();
        let other = File::options().write(true).open(&path).unwrap();
        let refused = wait_for(&other, Duration::from_millis(5)).unwrap_err();
        assert_eq!(refused.to_string(), HELD);
        let waiting = std::thread::spawn(move || wait_for(&other, PATIENCE));
        drop(held);
        waiting.join().unwrap().unwrap();
    }
}
