//! Moving packages: manifests, with the tarballs that they name.

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{
    Moved, Moving, Place, not_alone,
    tarballs::{Named, Tarballs, named_in},
};
use crate::{
    models::PackageName,
    storage::{Document, Expected, StorageError},
};

/// How many packages are moved at once.
const AT_ONCE: usize = 8;
/// After so many failures in a row it is asked whether both ends answer at all.
const MANY_FAILURES: u32 = 5;

/// Moves all packages. What cannot be moved is among the failures; it ends early only where an end does
/// not answer, or is full.
pub(super) async fn move_packages(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    moved: &mut Moved,
) {
    let names = from.metadata.list();
    let packages = names.map(|name| async move {
        let name = name?;
        let package = move_package(from, to, moving, &name).await;
        Ok::<_, StorageError>((name, package))
    });
    let mut packages = packages.buffer_unordered(AT_ONCE);
    let mut failures = 0;
    while let Some(package) = packages.next().await {
        let (name, package) = match package {
            Ok(package) => package,
            Err(error) => return moved.fail("the list of packages", &error),
        };
        let is_full = matches!(package, Err(StorageError::Full(_)));
        let package = package.unwrap_or_else(|error| {
            let mut failed = Moved::default();
            failed.fail(format_args!("the package `{name}`"), &error);
            failed
        });
        failures = if package.failures.is_empty() {
            0
        } else {
            failures + 1
        };
        moved.add(package);
        (moving.watch)(moved);
        if is_full {
            return;
        }
        if failures >= MANY_FAILURES {
            if let Err(error) = answer(from, to).await {
                return moved.fail("all further packages", &error);
            }
            failures = 0;
        }
    }
    if let Err(error) = move_lost(from, to, moving, moved).await {
        moved.fail("packages without a manifest", &error);
    }
}

/// Succeeds when both ends answer at all.
async fn answer(from: Place<'_>, to: Place<'_>) -> Result<(), StorageError> {
    from.answers().await?;
    to.answers().await
}

/// Moves the tarballs of packages that have no manifest: what a registry would recover at its start.
async fn move_lost(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let Some(folder) = moving.tarballs else {
        return Ok(());
    };
    let mut lost = from.blobs.perhaps_lost();
    while let Some(name) = lost.try_next().await? {
        // What cannot be read has failed already.
        if !matches!(from.metadata.get(&name).await, Ok(None)) {
            continue;
        }
        let blobs = from.blobs.list(&name).await?;
        let files: Vec<Named> = blobs
            .into_iter()
            .map(|blob| Named::alone(blob.file))
            .collect();
        let tarballs = Tarballs {
            from,
            to,
            moving,
            folder,
            name: &name,
        };
        let mut package = Moved::default();
        tarballs.copy(&files, &mut package).await?;
        moved.add(package);
        (moving.watch)(moved);
    }
    Ok(())
}

async fn move_package(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    name: &PackageName,
) -> Result<Moved, StorageError> {
    match from.metadata.get(name).await? {
        Some(document) => move_state(from, to, moving, name, &document).await,
        None => Ok(Moved::default()),
    }
}

/// Moves the package as `document` describes it.
async fn move_state(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    name: &PackageName,
    document: &Document,
) -> Result<Moved, StorageError> {
    let mut moved = Moved::default();
    let there = to.metadata.get(name).await?;
    let is_same = there
        .as_ref()
        .is_some_and(|there| there.json == document.json);
    if there.is_some() && !is_same && !moving.overwrite {
        let conflict = format!("the package `{name}` is another in the target");
        moved.conflicts.push(conflict);
        return Ok(moved);
    }
    let (files, nameless) = named_in(name, &document.json)?;
    if let Some(folder) = moving.tarballs {
        moved.absent.extend(nameless);
        let tarballs = Tarballs {
            from,
            to,
            moving,
            folder,
            name,
        };
        tarballs.copy(&files, &mut moved).await?;
        // A manifest must not name what is another there.
        if !moved.conflicts.is_empty() && !is_same {
            return Ok(moved);
        }
    }
    if is_same {
        moved.packages.same += 1;
        return Ok(moved);
    }
    let mut old = Vec::new();
    if moving.tarballs.is_some() && moving.overwrite {
        let there = to.blobs.list(name).await?;
        let there = there.into_iter().map(|blob| blob.file);
        old.extend(there.filter(|there| files.iter().all(|named| named.file != *there)));
    }
    let doomed = to.blobs.doom(name, old.clone()).await?;
    let expected = Expected::from_read(there.as_ref());
    let put = to.metadata.put(name, document.json.clone(), expected);
    let revision = put.await?;
    let read_back = to.metadata.get(name).await?;
    if read_back.is_none_or(|read_back| read_back.json != document.json) {
        return Err(not_alone(name.as_str()));
    }
    moved.packages.moved += 1;
    if !old.is_empty() {
        moved.tarballs.removed += old.len();
        to.blobs.delete(name, doomed, &revision).await?;
    }
    Ok(moved)
}
