//! Moving the tarballs of one package, each compared with what its manifest says of it.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use serde_json::Value;
use sha2::Digest as _;

use super::{Moved, Moving, Place, not_alone};
use crate::{
    models::{Algorithm, Integrity, PackageName, TarballName, Verifier},
    storage::{Created, Observer, StorageError, StoredBlob, TemporaryFolder},
};

/// The tarballs of one package, on their way.
pub(super) struct Tarballs<'t> {
    pub(super) from: Place<'t>,
    pub(super) to: Place<'t>,
    pub(super) moving: Moving<'t>,
    pub(super) folder: &'t TemporaryFolder,
    pub(super) name: &'t PackageName,
}

/// What has become of one tarball.
enum Copied {
    Moved,
    /// The target has it already.
    Same,
    /// The source does not have it.
    Absent,
    /// The source has other bytes than it should, which the target has now if it had nothing.
    Damaged,
    /// The target has other bytes, and keeps them.
    Left,
}

impl Tarballs<'_> {
    /// Copies `files`.
    pub(super) async fn copy(
        &self,
        files: &[Named],
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
            let (length, known) = (here.get(&named.file), there.get(&named.file));
            let copied = match length {
                None => Ok(Copied::Absent),
                Some(_) => self.copy_one(named, known.is_some()).await,
            };
            self.note(named, known.is_some(), copied, moved).await?;
        }
        Ok(())
    }

    async fn note(
        &self,
        named: &Named,
        is_there: bool,
        copied: Result<Copied, StorageError>,
        moved: &mut Moved,
    ) -> Result<(), StorageError> {
        let path = format!("{}/-/{}", self.name, named.file);
        let is_absent = matches!(copied, Ok(Copied::Absent));
        match copied {
            Ok(Copied::Moved) => {
                moved.tarballs.moved += 1;
                return Ok(());
            }
            Ok(Copied::Same) => {
                moved.tarballs.same += 1;
                return Ok(());
            }
            Ok(Copied::Left) => {
                let conflict = format!("{path} is another in the target");
                moved.conflicts.push(conflict);
                return Ok(());
            }
            Err(error @ StorageError::Full(_)) => return Err(error),
            Ok(Copied::Absent) => {}
            Ok(Copied::Damaged) => moved.damaged.push(path.clone()),
            Err(error) => moved.fail(&path, &error),
        }
        let is_right = is_there && self.is_right_there(named).await?;
        if is_absent {
            if is_right && self.moving.is_one_of_many {
                moved.tarballs.same += 1;
            } else if named.may_be_absent {
                moved.never_fetched += 1;
            } else {
                moved.absent.push(path.clone());
            }
        }
        if is_there && !is_right && is_absent {
            let conflict = format!("{path} is another in the target, and the source lacks it");
            moved.conflicts.push(conflict);
        }
        Ok(())
    }

    /// Whether the target has the bytes that `named` should have, as far as that is known.
    async fn is_right_there(&self, named: &Named) -> Result<bool, StorageError> {
        let Some(integrity) = &named.integrity else {
            return Ok(true);
        };
        let found = self.to.blobs.verify(self.name, &named.file, integrity);
        Ok(found.await?.is_some_and(|found| found.is_ok()))
    }

    async fn copy_one(&self, named: &Named, is_there: bool) -> Result<Copied, StorageError> {
        let Named {
            file, integrity, ..
        } = named;
        let (name, blobs) = (self.name, self.to.blobs);
        // With nothing named, there is only the source to compare it with.
        let is_settled = is_there && integrity.is_some();
        if is_settled && self.is_right_there(named).await? {
            return Ok(Copied::Same);
        }
        let Some(blob) = self.from.blobs.open(name, file).await? else {
            return Ok(Copied::Absent);
        };
        let whole = 0..blob.length;
        let mut copy = self.folder.create(Hashing::new(integrity.as_ref())).await?;
        let mut pieces = blob.into_stream(whole);
        while let Some(piece) = pieces.next().await {
            let operation = || format!("reading {file} of {name}");
            let piece = piece.map_err(|error| StorageError::io(operation(), error))?;
            copy.write(piece).await?;
        }
        copy.finish().await?;
        let hashing = copy.observer().cloned();
        let (found, is_damaged) = hashing.unwrap_or_else(|| Hashing::new(None)).finish()?;
        // The source is given up: damage is better than nothing.
        let finished = copy.finished();
        let is_right = || async {
            let found = blobs.verify(name, file, &found).await?;
            Ok::<_, StorageError>(found.is_some_and(|found| found.is_ok()))
        };
        let mut copied = Copied::Moved;
        if let Created::Taken(seen) = blobs.create(name, file, finished).await? {
            if is_right().await? {
                copied = Copied::Same;
            } else {
                let is_gone = blobs.open(name, file).await?.is_none();
                if !self.moving.overwrite && !is_gone {
                    return Ok(Copied::Left);
                }
                if !blobs.replace(name, file, &seen, finished).await? {
                    return Err(not_alone(file.as_str()));
                }
            }
        }
        if matches!(copied, Copied::Moved) && !is_right().await? {
            return Err(not_alone(file.as_str()));
        }
        Ok(if is_damaged { Copied::Damaged } else { copied })
    }
}

