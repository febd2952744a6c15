//! [`Watched`]: a file that others write too, read again when it has changed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;

use super::{
    atomic::{MODE_SECRET, sync_parent, temporary_beside, write_synced},
    blocking,
    locks::{PATIENCE, wait_for},
    metadata::stamp_of,
    secret::read_foreign,
};
use crate::{
    models::Timestamp,
    storage::{Stamp, StorageError},
};

/// How often a change is tried again that others have outrun.
const MAX_ATTEMPTS: usize = 10;
/// Two changes within one tick of the kernel's clock look the same. So long after the last one, there can
/// be no other that does.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// A file whose bytes mean a `T`; a missing one is read as an empty one.
#[derive(Debug)]
pub(in crate::storage) struct Watched<T> {
    path: PathBuf,
    parse: fn(&Path, &[u8]) -> T,
    last: RwLock<Option<Last<T>>>,
}

#[derive(Debug)]
struct Last<T> {
    stamp: Option<Stamp>,
    is_settled: bool,
    bytes: Vec<u8>,
    value: Arc<T>,
}

/// Whose turn it is to change a file.
enum Turn {
    /// Ours, for as long as this lives.
    Ours { _file: File },
    /// There is no file that could be locked.
    Nobodys,
    /// The file that was locked is not there any more.
    Replaced,
}

/// The file as it was at one moment.
struct Content {
    stamp: Option<Stamp>,
    is_settled: bool,
    bytes: Vec<u8>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// The file `path`, which nobody has to have made. `parse` is told of each content once.
    pub(in crate::storage) fn new(path: PathBuf, parse: fn(&Path, &[u8]) -> T) -> Self {
        let last = RwLock::default();
        Self { path, parse, last }
    }

    pub(in crate::storage) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file means now. Where it has not changed, this costs one look at it.
    pub(in crate::storage) async fn get(self: &Arc<Self>) -> Result<Arc<T>, StorageError> {
        // As in `FsMetadata::stamp`, a look takes less than handing it to another thread.
        let stamp = stamp_at(&self.path).map_err(|error| self.failed(error))?;
        if let Some(value) = self.remembered(stamp) {
            return Ok(value);
        }
        let this = Arc::clone(self);
        blocking(move || this.read_again()).await
    }

    /// When it was last written to; the epoch for a missing one.
    pub(in crate::storage) async fn modified(self: &Arc<Self>) -> Result<Timestamp, StorageError> {
        let this = Arc::clone(self);
        blocking(move || match fs::metadata(&this.path) {
            Ok(metadata) => {
                let millis = metadata.mtime().saturating_mul(1000);
                Ok(Timestamp::from_unix_millis(millis))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Timestamp::from_unix_millis(0))
            }
            Err(error) => Err(this.failed(error)),
        })
        .await
    }

    /// The same, once nobody has written to the file for a moment: whoever writes it in place first makes it
    /// empty.
    pub(in crate::storage) async fn settled(self: &Arc<Self>) -> Result<Arc<T>, StorageError> {
        for _ in 0..MAX_ATTEMPTS {
            match look_at(&self.path).map_err(|error| self.failed(error))? {
                Some((_, false)) => tokio::time::sleep(SETTLED_AFTER).await,
                _ => break,
            }
        }
        self.get().await
    }

    fn remembered(&self, stamp: Option<Stamp>) -> Option<Arc<T>> {
        let last = self.last.read();
        let last = last.as_ref()?;
        (last.is_settled && last.stamp == stamp).then(|| Arc::clone(&last.value))
    }

    fn read_again(&self) -> Result<Arc<T>, StorageError> {
        let content = self.read()?;
        let mut last = self.last.write();
        let known = last.as_ref().filter(|last| last.bytes == content.bytes);
        let value = match known {
            Some(last) => Arc::clone(&last.value),
            None => Arc::new((self.parse)(&self.path, &content.bytes)),
        };
        *last = Some(Last {
            stamp: content.stamp,
            is_settled: content.is_settled,
            bytes: content.bytes,
            value: Arc::clone(&value),
        });
        Ok(value)
    }

    fn read(&self) -> Result<Content, StorageError> {
        for _ in 0..MAX_ATTEMPTS {
            let read = || {
                let before = look_at(&self.path)?;
                let bytes = read_foreign(&self.path)?.unwrap_or_default();
                Ok((before, bytes, look_at(&self.path)?))
            };
            let (before, bytes, after) = read().map_err(|error| self.failed(error))?;
            if before.map(|(stamp, _)| stamp) == after.map(|(stamp, _)| stamp) {
                return Ok(Content {
                    stamp: after.map(|(stamp, _)| stamp),
                    is_settled: after.is_none_or(|(_, is_settled)| is_settled),
                    bytes,
                });
            }
        }
        Err(self.failed(io::Error::other("the file changes while it is being read")))
    }

    /// Replaces what the file has by what `edit` makes of it, durably; if others change it meanwhile, again
    /// from the start. Its mode and its owner stay. Blocks.
    pub(in crate::storage) fn change<E: From<StorageError>>(
        &self,
        mut edit: impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        for _ in 0..MAX_ATTEMPTS {
            // Two registries, or one and a command, take turns; others do not know of it.
            let turn = self.turn().map_err(|error| self.failed(error))?;
            if matches!(turn, Turn::Replaced) {
                continue;
            }
            let content = self.read()?;
            let bytes = edit(&content.bytes)?;
            let is_current = || Ok(stamp_at(&self.path)? == content.stamp);
            let replaced = replace(&self.path, &bytes, is_current);
            // Whatever came of it.
            *self.last.write() = None;
            if replaced.map_err(|error| self.failed(error))? {
                return Ok(());
            }
        }
        let error = io::Error::other("others change it all the time");
        Err(self.failed(error).into())
    }

    /// Waits for a turn to change the file.
    fn turn(&self) -> io::Result<Turn> {
        let Ok(file) = File::options().read(true).write(true).open(&self.path) else {
            return Ok(Turn::Nobodys);
        };
        match wait_for(&file, PATIENCE) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Err(_) => return Ok(Turn::Nobodys),
        }
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let locked = file.metadata().ok().map(id);
        Ok(if locked == fs::metadata(&self.path).ok().map(id) {
            Turn::Ours { _file: file }
        } else {
            Turn::Replaced
        })
    }

    fn failed(&self, error: io::Error) -> StorageError {
        StorageError::io(format!("access to {}", self.path.display()), error)
    }
}

