//! Moving packages: manifests, with the tarballs that they name.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use sha2::Digest as _;

use super::{Moved, Moving, Place, not_alone};
use crate::{
    models::{Integrity, PackageName, TarballName},
    storage::{Created, Document, Expected, Observer, StorageError, StoredBlob, TemporaryFolder},
};

/// How many packages are moved at once.
const AT_ONCE: usize = 8;
/// How often a package is looked at again that somebody changes meanwhile.
const ATTEMPTS: u32 = 20;

pub(super) async fn move_packages(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    moved: &mut Moved,
) -> Result<(), StorageError> {
    let names = from.metadata.list();
    let packages =
        names.map_ok(move |name| async move { move_package(from, to, moving, &name).await });
    let mut packages = packages.try_buffer_unordered(AT_ONCE);
    while let Some(package) = packages.try_next().await? {
        add(moved, package);
        (moving.watch)(moved);
    }
    let Some(folder) = moving.tarballs.filter(|_| !moving.is_live) else {
        return Ok(());
    };
    // What a registry would recover at its start.
    let mut lost = from.blobs.perhaps_lost();
    while let Some(name) = lost.try_next().await? {
        if from.metadata.get(&name).await?.is_some() {
            continue;
        }
        let blobs = from.blobs.list(&name).await?;
        let files = blobs.into_iter().map(|blob| Named {
            file: blob.file,
            integrity: None,
        });
        let files: Vec<Named> = files.collect();
        let mut package = Moved::default();
        let tarballs = Tarballs {
            from,
            to,
            moving,
            folder,
            name: &name,
        };
        tarballs.copy(&files, false, &mut package).await?;
        add(moved, package);
        (moving.watch)(moved);
    }
    Ok(())
}

fn add(moved: &mut Moved, package: Moved) {
    for (all, one) in [
        (&mut moved.packages, package.packages),
        (&mut moved.tarballs, package.tarballs),
    ] {
        all.moved += one.moved;
        all.same += one.same;
        all.removed += one.removed;
    }
    moved.absent += package.absent;
    moved.conflicts.extend(package.conflicts);
}

async fn move_package(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    name: &PackageName,
) -> Result<Moved, StorageError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let Some(document) = from.metadata.get(name).await? else {
            return Ok(Moved::default());
        };
        let mut moved = move_state(from, to, moving, name, &document).await?;
        // Somebody may have unpublished it since the manifest was read; or it is gone for good.
        let is_settled =
            moved.absent == 0 || !moving.is_live || is_current(from, name, &document).await?;
        if is_settled {
            return Ok(moved);
        }
        if attempt == ATTEMPTS {
            let conflict = format!("the package `{name}` is changed all the time");
            moved.conflicts.push(conflict);
            return Ok(moved);
        }
    }
}

