//! Taking packages: all of them, and each as it is at one moment.

mod tarballs;

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use self::tarballs::{Got, Taking};
use super::{Snapshotting, Taken, earlier, is_read_back};
use crate::{
    error::explain,
    lifecycle::crash_point,
    models::PackageName,
    storage::{
        Document, FsBlobs, Layout, MetadataStore as _, StorageError, TemporaryFolder,
        fs::{
            atomic::{MODE_PUBLIC, sync_folder, write_synced},
            blocking,
        },
        moving::{Named, named_in},
    },
};

/// How many packages are taken at once.
const AT_ONCE: usize = 8;
/// How often a package is looked at again that somebody changes meanwhile.
const ATTEMPTS: u32 = 20;
/// After so many failures in a row it is asked whether the source answers at all.
const MANY_FAILURES: u32 = 5;
/// How long a publish may take from its tarball to its manifest before that counts as lost.
const PUBLISHING: Duration = Duration::from_secs(2);

/// Fills the folder of a snapshot with packages.
#[derive(Debug)]
pub(super) struct Filling<'f> {
    making: Snapshotting<'f>,
    layout: Layout,
    blobs: FsBlobs,
    temporary: TemporaryFolder,
    /// Whether the source was asked in vain too often.
    is_given_up: AtomicBool,
}

impl<'f> Filling<'f> {
    pub(super) fn new(
        making: Snapshotting<'f>,
        layout: Layout,
        blobs: FsBlobs,
        temporary: TemporaryFolder,
    ) -> Self {
        Self {
            making,
            layout,
            blobs,
            temporary,
            is_given_up: AtomicBool::new(false),
        }
    }

