//! Whose the files are that we make: Verdaccio, which may run as somebody else, is to be able to go on
//! with them.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::Once,
};

use super::super::atomic::{create_folder_synced, write_atomic_as};

/// A user and a group, by their numbers.
pub(super) type Owner = (u32, u32);

/// Whose `path` is, or else the nearest folder above it that is there.
pub(super) fn owner_at(path: &Path) -> Option<Owner> {
    let mut ancestors = path.ancestors();
    let metadata = ancestors.find_map(|path| fs::metadata(path).ok())?;
    Some((metadata.uid(), metadata.gid()))
}

/// Gives `path` to `owner`, as far as we may. Where we may not, it is ours, which is told once.
pub(super) fn give(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    let Some((user, group)) = owner else {
        return Ok(());
    };
    let metadata = fs::metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (user, group) {
        return Ok(());
    }
    match chown(path, Some(user), Some(group)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!(path = %path.display(), user, group, "what is written here does not belong to whom Verdaccio's folder belongs to, so that Verdaccio may be unable to change it: run this registry as the same user");
            });
            Ok(())
        }
        given => given,
    }
}

/// Makes `folder` and its missing parents, each durably, for whoever has the one above.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let owner = owner_at(folder);
    let missing = folder.ancestors().take_while(|path| !path.exists());
    let missing: Vec<&Path> = missing.collect();
    create_folder_synced(folder)?;
    missing.into_iter().try_for_each(|path| give(path, owner))
}

/// Replaces `path` by `bytes`, durably; it belongs to whom it belonged to before, with the mode it had, or
/// else `mode`.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let owner = owner_at(path);
    let mode = fs::metadata(path).map_or(mode, |metadata| metadata.mode() & 0o777);
    write_atomic_as(path, bytes, mode, |file| {
        fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
        give(file, owner)
    })
}
