//! Walking over the cache, a folder at a time. Files come and go meanwhile.

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::{DOCUMENTS, PACKAGES, UpstreamCache, last_use::last_use};
use crate::{models::Timestamp, storage::StorageError};

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A document of the uplink of this name.
    Document(String),
    /// A tarball, whose file does not say which uplink it came from.
    Tarball,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) length: u64,
    pub(super) used: Timestamp,
}

impl Entry {
    /// Unlinks it: whoever has it open reads on. Whether it was still there.
    pub(super) fn remove(&self) -> Result<bool, StorageError> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let operation = format!("deleting {}", self.path.display());
                Err(StorageError::io(operation, error))
            }
        }
    }
}

/// Shows `visit` the entries of each folder, until it breaks off. Blocks.
pub(super) fn each_folder(
    cache: &UpstreamCache,
    mut visit: impl FnMut(&Path, Vec<Entry>) -> Result<ControlFlow<()>, StorageError>,
) -> Result<(), StorageError> {
    for area in [PACKAGES, DOCUMENTS] {
        let root = cache.root.join(area);
        let failed = |error| StorageError::io(format!("listing {}", root.display()), error);
        let Some(folders) = found(fs::read_dir(&root)).map_err(failed)? else {
            continue;
        };
        for folder in folders {
            let folder = folder.map_err(failed)?;
            // A link leads out of the cache.
            if !folder.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let folder = folder.path();
            let files = entries(&folder, area == DOCUMENTS).map_err(|error| {
                StorageError::io(format!("listing {}", folder.display()), error)
            })?;
            if visit(&folder, files)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The entries in one folder: of one package, or of one uplink.
pub(super) fn entries(folder: &Path, is_of_uplink: bool) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in found(fs::read_dir(folder))?.into_iter().flatten() {
        let file = file?;
        let path = file.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let extension = path.extension().and_then(|extension| extension.to_str());
        let kind = match (stem, extension) {
            (Some(stem), Some("json")) => {
                let uplink = if is_of_uplink {
                    folder.file_name().and_then(|name| name.to_str())
                } else {
                    Some(stem)
                };
                Kind::Document(uplink.unwrap_or_default().to_owned())
            }
            (_, Some("tgz")) if !is_of_uplink => Kind::Tarball,
            _ => continue,
        };
        let Some(metadata) = found(file.metadata())?.filter(fs::Metadata::is_file) else {
            continue;
        };
        entries.push(Entry {
            path,
            kind,
            length: metadata.len(),
            used: last_use(&metadata),
        });
    }
    Ok(entries)
}

/// Removes `folder` if nothing is in it. Whoever puts something into it just then makes it again.
pub(super) fn remove_if_empty(folder: &Path) {
    if let Err(error) = fs::remove_dir(folder)
        && !matches!(
            error.kind(),
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
        )
    {
        tracing::debug!(folder = %folder.display(), %error, "cannot remove an empty folder");
    }
}

/// `None` for what is not there, or not any more.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
