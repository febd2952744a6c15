//! Listing what belongs to packages, without what belongs to the registry itself.

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;

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

/// The folders of packages. One that nobody but its manifest can tell the owner of is left out:
/// [`super::ObjectMetadata`] lists it.
pub(super) fn folders(bucket: &Bucket) -> BoxStream<'static, Result<ListedFolder, StorageError>> {
    let names = bucket.clone();
    let listed = packages(bucket).try_filter_map(move |meta| {
        let meaning = names.name_of(&meta.location).and_then(keys::meaning);
        let found = match meaning {
            Some(Meaning::Manifest(Folder::Of(name, _))) => Some((name, true)),
            Some(Meaning::Blob(Folder::Of(name, _), _)) => Some((name, false)),
            _ => None,
        };
        std::future::ready(Ok(found))
    });
    // The keys of one folder follow one another; `None` ends the last of them.
    let end = futures_util::stream::once(async { Ok(None) });
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
