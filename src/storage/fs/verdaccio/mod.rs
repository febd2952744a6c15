//! A folder that Verdaccio made, used where it is, so that Verdaccio can go on with it.

mod cached;
mod list;
mod manifests;
mod merge;
mod sidecar;
mod tarballs;
#[cfg(test)]
mod tests;

use std::{fs, path::Path, sync::Arc};

pub(in crate::storage) use cached::VerdaccioCache;
use list::{Condition, List};
pub(in crate::storage) use manifests::VerdaccioManifests;
pub(in crate::storage) use tarballs::VerdaccioTarballs;

use super::{
    atomic::{create_folder_synced, is_temporary},
    metadata,
};
use crate::{
    config::VerdaccioFolder,
    models::PackageName,
    storage::{Blobs, Layout, MetadataStore, StorageError},
};
use sidecar::Sidecar;

/// So many names are told of those that something is wrong with.
const TOLD: usize = 5;

/// What is in such a folder.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Opened {
    pub(in crate::storage) manifests: VerdaccioManifests,
    pub(in crate::storage) tarballs: VerdaccioTarballs,
    pub(in crate::storage) cache: VerdaccioCache,
}

/// Opens the folder to write to it; `data_dir` is for what is ours. What is found damaged is told, and
/// survived. Blocks.
pub(in crate::storage) fn open(
    folder: &VerdaccioFolder,
    data_dir: &Path,
) -> Result<Opened, StorageError> {
    let locks = data_dir.join("locks");
    create_folder_synced(&locks)
        .map_err(|error| StorageError::io(format!("making {}", locks.display()), error))?;
    let layout = layout(folder)?;
    let (list, condition) = List::open(&folder.database, Some(locks.join("list")))?;
    mend(&layout, &list, condition)?;
    let opened = opened(layout, list, data_dir, false);
    finish_removals(&opened.manifests)?;
    sweep(&opened.manifests)?;
    announce(folder, &opened.manifests)?;
    Ok(opened)
}

/// The same, to be read: nothing in it is changed. Blocks.
pub(in crate::storage) fn open_to_read(
    folder: &VerdaccioFolder,
    data_dir: &Path,
) -> Result<Opened, StorageError> {
    let layout = layout(folder)?;
    let (list, condition) = List::open(&folder.database, None)?;
    if condition != Condition::Whole {
        list.assume(find_hosted(&layout)?);
    }
    Ok(opened(layout, list, data_dir, true))
}

fn layout(folder: &VerdaccioFolder) -> Result<Layout, StorageError> {
    Layout::verdaccio(folder)
        .map_err(|error| StorageError::backend("reading the patterns of `packages`", error))
}

fn opened(layout: Layout, list: List, data_dir: &Path, is_read_only: bool) -> Opened {
    let manifests = VerdaccioManifests::new(layout, list, data_dir, is_read_only);
    Opened {
        tarballs: VerdaccioTarballs::new(&manifests, data_dir.join("quarantine")),
        cache: VerdaccioCache::new(&manifests),
        manifests,
    }
}

/// Finds out by the packages' own files what a list says that is lost.
fn mend(layout: &Layout, list: &List, condition: Condition) -> Result<(), StorageError> {
    let path = list.path().display();
    match condition {
        Condition::Whole => {}
        Condition::Empty | Condition::Missing => {
            let names = find_hosted(layout)?;
            if !names.is_empty() {
                tracing::warn!(%path, packages = names.len(), "the list of hosted packages has no names, and there are packages that were published here; they are put into it");
            }
            list.add(&names)?;
        }
        Condition::Damaged(why) => {
            let names = find_hosted(layout)?;
            let kept = list.rebuild(&names)?;
            tracing::error!(%path, why, kept = %kept.display(), packages = names.len(), "the list of hosted packages was damaged: it is kept aside, and a new one was made of the packages that were published here. The secret of Verdaccio's tokens is not in it, so that old tokens end: put the `secret` back if you have it from a backup, or let everybody log in again");
        }
    }
    Ok(())
}

