//! Listing what belongs to packages, without what belongs to the registry itself.

use std::{collections::HashSet, sync::Arc};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use parking_lot::{Mutex, RwLock};

use super::{
    bucket::{Bucket, OWN},
    keys::{self, Folder, Meaning},
};
use crate::{models::PackageName, storage::StorageError};

/// The first name after all of the registry's own: `0` comes after `/`.
const AFTER_OWN: &str = ".rustaccio0";

/// All objects that are not the registry's own, in the order of their keys. There may be far more of
/// the registry's own than of packages, so that they are not even asked for.
pub(super) fn packages(bucket: &Bucket) -> BoxStream<'static, Result<ObjectMeta, StorageError>> {
    let before = {
        let bucket = bucket.clone();
        bucket.clone().list("").try_take_while(move |meta| {
            let name = bucket.name_of(&meta.location);
            std::future::ready(Ok(name.is_some_and(|name| name < OWN)))
        })
    };
    let after = bucket.list_after("", Some(AFTER_OWN));
    before.chain(after).boxed()
}

/// The folder of a package in a listing.
#[derive(Clone, Debug, Default)]
pub(super) struct ListedFolder {
    pub(super) name: Option<PackageName>,
    pub(super) has_manifest: bool,
    pub(super) has_blobs: bool,
}

/// Which folders have older spellings, where all objects have been listed. Nobody writes new ones, and
/// each listing that came to its end tells anew.
#[derive(Clone, Debug, Default)]
pub(super) struct OldFolders(Arc<RwLock<Option<HashSet<String>>>>);

impl OldFolders {
    /// Whether something may be in `folder`.
    pub(super) fn may_have(&self, folder: &str) -> bool {
        let known = self.0.read();
        known.as_ref().is_none_or(|known| known.contains(folder))
    }
}

/// The folders of packages. One that nobody but its manifest can tell the owner of is left out:
/// [`super::ObjectMetadata`] lists it. At the end, it is known which are `old`.
pub(super) fn folders(
    bucket: &Bucket,
    old: &OldFolders,
) -> BoxStream<'static, Result<ListedFolder, StorageError>> {
    let (names, old) = (bucket.clone(), old.clone());
    // Only a listing that came to its end knows all of them.
    let seen = Arc::new(Mutex::new(Some(HashSet::new())));
    let noted = Arc::clone(&seen);
    let listed = packages(bucket).inspect_err(move |_| *noted.lock() = None);
    let noted = Arc::clone(&seen);
    let listed = listed.try_filter_map(move |meta| {
        let name = names.name_of(&meta.location);
        if let Some(folder) = name.and_then(keys::old_folder)
            && let Some(noted) = &mut *noted.lock()
            && !noted.contains(folder)
        {
            noted.insert(folder.to_owned());
        }
        let meaning = name.and_then(keys::meaning);
        let found = match meaning {
            Some(Meaning::Manifest(Folder::Of(name, _))) => Some((name, true)),
            Some(Meaning::Blob(Folder::Of(name, _), _)) => Some((name, false)),
            _ => None,
        };
        std::future::ready(Ok(found))
    });
    // The keys of one folder follow one another; `None` ends the last of them.
    let end = futures_util::stream::once(async move {
        if let Some(folders) = seen.lock().take() {
            *old.0.write() = Some(folders);
        }
        Ok(None)
    });
    let mut current = ListedFolder::default();
    let grouped = listed.map_ok(Some).chain(end).try_filter_map(move |found| {
        let done = match &found {
            Some((name, _)) if current.name.as_ref() == Some(name) => None,
            _ => Some(std::mem::take(&mut current)),
        };
        if let Some((name, is_manifest)) = found {
            current.name = Some(name);
            current.has_manifest |= is_manifest;
            current.has_blobs |= !is_manifest;
        }
        std::future::ready(Ok(done.filter(|folder| folder.name.is_some())))
    });
    grouped.boxed()
}
