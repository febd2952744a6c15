//! What is put in order when a folder is opened: temporary files, and folders with old names.

use std::{fs, io, path::Path};

use super::{
    StorageError,
    fs::atomic::{is_temporary, sync_parent},
    layout::{self, Layout, MANIFEST, folder_name},
};
use crate::models::PackageName;

/// Removes what writes of files in `folder` left half-made. Blocks.
pub(super) fn temporaries(folder: &Path) -> Result<(), StorageError> {
    remove_temporaries(folder)
        .map_err(|error| StorageError::io(format!("sweeping {}", folder.display()), error))
}

/// Removes everything in `folder`, which holds nothing but temporary files. Blocks.
pub(super) fn temporary_folder(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Sweeps the folders of hosted packages. Blocks.
pub(super) fn hosted(layout: &Layout) -> Result<(), StorageError> {
    let root = layout.root();
    sweep(layout, root)
        .map_err(|error| StorageError::io(format!("sweeping {}", root.display()), error))
}

fn sweep(layout: &Layout, root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        remove_temporaries(&entry.path())?;
        let folder = entry.file_name();
        let Some(folder) = folder.to_str() else {
            continue;
        };
        if layout::package_of(folder).is_none() {
            rename_old(layout, &entry.path(), folder)?;
        }
    }
    Ok(())
}

fn remove_temporaries(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_str().is_some_and(is_temporary) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// Earlier versions wrote every `/` as `__`; where the name has a `__` of its own, only the
/// manifest tells which one was the slash.
fn rename_old(layout: &Layout, path: &Path, folder: &str) -> io::Result<()> {
    let named = name_in_manifest(&path.join(MANIFEST))?
        .filter(|name| name.as_str().replace('/', "__") == folder);
    let Some(name) = named else {
        tracing::warn!(folder = %path.display(), "not the folder of a package, left alone");
        return Ok(());
    };
    let to = layout.root().join(folder_name(&name));
    if !to.exists() {
        fs::rename(path, &to)?;
        sync_parent(&to)?;
        tracing::info!(package.name = %name, "package folder renamed to its present form");
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "runs on the blocking pool")]
fn name_in_manifest(path: &Path) -> io::Result<Option<PackageName>> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    match fs::read(path) {
        Ok(json) => {
            let named = serde_json::from_slice::<Named>(&json).ok();
            Ok(named.and_then(|named| named.name.parse().ok()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::atomic::{MODE_PUBLIC, write_atomic};

    #[test]
    fn old_folders_get_their_present_name() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::native(folder.path().to_owned());
        let old = folder.path().join("@a__b__c");
        fs::create_dir(&old).unwrap();
        write_atomic(&old.join(MANIFEST), br#"{"name":"@a/b__c"}"#, MODE_PUBLIC).unwrap();
        fs::File::create(old.join(".package.json.00.tmp")).unwrap();
        hosted(&layout).unwrap();
        let name: PackageName = "@a/b__c".parse().unwrap();
        assert!(layout.manifest(&name).is_file());
        assert_eq!(fs::read_dir(layout.folder(&name)).unwrap().count(), 1);
    }

    #[test]
    fn only_temporary_files_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["state.json", ".state.json.00.tmp", ".hidden", "x.tmp"];
        for name in names {
            fs::File::create(folder.path().join(name)).unwrap();
        }
        temporaries(folder.path()).unwrap();
        for name in names {
            let is_left = folder.path().join(name).exists();
            assert_eq!(is_left, name != ".state.json.00.tmp", "{name}");
        }
        temporary_folder(&folder.path().join("missing")).unwrap();
        temporary_folder(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