/// Whether `document` is still what `from` has.
async fn is_current(
    from: Place<'_>,
    name: &PackageName,
    document: &Document,
) -> Result<bool, StorageError> {
    let now = from.metadata.get(name).await?;
    Ok(now.is_some_and(|now| now.revision == document.revision))
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
    let files = named_in(name, &document.json)?;
    if let Some(folder) = moving.tarballs {
        let tarballs = Tarballs {
            from,
            to,
            moving,
            folder,
            name,
        };
        tarballs.copy(&files, is_same, &mut moved).await?;
        // A manifest must not name what is another there.
        if !moved.conflicts.is_empty() {
            return Ok(moved);
        }
        if moved.absent > 0 && moving.is_live && !is_current(from, name, document).await? {
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

/// The tarballs of one package, on their way.
struct Tarballs<'t> {
    from: Place<'t>,
    to: Place<'t>,
    moving: Moving<'t>,
    folder: &'t TemporaryFolder,
    name: &'t PackageName,
}

impl Tarballs<'_> {
    /// Copies `files`. Those that are as long in the target are believed to be the same if the
    /// manifest `is_known` to be, and compared otherwise.
    async fn copy(
        &self,
        files: &[Named],
        is_known: bool,
        moved: &mut Moved,
    ) -> Result<(), StorageError> {
        if files.is_empty() {
            return Ok(());
        }
        let by_name = |blobs: Vec<StoredBlob>| -> BTreeMap<TarballName, u64> {
            let lengths = blobs.into_iter().map(|blob| (blob.file, blob.length));
            lengths.collect()
        };
        let here = by_name(self.from.blobs.list(self.name).await?);
        let there = by_name(self.to.blobs.list(self.name).await?);
        for named in files {
            let Some(length) = here.get(&named.file) else {
                moved.absent += 1;
                continue;
            };
            if is_known && there.get(&named.file) == Some(length) {
                moved.tarballs.same += 1;
                continue;
            }
            self.copy_one(named, moved).await?;
        }
        Ok(())
    }

    async fn copy_one(&self, named: &Named, moved: &mut Moved) -> Result<(), StorageError> {
        let Named {
            file,
            integrity: promised,
        } = named;
        let (name, blobs) = (self.name, self.to.blobs);
        let Some(blob) = self.from.blobs.open(name, file).await? else {
            moved.absent += 1;
            return Ok(());
        };
        let whole = 0..blob.length;
        let mut copy = self.folder.create(Hashing(sha2::Sha512::new())).await?;
        let mut pieces = blob.into_stream(whole);
        while let Some(piece) = pieces.next().await {
            let operation = || format!("reading {file} of {name}");
            let piece = piece.map_err(|error| StorageError::io(operation(), error))?;
            copy.write(piece).await?;
        }
        copy.finish().await?;
        let hash = copy.observer().map(|hashing| hashing.0.clone().finalize());
        let integrity = integrity_of(hash.unwrap_or_default().as_slice())?;
        // Unpublished and published again since the manifest was read. Damage is moved as it is.
        let is_another = promised.as_ref().is_some_and(|promised| {
            let (promised, found) = (promised.strongest(), integrity.strongest());
            promised.algorithm == found.algorithm && promised != found
        });
        if is_another && self.moving.is_live {
            moved.absent += 1;
            return Ok(());
        }
        let finished = copy.finished();
        let is_right = || async {
            let found = blobs.verify(name, file, &integrity).await?;
            Ok::<_, StorageError>(found.is_some_and(|found| found.is_ok()))
        };
        if let Created::Taken(seen) = blobs.create(name, file, finished).await? {
            if is_right().await? {
                moved.tarballs.same += 1;
                return Ok(());
            }
            let is_gone = blobs.open(name, file).await?.is_none();
            if !self.moving.overwrite && !is_gone {
                let conflict = format!("the tarball `{file}` of `{name}` is another in the target");
                moved.conflicts.push(conflict);
                return Ok(());
            }
            if !blobs.replace(name, file, &seen, finished).await? {
                return Err(not_alone(file.as_str()));
            }
        }
        if !is_right().await? {
            return Err(not_alone(file.as_str()));
        }
        moved.tarballs.moved += 1;
        Ok(())
    }
}

/// Hashes what is copied.
struct Hashing(sha2::Sha512);

impl Observer for Hashing {
    fn observe(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn integrity_of(hash: &[u8]) -> Result<Integrity, StorageError> {
    use base64::Engine as _;

    let text = base64::engine::general_purpose::STANDARD.encode(hash);
    let parsed = format!("sha512-{text}").parse::<Integrity>();
    parsed.map_err(|error| StorageError::backend("moving a tarball", error))
}

/// A tarball that a manifest names.
#[derive(Clone, Debug)]
struct Named {
    file: TarballName,
    /// Which bytes it should have, if that is known.
    integrity: Option<Integrity>,
}

/// The tarballs that a manifest names.
fn named_in(name: &PackageName, json: &[u8]) -> Result<Vec<Named>, StorageError> {
    let manifest: Value = serde_json::from_slice(json).map_err(|error| {
        StorageError::backend(format!("reading the manifest of `{name}`"), error)
    })?;
    let versions = manifest.get("versions").and_then(Value::as_object);
    let files = versions.into_iter().flatten().filter_map(|(version, of)| {
        let dist = |member: &str| of.pointer(&format!("/dist/{member}"))?.as_str();
        let file = dist("tarball").and_then(|address| address.rsplit('/').next());
        let file = file.map_or_else(|| format!("{}-{version}.tgz", name.base()), str::to_owned);
        Some(Named {
            file: file.parse().ok()?,
            integrity: dist("integrity").and_then(|text| text.parse().ok()),
        })
    });
    let mut files: Vec<Named> = files.collect();
    files.sort_by(|one, other| one.file.cmp(&other.file));
    files.dedup_by(|one, other| one.file == other.file);
    Ok(files)
}