/// The packages that say themselves that they were published here. All files are read. Blocks.
fn find_hosted(layout: &Layout) -> Result<Vec<PackageName>, StorageError> {
    let failed = |error| StorageError::io(format!("listing {}", layout.root().display()), error);
    let mut names = Vec::new();
    for (name, _) in layout.packages().map_err(failed)? {
        let path = layout.manifest(&name);
        let document = match metadata::read(&path) {
            Ok(Some(document)) => document,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "cannot be read, so that nobody knows whether the package was published here");
                continue;
            }
        };
        match Sidecar::parse(&document.json) {
            Ok(sidecar) if !sidecar.hosted(&name, false).is_empty() => names.push(name),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "is damaged, so that nobody knows whether the package was published here");
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Takes names out of the list of whose packages nothing is left: somebody died between.
fn finish_removals(manifests: &VerdaccioManifests) -> Result<(), StorageError> {
    let parts = &manifests.parts;
    let names = parts.list.names()?;
    for name in parts.removed_names()? {
        if names.contains(&name)
            && let Ok(state) = parts.state(&name)
            && state.found.is_none_or(|found| found.hosted.is_empty())
        {
            parts.list.remove(&name)?;
        }
    }
    Ok(())
}

/// Removes what our own writes left half-made, and nothing else.
fn sweep(manifests: &VerdaccioManifests) -> Result<(), StorageError> {
    let parts = &manifests.parts;
    let names = parts.list.names()?;
    let folders = names.iter().map(|name| parts.layout.folder(name));
    let own = [parts.layout.root().to_owned(), parts.removed.clone()];
    for folder in folders.chain(own) {
        let Ok(files) = fs::read_dir(&folder) else {
            continue;
        };
        for file in files.flatten() {
            if file.file_name().to_str().is_some_and(is_own_temporary) {
                let path = file.path();
                fs::remove_file(&path).map_err(|error| {
                    StorageError::io(format!("removing {}", path.display()), error)
                })?;
            }
        }
    }
    Ok(())
}

/// Whether it is what our writes are called before they are done, such as `.package.json.0123456789abcdef.tmp`.
fn is_own_temporary(file: &str) -> bool {
    let nonce = file
        .strip_suffix(".tmp")
        .and_then(|rest| rest.rsplit('.').next());
    is_temporary(file)
        && nonce.is_some_and(|nonce| {
            nonce.len() >= 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// Says what folder this is, and what is wrong in it as far as a look tells.
fn announce(folder: &VerdaccioFolder, manifests: &VerdaccioManifests) -> Result<(), StorageError> {
    let parts = &manifests.parts;
    let names = parts.list.names()?;
    let (mut missing, mut empty) = (Vec::new(), Vec::new());
    for name in names.iter() {
        match fs::metadata(parts.layout.manifest(name)) {
            Ok(metadata) if metadata.len() == 0 => empty.push(name.as_str()),
            Ok(_) => {}
            Err(_) => missing.push(name.as_str()),
        }
    }
    let told = |names: &mut Vec<&str>| {
        names.sort_unstable();
        let more = names.len().saturating_sub(TOLD);
        names.truncate(TOLD);
        let shown = names.join(", ");
        if more == 0 {
            shown
        } else {
            format!("{shown} and {more} more")
        }
    };
    tracing::info!(
        folder = %folder.root.display(),
        packages = names.len(),
        "this is Verdaccio's folder, which is used where it is; to go back, stop this registry and start \
         Verdaccio again"
    );
    if !empty.is_empty() {
        tracing::error!(
            packages = told(&mut empty),
            "the package.json of these hosted packages is empty: put it back from a backup, or remove the file, after which a restart rebuilds it from the tarballs"
        );
    }
    if !missing.is_empty() {
        tracing::warn!(packages = told(&mut missing), list = %parts.list.path().display(), "these names are in the list of hosted packages, and there is no package.json: what tarballs are there is rebuilt; where there are none, the name counts as not hosted");
    }
    Ok(())
}

/// Manifests and tarballs of such a folder alone, to be written, or only to be read. Blocks.
pub fn verdaccio_hosting(
    folder: &VerdaccioFolder,
    data_dir: &Path,
    is_read_only: bool,
) -> Result<(Arc<dyn MetadataStore>, Arc<dyn Blobs>), StorageError> {
    let opened = if is_read_only {
        open_to_read(folder, data_dir)?
    } else {
        open(folder, data_dir)?
    };
    Ok((Arc::new(opened.manifests), Arc::new(opened.tarballs)))
}
