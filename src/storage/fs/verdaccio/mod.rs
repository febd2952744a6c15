//! A folder that Verdaccio made, used where it is, so that Verdaccio can go on with it.

mod cached;
pub(in crate::storage) mod fuzz;
mod list;
mod manifests;
mod members;
mod mend;
mod merge;
mod origins;
mod owner;
mod salvage;
mod sidecar;
mod state;
mod tarballs;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_damage;
#[cfg(test)]
mod tests_of_names;
mod under_way;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(in crate::storage) use cached::VerdaccioCache;
use list::List;
pub(in crate::storage) use manifests::VerdaccioManifests;
use manifests::{KnownOfFolder, removed_path};
use mend::{Ground, told};
use origins::Origins;
pub(in crate::storage) use tarballs::VerdaccioTarballs;

use super::atomic::create_folder_synced;
use crate::{
    config::VerdaccioFolder,
    storage::{Blobs, Layout, MetadataStore, StorageError},
};

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
    let (opened, was_used) = opened(folder, data_dir, Some(locks.join("list")))?;
    let parts = &opened.manifests.parts;
    mend::sweep(parts)?;
    mend::keep_origins(parts, was_used)?;
    mend::keep_names(parts)?;
    mend::finish_tarballs(parts)?;
    announce(folder, &opened.manifests)?;
    Ok(opened)
}

/// The same, to be read: nothing in it is changed. Blocks.
pub(in crate::storage) fn open_to_read(
    folder: &VerdaccioFolder,
    data_dir: &Path,
) -> Result<Opened, StorageError> {
    let (opened, _) = opened(folder, data_dir, None)?;
    let parts = &opened.manifests.parts;
    parts.list.assume(mend::unlisted(parts)?);
    Ok(opened)
}

/// Our copy of Verdaccio's list.
fn copy_in(data_dir: &Path) -> PathBuf {
    data_dir.join("verdaccio-db.json")
}

fn origins_in(data_dir: &Path) -> PathBuf {
    data_dir.join("origins.jsonl")
}

fn layout(folder: &VerdaccioFolder) -> Result<Layout, StorageError> {
    Layout::verdaccio(folder)
        .map_err(|error| StorageError::backend("reading the patterns of `packages`", error))
}

/// Reads what is known of the folder, and whether it was opened before. The list is written under the file
/// `lock`, without which nothing is.
fn opened(
    folder: &VerdaccioFolder,
    data_dir: &Path,
    lock: Option<PathBuf>,
) -> Result<(Opened, bool), StorageError> {
    let is_read_only = lock.is_none();
    let layout = layout(folder)?;
    let (list, condition) = List::open(&folder.database, copy_in(data_dir), lock)?;
    let (origins, was_used) = Origins::open(origins_in(data_dir))?;
    let ground = Ground {
        layout: &layout,
        uplinks: &folder.uplinks,
    };
    let is_removed = |name: &_| removed_path(data_dir, name).exists();
    if let Some(names) = mend::lost_names(ground, &list, &condition, was_used, is_removed)? {
        if is_read_only {
            list.assume(names);
        } else {
            mend::restore(&list, &names, condition)?;
        }
    }
    let known = KnownOfFolder {
        layout,
        list,
        origins,
        uplinks: folder.uplinks.clone(),
        proxied: folder.proxied.clone(),
    };
    let manifests = VerdaccioManifests::new(known, data_dir, is_read_only);
    let opened = Opened {
        tarballs: VerdaccioTarballs::new(&manifests, data_dir.join("quarantine")),
        cache: VerdaccioCache::new(&manifests, data_dir.join("tmp")),
        manifests,
    };
    Ok((opened, was_used))
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
            Err(_) if parts.removed_path(name).exists() => {}
            Err(_) => missing.push(name.as_str()),
        }
    }
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
        tracing::error!(packages = told(&mut missing), list = %parts.list.path().display(), "these names are in the list of hosted packages, and there is no package.json: what tarballs are there is rebuilt; where there are none, the name is served as unavailable, until its package.json is put back from a backup, or the name is taken out of the list");
    }
    let strangers = parts.list.strangers();
    let mut strangers: Vec<&str> = strangers.iter().map(String::as_str).collect();
    if !strangers.is_empty() {
        tracing::warn!(packages = told(&mut strangers), list = %parts.list.path().display(), "these are in the list of hosted packages, and no client can ask for such names: they are left as they are, and not served");
    }
    Ok(())
}

/// Manifests and tarballs.
type Hosting = (Arc<dyn MetadataStore>, Arc<dyn Blobs>);

/// Manifests and tarballs of such a folder alone, to be written, or only to be read. Blocks.
pub fn verdaccio_hosting(
    folder: &VerdaccioFolder,
    data_dir: &Path,
    is_read_only: bool,
) -> Result<Hosting, StorageError> {
    let opened = if is_read_only {
        open_to_read(folder, data_dir)?
    } else {
        open(folder, data_dir)?
    };
    Ok((Arc::new(opened.manifests), Arc::new(opened.tarballs)))
}