    /// Takes all packages of the source, and of the snapshot before: what the source has of those
    /// no more was lost, as an unpublished one leaves its name.
    pub(super) async fn take_all(
        &self,
        watch: &(dyn Fn(&Taken) + Sync),
    ) -> Result<Taken, StorageError> {
        let from = self.making.from;
        let mut all = Taken::default();
        let mut names = BTreeSet::new();
        // Before the others: a publish may be between its tarball and its manifest.
        let mut lost = BTreeSet::new();
        if self.making.may_have_lost {
            match from.blobs.perhaps_lost().try_collect().await {
                Ok(found) => lost = found,
                Err(error) => all.lacks(format!(
                    "failed: the list of packages without a manifest: {}",
                    explain(&error)
                )),
            }
        }
        let mut listed = from.metadata.list();
        while let Some(name) = listed.next().await {
            match name {
                Ok(name) => drop(names.insert(name)),
                Err(error) => {
                    let reason = explain(&error);
                    all.lacks(format!("failed: the list of packages: {reason}"));
                    break;
                }
            }
        }
        let listed = names.clone();
        names.append(&mut lost);
        if let Some(base) = earlier::base(self.making.earlier) {
            names.append(&mut base.names().await?);
        }
        let packages = stream::iter(names).map(|name| {
            let is_listed = listed.contains(&name);
            async move { self.take(&name, is_listed).await }
        });
        let mut packages = packages.buffer_unordered(AT_ONCE);
        let mut failures = 0;
        while let Some(taken) = packages.next().await {
            let taken = taken?;
            crash_point("snapshot-package");
            failures = if taken.has_failed { failures + 1 } else { 0 };
            all.add(taken);
            watch(&all);
            if failures >= MANY_FAILURES && !self.is_given_up() {
                failures = 0;
                if let Err(error) = self.making.from.answers().await {
                    let reason = explain(&error);
                    all.lacks(format!("failed: all further packages: {reason}"));
                    self.is_given_up.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(all)
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    async fn take(&self, name: &PackageName, is_listed: bool) -> Result<Taken, StorageError> {
        for attempt in 1..=ATTEMPTS {
            if self.is_given_up() {
                let why = "the source did not answer";
                return self.take_without_manifest(name, why.to_owned(), true).await;
            }
            let document = match self.making.from.metadata.get(name).await {
                Ok(Some(document)) => document,
                Ok(None) => match self.wait_for(name, is_listed).await {
                    Waited::Came(document) => document,
                    Waited::Nothing => return Ok(Taken::default()),
                    Waited::Gone => {
                        let why = "its manifest is not there";
                        return self.take_without_manifest(name, why.into(), false).await;
                    }
                },
                Err(error) => {
                    let why = explain(&error);
                    return self.take_without_manifest(name, why, true).await;
                }
            };
            let (files, nameless) = match named_in(name, &document.json) {
                Ok(named) => named,
                Err(error) => {
                    let why = explain(&error);
                    return self.take_without_manifest(name, why, false).await;
                }
            };
            let mut taken = self.take_files(name, &files).await?;
            let is_whole = taken.rescued.is_empty() && taken.lacking.is_empty();
            if !is_whole && self.has_changed(name, &document).await {
                if attempt < ATTEMPTS {
                    continue;
                }
                taken.lacks(format!("the package `{name}` is changed all the time"));
            }
            for nameless in nameless {
                taken.lacks(format!("missing in the source: {nameless}"));
            }
            self.write_manifest(name, document.json).await?;
            taken.packages = 1;
            return Ok(taken);
        }
        Ok(Taken::default())
    }

    /// Whether the source has another manifest by now.
    async fn has_changed(&self, name: &PackageName, document: &Document) -> bool {
        let now = self.making.from.metadata.get(name).await;
        match now {
            Ok(now) => now.is_none_or(|now| now.revision != document.revision),
            Err(_) => false,
        }
    }

    /// Looks again for a manifest that was not there.
    async fn wait_for(&self, name: &PackageName, is_listed: bool) -> Waited {
        let from = self.making.from;
        let base = earlier::base(self.making.earlier);
        let is_known = match base {
            Some(base) => base.names().await.is_ok_and(|names| names.contains(name)),
            None => false,
        };
        let has_none = from.blobs.list(name).await.is_ok_and(|all| all.is_empty());
        if has_none {
            // Somebody may have made its folder and nothing else.
            return if is_known || is_listed {
                Waited::Gone
            } else {
                Waited::Nothing
            };
        }
        tokio::time::sleep(PUBLISHING).await;
        match from.metadata.get(name).await {
            Ok(Some(document)) => Waited::Came(document),
            _ => Waited::Gone,
        }
    }

    /// Begins the folder of `name`, without what an earlier attempt has left there.
    async fn clear(&self, name: &PackageName) -> Result<(), StorageError> {
        let folder = self.layout.folder(name);
        blocking(move || {
            let failed = |error| StorageError::io(format!("making {}", folder.display()), error);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => fs::create_dir(&folder),
            }
            .map_err(failed)
        })
        .await
    }

    async fn take_files(&self, name: &PackageName, files: &[Named]) -> Result<Taken, StorageError> {
        self.clear(name).await?;
        let taking = self.taking(name).await;
        let mut taken = Taken::default();
        for named in files {
            let path = format!("{name}/-/{}", named.file);
            match taking.take(named).await? {
                Got::Copied => taken.copied += 1,
                Got::Linked => taken.linked += 1,
                Got::NeverFetched => taken.never_fetched += 1,
                Got::Rescued(problem) => {
                    taken.linked += 1;
                    taken.has_failed |= problem.is_failure();
                    taken.rescued.push(problem.of(&path));
                }
                Got::Nothing(problem) => {
                    taken.has_failed |= problem.is_failure();
                    taken.lacks(problem.of(&path));
                }
            }
        }
        Ok(taken)
    }

    async fn taking<'t>(&'t self, name: &'t PackageName) -> Taking<'t> {
        let mut known = Vec::new();
        for earlier in self.making.earlier {
            known.push((earlier, earlier.known(name).await));
        }
        let here = self.making.from.blobs.list(name).await;
        Taking {
            making: self.making,
            layout: &self.layout,
            blobs: &self.blobs,
            temporary: &self.temporary,
            name,
            known,
            here: here.map_err(|error| explain(&error)),
        }
    }

    /// Takes the package as it was in the snapshot before, and what tarballs the source has beyond that:
    /// a start recovers a package that has no manifest.
    async fn take_without_manifest(
        &self,
        name: &PackageName,
        why: String,
        has_failed: bool,
    ) -> Result<Taken, StorageError> {
        self.clear(name).await?;
        let mut taken = Taken {
            has_failed,
            ..Taken::default()
        };
        let taking = self.taking(name).await;
        let (mut manifest, mut there) = (None, BTreeSet::new());
        if let Some(base) = earlier::base(self.making.earlier) {
            let document = base.metadata.get(name).await;
            manifest = document.ok().flatten().map(|document| document.json);
            for file in taking.files_of(base).await {
                if taking
                    .link(base, &Named::alone(file.clone()), false)
                    .await?
                {
                    taken.linked += 1;
                    there.insert(file);
                }
            }
        }
        if !self.is_given_up() {
            for file in taking.others(&there) {
                let path = format!("{name}/-/{file}");
                match taking.take(&Named::alone(file)).await? {
                    Got::Copied | Got::Linked => taken.copied += 1,
                    Got::NeverFetched => {}
                    Got::Rescued(problem) | Got::Nothing(problem) => {
                        taken.lacks(problem.of(&path));
                    }
                }
            }
        }
        let is_empty = there.is_empty() && taken.copied == 0;
        taken.lacks(match (&manifest, is_empty) {
            (Some(_), _) => {
                format!("as it was in the snapshot before: the package `{name}`: {why}")
            }
            (None, false) => format!("without its manifest: the package `{name}`: {why}"),
            (None, true) => format!("failed: the package `{name}`: {why}"),
        });
        if let Some(json) = manifest {
            self.write_manifest(name, json).await?;
        } else if is_empty {
            let folder = self.layout.folder(name);
            let removed = blocking(move || {
                fs::remove_dir(&folder).map_err(|error| {
                    StorageError::io(format!("removing {}", folder.display()), error)
                })
            });
            removed.await?;
            return Ok(taken);
        } else {
            self.sync(name).await?;
        }
        taken.packages = 1;
        Ok(taken)
    }

    /// Writes the manifest, after its tarballs, and makes all of it durable.
    async fn write_manifest(&self, name: &PackageName, json: Bytes) -> Result<(), StorageError> {
        let path = self.layout.manifest(name);
        blocking(move || {
            write_synced(&path, &json, MODE_PUBLIC)
                .map_err(|error| StorageError::io(format!("writing {}", path.display()), error))?;
            is_read_back(&path, &json)
        })
        .await?;
        self.sync(name).await
    }

    async fn sync(&self, name: &PackageName) -> Result<(), StorageError> {
        let folder = self.layout.folder(name);
        blocking(move || {
            sync_folder(&folder)
                .map_err(|error| StorageError::io(format!("writing {}", folder.display()), error))
        })
        .await
    }
}

/// What has become of a manifest that was not there.
enum Waited {
    Came(Document),
    /// There is nothing of the package at all, and there was nothing.
    Nothing,
    Gone,
}