/// Hashes what is copied: with what its manifest names, and with the best there is.
#[derive(Clone)]
pub(in crate::storage) struct Hashing {
    promised: Option<Verifier>,
    /// Only where the other is not as good.
    best: Option<sha2::Sha512>,
}

impl Hashing {
    pub(in crate::storage) fn new(promised: Option<&Integrity>) -> Self {
        let is_best = promised.is_some_and(|promised| {
            let strongest = promised.strongest();
            strongest.algorithm == Algorithm::Sha512
        });
        Self {
            promised: promised.map(Integrity::verifier),
            best: (!is_best).then(sha2::Sha512::new),
        }
    }

    /// What the bytes are, and whether they should be others.
    pub(in crate::storage) fn finish(self) -> Result<(Integrity, bool), StorageError> {
        use base64::Engine as _;

        let promised = self.promised.map(Verifier::finish);
        let is_damaged = matches!(promised, Some(Err(_)));
        let text = match (self.best, promised) {
            (None, Some(Ok(digest) | Err(digest))) => digest.to_string(),
            (best, _) => {
                let hash = best.unwrap_or_default().finalize();
                let text = base64::engine::general_purpose::STANDARD.encode(hash);
                format!("sha512-{text}")
            }
        };
        let found = text.parse::<Integrity>();
        let found = found.map_err(|error| StorageError::backend("moving a tarball", error))?;
        Ok((found, is_damaged))
    }
}

impl Observer for Hashing {
    fn observe(&mut self, bytes: &[u8]) {
        if let Some(promised) = &mut self.promised {
            promised.update(bytes);
        }
        if let Some(best) = &mut self.best {
            best.update(bytes);
        }
    }
}

/// A tarball that a manifest names.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Named {
    pub(in crate::storage) file: TarballName,
    /// Which bytes it should have, if that is known.
    pub(in crate::storage) integrity: Option<Integrity>,
    /// Whether it is one of upstream that nobody has fetched yet, as Verdaccio writes it down.
    pub(in crate::storage) may_be_absent: bool,
}

impl Named {
    /// One that no manifest names.
    pub(in crate::storage) fn alone(file: TarballName) -> Self {
        Self {
            file,
            integrity: None,
            may_be_absent: false,
        }
    }
}

/// The tarballs that a manifest names, and the versions whose tarball can have no name at all.
pub(in crate::storage) fn named_in(
    name: &PackageName,
    json: &[u8],
) -> Result<(Vec<Named>, Vec<String>), StorageError> {
    let manifest: Value = serde_json::from_slice(json).map_err(|error| StorageError::Damaged {
        what: format!("the manifest of `{name}`"),
        source: error.into(),
    })?;
    let has = |field: &str, file: &TarballName| {
        let field = manifest.get(field).and_then(Value::as_object);
        field.is_some_and(|field| field.contains_key(file.as_str()))
    };
    let (mut files, mut nameless) = (Vec::new(), Vec::new());
    let versions = manifest.get("versions").and_then(Value::as_object);
    for (version, of) in versions.into_iter().flatten() {
        let dist = |member: &str| of.get("dist")?.get(member)?.as_str();
        let address = dist("tarball").unwrap_or_default();
        let Some(file) = TarballName::at(address, name, version) else {
            nameless.push(format!(
                "{name}@{version}, whose tarball has no possible name"
            ));
            continue;
        };
        let shasum = || Integrity::from_shasum(dist("shasum")?).ok();
        let integrity = dist("integrity").and_then(|text| text.parse().ok());
        files.push(Named {
            integrity: integrity.or_else(shasum),
            may_be_absent: has("_distfiles", &file) && !has("_attachments", &file),
            file,
        });
    }
    files.sort_by(|one, other| one.file.cmp(&other.file));
    files.dedup_by(|one, other| one.file == other.file);
    Ok((files, nameless))
}
