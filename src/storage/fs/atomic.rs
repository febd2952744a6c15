//! Writing files so that a crash at any instant leaves the old or the new content, never a mix.
//!
//! Everything here blocks; call it on the blocking pool.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::lifecycle::{crash_point, random_hex};

/// Permissions of a file that anybody on the machine may read.
pub(crate) const MODE_PUBLIC: u32 = 0o644;
/// Permissions of a file with secrets.
pub(crate) const MODE_SECRET: u32 = 0o600;

/// Replaces `path` by `bytes`, durably: a temporary file in the same folder, fsync, rename, fsync
/// of the folder. The folder must exist.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_atomic_as(path, bytes, mode, |_| Ok(()))
}

/// The same, where `prepare` does something to the file before it has its name.
pub(crate) fn write_atomic_as(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    put_in_place(&temporary, path, || {
        write_synced(&temporary, bytes, mode)?;
        prepare(&temporary)
    })
}

/// Replaces `path` by `parts` for whoever looks, with a temporary file in `folder`, which must be on
/// the same file system. Not durably: what a power cut leaves may be anything, and is to be found
/// out by whoever reads it.
pub(crate) fn replace_by(folder: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = folder.join(random_hex::<16>());
    rename_in_place(&temporary, path, || {
        let mut file = create_new(&temporary, MODE_PUBLIC)?;
        parts.iter().try_for_each(|part| file.write_all(part))
    })
}

/// Replaces `path` by a copy of `from` like [`replace_by`]; the bytes are durable before they have
/// their name.
pub(crate) fn copy_by(folder: &Path, from: &Path, path: &Path) -> io::Result<()> {
    let temporary = folder.join(random_hex::<16>());
    rename_in_place(&temporary, path, || {
        let mut copy = create_new(&temporary, MODE_PUBLIC)?;
        io::copy(&mut File::open(from)?, &mut copy)?;
        copy.sync_all()
    })
}

fn put_in_place(
    temporary: &Path,
    path: &Path,
    write: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    rename_in_place(temporary, path, write)?;
    sync_parent(path)
}

fn rename_in_place(
    temporary: &Path,
    path: &Path,
    write: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let written = write().and_then(|()| {
        crash_point("file-written");
        fs::rename(temporary, path)
    });
    if let Err(error) = written {
        // The first error is the one that matters; a left-over temporary file is swept at start.
        let _ = fs::remove_file(temporary);
        return Err(error);
    }
    crash_point("file-renamed");
    Ok(())
}

/// Makes `folder` and its missing parents, each durably.
pub(crate) fn create_folder_synced(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folder_synced(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_parent(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the entry of `path` in its folder durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Makes the entries of `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether `file_name` is that of a temporary file that [`write_atomic`] may have left behind.
pub(crate) fn is_temporary(file_name: &str) -> bool {
    file_name.starts_with('.')
        && file_name
            .rsplit_once('.')
            .is_some_and(|(_, end)| end == "tmp")
}

/// Makes the file `path` of `bytes`, which are durable afterwards; its entry is not yet.
pub(crate) fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = create_new(path, mode)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

/// A name for what is to replace `path`, in its folder.
pub(super) fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(path.with_file_name(format!(".{name}.{}.tmp", random_hex::<8>())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomic(&path, b"1", MODE_SECRET).unwrap();
        write_atomic(&path, b"2", MODE_SECRET).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("state.json");
        assert!(write_atomic(&path, b"1", MODE_SECRET).is_err());
        create_folder_synced(path.parent().unwrap()).unwrap();
        write_atomic(&path, b"1", MODE_SECRET).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
    }
}
