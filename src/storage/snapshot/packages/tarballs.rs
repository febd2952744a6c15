//! Taking one tarball: from an earlier snapshot if it has the right bytes, else from the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
};

use futures_util::StreamExt as _;

use crate::{
    error::explain,
    models::{Integrity, PackageName, TarballName},
    storage::{
        Blobs, FsBlobs, Layout, StorageError, StoredBlob, TemporaryFolder,
        fs::blocking,
        moving::{Hashing, Named},
        snapshot::{
            Snapshotting,
            earlier::{Earlier, Known},
        },
    },
};

/// The tarballs of one package, on their way into a snapshot.
pub(super) struct Taking<'t> {
    pub(super) making: Snapshotting<'t>,
    pub(super) layout: &'t Layout,
    pub(super) blobs: &'t FsBlobs,
    pub(super) temporary: &'t TemporaryFolder,
    pub(super) name: &'t PackageName,
    /// What earlier snapshots have of the package, newest first.
    pub(super) known: Vec<(&'t Earlier, BTreeMap<TarballName, Known>)>,
    /// What the source has of it, or why that is not known.
    pub(super) here: Result<Vec<StoredBlob>, String>,
}

/// What is wrong with a tarball in the source.
pub(super) enum Problem {
    Absent,
    Damaged,
    Failed(String),
}

impl Problem {
    /// Whether the source may not answer at all.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    pub(super) fn of(&self, path: impl fmt::Display) -> String {
        match self {
            Self::Absent => format!("missing in the source: {path}"),
            Self::Damaged => format!("damaged in the source: {path}"),
            Self::Failed(why) => format!("failed: {path}: {why}"),
        }
    }
}

/// What has become of a tarball.
pub(super) enum Got {
    Copied,
    Linked,
    /// It is there as it was in an earlier snapshot.
    Rescued(Problem),
    /// It is one of upstream that nobody has fetched.
    NeverFetched,
    Nothing(Problem),
}

