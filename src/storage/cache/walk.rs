//! Walking over a cache folder, a few of its folders at a time. Files come and go meanwhile.

use std::{
    fs::{self, ReadDir},
    io,
    path::{Path, PathBuf},
};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    last_use::last_use,
    tier::{DOCUMENTS, Entry, Folder, Kind, PACKAGES},
};
use crate::storage::{StorageError, fs::blocking};

/// How many folders are looked at in one go.
const AT_ONCE: usize = 64;

/// The folders of the cache at `root`.
pub(super) fn folders(root: &Path) -> BoxStream<'static, Result<Folder, StorageError>> {
    let areas = [PACKAGES, DOCUMENTS].map(|area| folders_of(root.join(area), area));
    stream::iter(areas).flatten().boxed()
}

fn folders_of(
    root: PathBuf,
    area: &'static str,
) -> impl futures_core::Stream<Item = Result<Folder, StorageError>> + Send + 'static {
    let batches = stream::try_unfold(None::<ReadDir>, move |listing| {
        let root = root.clone();
        async move {
            blocking(move || {
                let failed = |error| StorageError::io(format!("listing {}", root.display()), error);
                let listing = match listing {
                    Some(listing) => Some(listing),
                    None => found(fs::read_dir(&root)).map_err(failed)?,
                };
                let Some(mut listing) = listing else {
                    return Ok(None);
                };
                let mut batch = Vec::new();
                while batch.len() < AT_ONCE {
                    let Some(folder) = listing.next() else { break };
                    batch.extend(look_at(&folder.map_err(failed)?, area)?.map(Ok));
                }
                Ok((!batch.is_empty()).then(|| (stream::iter(batch), Some(listing))))
            })
            .await
        }
    });
    batches.try_flatten()
}

/// What is in a folder; `None` for what is no folder of the cache.
fn look_at(folder: &fs::DirEntry, area: &str) -> Result<Option<Folder>, StorageError> {
    // A link leads out of the cache.
    let is_folder = folder.file_type().is_ok_and(|kind| kind.is_dir());
    let name = folder.file_name();
    let Some(name) = name.to_str().filter(|_| is_folder) else {
        return Ok(None);
    };
    let path = folder.path();
    let entries = entries(&path, area == DOCUMENTS)
        .map_err(|error| StorageError::io(format!("listing {}", path.display()), error))?;
    let name = format!("{area}/{name}");
    Ok(Some(Folder { name, entries }))
}

/// The entries in one folder: of one package, or of one uplink.
fn entries(folder: &Path, is_of_uplink: bool) -> io::Result<Vec<Entry>> {
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
            files: vec![file.file_name().to_string_lossy().into_owned()],
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