/// The stamp of what is there; `None` for nothing.
pub(in crate::storage) fn stamp_at(path: &Path) -> io::Result<Option<Stamp>> {
    Ok(look_at(path)?.map(|(stamp, _)| stamp))
}

/// The stamp of what is there, and whether a later change must have another; `None` for nothing.
fn look_at(path: &Path) -> io::Result<Option<(Stamp, bool)>> {
    match fs::metadata(path) {
        Ok(metadata) => {
            let changed = Duration::new(
                u64::try_from(metadata.ctime()).unwrap_or(u64::MAX),
                u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
            );
            // It is the machine's clock that the file's time is of.
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            let is_settled = now
                .checked_sub(changed)
                .is_some_and(|age| age > SETTLED_AFTER);
            Ok(Some((stamp_of(&metadata), is_settled)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file by `bytes`, unless it `is_current` no longer. Whether it is.
///
/// A file that is a mount of its own cannot be renamed onto, nor one in a folder that is another's; it is
/// written where it is.
fn replace(
    path: &Path,
    bytes: &[u8],
    is_current: impl Fn() -> io::Result<bool>,
) -> io::Result<bool> {
    // Whoever made a link to it means the file behind it.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = temporary_beside(&path)?;
    let renamed = write_like(&path, &temporary, bytes).and_then(|()| {
        if !is_current()? {
            return Ok(false);
        }
        fs::rename(&temporary, &path)?;
        sync_parent(&path)?;
        Ok(true)
    });
    if !matches!(renamed, Ok(true)) {
        // It may never have been made; the first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    match renamed {
        Err(error) if is_of_the_place(&error) && path.is_file() => {
            if !is_current()? {
                return Ok(false);
            }
            write_in_place(&path, bytes)?;
            Ok(true)
        }
        result => result,
    }
}

/// Whether it fails because of where the file is.
fn is_of_the_place(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ResourceBusy
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Makes the file `temporary` of `bytes`, with the mode and, where that is possible, the owner of `path`.
fn write_like(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_synced(temporary, bytes, MODE_SECRET)?;
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    let made = fs::metadata(temporary)?;
    if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
        // Only root may give files away; everybody else keeps what is hers.
        let _ = chown(temporary, Some(metadata.uid()), Some(metadata.gid()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    fs::set_permissions(temporary, fs::Permissions::from_mode(mode))
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text_of(_: &Path, bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn grown(watched: &Watched<String>, by: &str) {
        let grow = |bytes: &[u8]| Ok::<_, StorageError>([bytes, by.as_bytes()].concat());
        watched.change(grow).unwrap();
    }

    #[tokio::test]
    async fn every_change_shows_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let watched = Arc::new(Watched::new(path.clone(), text_of));
        assert_eq!(*watched.get().await.unwrap(), "");
        for round in 0..200_u32 {
            // Of the same length in the same inode, within one tick.
            let text = format!("{round:04}");
            write_in_place_or_new(&path, text.as_bytes());
            assert_eq!(*watched.get().await.unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(*watched.get().await.unwrap(), "");
    }

    fn write_in_place_or_new(path: &Path, bytes: &[u8]) {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).open(path);
        file.as_mut().unwrap().write_all(bytes).unwrap();
    }

    #[tokio::test]
    async fn mode_and_link_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        write_in_place_or_new(&path, b"a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        let watched = Arc::new(Watched::new(link.clone(), text_of));
        grown(&watched, "b");
        assert_eq!(*watched.get().await.unwrap(), "ab");
        assert_eq!(fs::read_to_string(&path).unwrap(), "ab");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_others_write_meanwhile_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let watched = Watched::new(path.clone(), text_of);
        let mut rounds = 0;
        let edited = watched.change(|bytes| {
            rounds += 1;
            if rounds == 1 {
                write_in_place_or_new(&path, b"theirs ");
            }
            Ok::<_, StorageError>([bytes, b"ours"].concat())
        });
        edited.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs ours");
        assert_eq!(rounds, 2);
    }

    #[test]
    fn what_cannot_be_renamed_onto_is_written_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["long text", "short", ""] {
            write_in_place_or_new(&path, b"");
            write_in_place(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for (number, is_place) in [(16, true), (18, true), (13, true), (30, true), (28, false)] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(is_of_the_place(&error), is_place, "{error}");
        }
    }
}