impl Taking<'_> {
    pub(super) async fn take(&self, named: &Named) -> Result<Got, StorageError> {
        let here = self.here.as_ref().map(|blobs| {
            let found = blobs.iter().find(|blob| blob.file == named.file);
            found.map(|blob| blob.length)
        });
        if let Ok(Some(length)) = here
            && named.integrity.is_some()
        {
            for (earlier, known) in self.earlier_with(named) {
                let reads = self.making.verify || !earlier.is_as_made();
                if known.length == length && self.link(earlier, named, reads).await? {
                    return Ok(Got::Linked);
                }
            }
        }
        let problem = match here {
            Ok(None) => Problem::Absent,
            Err(why) => Problem::Failed(why.clone()),
            Ok(Some(_)) => match self.copy(self.making.from.blobs, named).await? {
                None => return Ok(Got::Copied),
                Some(problem) => problem,
            },
        };
        let is_elsewhere = self.making.is_one_of_many && matches!(problem, Problem::Absent);
        for (earlier, _) in self.earlier_with(named) {
            let is_believed = is_elsewhere && earlier.is_as_made() && !self.making.verify;
            if self.link(earlier, named, !is_believed).await? {
                return Ok(if is_elsewhere {
                    Got::Linked
                } else {
                    Got::Rescued(problem)
                });
            }
        }
        Ok(match problem {
            Problem::Absent if named.may_be_absent => Got::NeverFetched,
            problem => Got::Nothing(problem),
        })
    }

    /// The earlier snapshots that have a tarball of this name, and a manifest that says of it what
    /// `named` says.
    fn earlier_with<'k>(
        &'k self,
        named: &'k Named,
    ) -> impl Iterator<Item = (&'k Earlier, &'k Known)> {
        self.known.iter().filter_map(move |(earlier, known)| {
            let known = known.get(&named.file)?;
            let strongest = |integrity: &Option<Integrity>| {
                let integrity = integrity.as_ref();
                integrity.map(|integrity| integrity.strongest().clone())
            };
            let is_same = strongest(&known.integrity) == strongest(&named.integrity);
            is_same.then_some((*earlier, known))
        })
    }

    /// The tarballs that `earlier` has of the package.
    pub(super) async fn files_of(&self, earlier: &Earlier) -> Vec<TarballName> {
        let blobs = earlier.blobs.list(self.name).await.unwrap_or_default();
        blobs.into_iter().map(|blob| blob.file).collect()
    }

    /// Those that the source has beyond `there`.
    pub(super) fn others(&self, there: &BTreeSet<TarballName>) -> Vec<TarballName> {
        let here = self.here.iter().flatten().map(|blob| blob.file.clone());
        here.filter(|file| !there.contains(file)).collect()
    }

    /// Links what `earlier` has of `named`, or copies it where files cannot be linked. `reads`: only if
    /// it has the right bytes, as far as those are known. Whether it is there.
    pub(super) async fn link(
        &self,
        earlier: &Earlier,
        named: &Named,
        reads: bool,
    ) -> Result<bool, StorageError> {
        let from = earlier.layout.blob(self.name, &named.file);
        let to = self.layout.blob(self.name, &named.file);
        let path = to.clone();
        let linked = blocking(move || match fs::hard_link(&from, &path) {
            Ok(()) => Ok(Some(true)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(false)),
            // Not on this file system, or there are too many already.
            Err(_) => Ok(None),
        });
        match linked.await? {
            None => return Ok(self.copy(&earlier.blobs, named).await?.is_none()),
            Some(false) => return Ok(false),
            Some(true) => {}
        }
        let Some(integrity) = named.integrity.as_ref().filter(|_| reads) else {
            return Ok(true);
        };
        let found = self.blobs.verify(self.name, &named.file, integrity).await;
        if matches!(found, Ok(Some(Ok(_)))) {
            return Ok(true);
        }
        blocking(move || {
            fs::remove_file(&to)
                .map_err(|error| StorageError::io(format!("removing {}", to.display()), error))
        })
        .await?;
        Ok(false)
    }

    /// Copies what `from` has, and reads it again. What is wrong with it, if something is: it is not
    /// there then.
    async fn copy(&self, from: &dyn Blobs, named: &Named) -> Result<Option<Problem>, StorageError> {
        let failed = |error: StorageError| Problem::Failed(explain(&error));
        let file = &named.file;
        let blob = match from.open(self.name, file).await {
            Ok(Some(blob)) => blob,
            Ok(None) => return Ok(Some(Problem::Absent)),
            Err(error) => return Ok(Some(failed(error))),
        };
        let whole = 0..blob.length;
        let hashing = Hashing::new(named.integrity.as_ref());
        let mut copy = self.temporary.create(hashing).await?;
        let mut pieces = blob.into_stream(whole);
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => copy.write(piece).await?,
                Err(error) => {
                    let operation = format!("reading {file} of {}", self.name);
                    let error = StorageError::io(operation, error);
                    return Ok(Some(failed(error)));
                }
            }
        }
        copy.finish().await?;
        let hashing = copy.observer().cloned();
        let hashing = hashing.unwrap_or_else(|| Hashing::new(None));
        let (found, is_damaged) = hashing.finish()?;
        if is_damaged {
            return Ok(Some(Problem::Damaged));
        }
        let (path, to) = (copy.path().to_owned(), self.layout.blob(self.name, file));
        blocking(move || {
            fs::rename(&path, &to)
                .map_err(|error| StorageError::io(format!("creating {}", to.display()), error))
        })
        .await?;
        let read_back = self.blobs.verify(self.name, file, &found).await?;
        if matches!(read_back, Some(Ok(_))) {
            return Ok(None);
        }
        let operation = format!("copying {file} of {}", self.name);
        let message = "what was written reads as something else";
        Err(StorageError::backend(operation, message))
    }
}
