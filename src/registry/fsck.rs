//! [`check`]: reads everything that is stored and says what does not fit together.

use std::{fmt, fs, io::Write as _, path::PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{
    packument::{Dist, Hosted},
    recovery, stored,
};
use crate::{
    error::RegistryError,
    lifecycle::SharedClock,
    models::{Integrity, PackageName, Revision, TarballName, Timestamp},
    storage::{Conflicts, Document, Expected, StorageError, Store},
};

/// Who removed a version, as its tombstone says.
const BY: &str = "rustaccio fsck";
/// No publish takes this long, in milliseconds.
const LONGEST_UPLOAD: i64 = 24 * 3600 * 1000;
/// After so many failures in a row it is asked whether the store answers at all.
const MANY_FAILURES: u32 = 5;

/// Something that does not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Tarballs without any manifest.
    LostManifest(PackageName),
    /// A package that is known to be hosted, of which nothing is there.
    LostPackage(PackageName),
    /// What is said to be hosted and is no name that anybody can ask for.
    Stranger(String),
    /// A manifest that cannot be read.
    DamagedManifest(PackageName),
    /// A version whose tarball is not there.
    MissingTarball(PackageName, String),
    /// A version whose tarball has other bytes than it should.
    DamagedTarball(PackageName, String),
    /// A tarball that no version names.
    Orphan(PackageName, TarballName),
    /// A dist-tag that points at no version.
    DanglingTag(PackageName, String),
    /// The bytes of a tarball that was never published.
    Leftover(String),
    /// Something of a package that the store could not read.
    Unreadable(PackageName, String),
    /// A cached tarball with other bytes than its name says.
    DamagedCache(PathBuf),
}

impl Damage {
    /// The word for it, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LostManifest(_) => "lost-manifest",
            Self::LostPackage(_) => "lost-package",
            Self::Stranger(_) => "stranger",
            Self::DamagedManifest(_) => "damaged-manifest",
            Self::MissingTarball(..) => "missing-tarball",
            Self::DamagedTarball(..) => "damaged-tarball",
            Self::Orphan(..) => "orphan",
            Self::DanglingTag(..) => "dangling-tag",
            Self::Leftover(_) => "leftover",
            Self::Unreadable(..) => "unreadable",
            Self::DamagedCache(_) => "damaged-cache",
        }
    }

    /// The package that it is about, if it is about one.
    pub fn package(&self) -> Option<&PackageName> {
        match self {
            Self::LostManifest(name)
            | Self::LostPackage(name)
            | Self::DamagedManifest(name)
            | Self::MissingTarball(name, _)
            | Self::DamagedTarball(name, _)
            | Self::Orphan(name, _)
            | Self::DanglingTag(name, _)
            | Self::Unreadable(name, _) => Some(name),
            Self::Stranger(_) | Self::Leftover(_) | Self::DamagedCache(_) => None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostManifest(name) => write!(f, "{name}: tarballs, and no manifest"),
            Self::LostPackage(name) => write!(
                f,
                "{name}: is hosted, and nothing of it is there; put back a copy of its folder, or take the name out \
                 of the list"
            ),
            Self::Stranger(text) => write!(
                f,
                "{text}: is in the list of hosted packages, and nobody can ask for such a name"
            ),
            Self::DamagedManifest(name) => write!(
                f,
                "{name}: the manifest cannot be read; put back a copy of its package.json"
            ),
            Self::MissingTarball(name, version) => {
                write!(f, "{name}@{version}: the tarball is missing")
            }
            Self::DamagedTarball(name, version) => {
                write!(f, "{name}@{version}: the tarball is damaged")
            }
            Self::Orphan(name, file) => write!(f, "{name}: no version names {file}"),
            Self::DanglingTag(name, tag) => {
                write!(f, "{name}: the dist-tag {tag} points at no version")
            }
            Self::Leftover(name) => write!(f, "{name}: nothing leads to it"),
            Self::Unreadable(name, what) => write!(f, "{name}: {what} could not be read"),
            Self::DamagedCache(path) => write!(f, "cache: {} is damaged", path.display()),
        }
    }
}

/// How much of a report there was.
#[derive(Clone, Copy)]
struct Counts {
    packages: usize,
    tarballs: usize,
    damages: usize,
    repaired: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Packages that were looked at.
    pub packages: usize,
    /// Tarballs that were read.
    pub tarballs: usize,
    /// What does not fit together.
    pub damages: Vec<Damage>,
    /// How many of them were put right.
    pub repaired: usize,
}

impl FsckReport {
    fn counts(&self) -> Counts {
        Counts {
            packages: self.packages,
            tarballs: self.tarballs,
            damages: self.damages.len(),
            repaired: self.repaired,
        }
    }

    /// As if nothing had been found since.
    fn take_back(&mut self, before: Counts) {
        self.packages = before.packages;
        self.tarballs = before.tarballs;
        self.damages.truncate(before.damages);
        self.repaired = before.repaired;
    }

    /// Whether nothing is left to do.
    pub fn is_clean(&self) -> bool {
        self.repaired == self.damages.len()
    }
}

impl fmt::Display for FsckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for damage in &self.damages {
            writeln!(f, "{damage}")?;
        }
        let Self {
            packages,
            tarballs,
            damages,
            repaired,
        } = self;
        write!(f, "{packages} packages, {tarballs} tarballs: ")?;
        match (damages.len(), repaired) {
            (0, _) => write!(f, "all fine"),
            (found, 0) => write!(f, "{found} problems; --repair puts right what can be"),
            (found, repaired) => write!(f, "{found} problems, {repaired} put right"),
        }
    }
}

/// Checks every manifest against its tarballs, and the cache against its names.
///
/// With `repair`, versions without their bytes are unpublished, lost manifests rebuilt, and
/// tarballs that nobody names or that are damaged moved to `quarantine` in the data folder;
/// nothing that was published is ever deleted. What cannot be read is reported and left as it is.
///
/// `watch` hears what was found so far, and how many packages there are.
///
/// The report is of everything that was found, also where an error says why it came to an end.
pub async fn check(
    store: &Store,
    repair: bool,
    clock: &SharedClock,
    watch: &(dyn Fn(&FsckReport, usize) + Sync),
) -> (FsckReport, Result<(), RegistryError>) {
    let mut check = Check {
        store,
        repair,
        clock,
        report: FsckReport::default(),
        failures: 0,
    };
    let done = check.everything(watch).await;
    (check.report, done)
}

/// Whether tarballs are in the folder of one node of several: the others may have what it lacks.
fn is_folder_of_one_node(store: &Store) -> bool {
    #[cfg(feature = "object")]
    if store.bucket().is_some() {
        return false;
    }
    store.is_shared()
}

struct Check<'a> {
    store: &'a Store,
    repair: bool,
    clock: &'a SharedClock,
    report: FsckReport,
    /// Failures of the store in a row.
    failures: u32,
}

/// What is wrong with one package.
#[derive(Default)]
struct Findings {
    missing: Vec<String>,
    damaged: Vec<(String, TarballName)>,
    tags: Vec<String>,
}

impl Check<'_> {
    async fn everything(
        &mut self,
        watch: &(dyn Fn(&FsckReport, usize) + Sync),
    ) -> Result<(), RegistryError> {
        let names = stored::names(self.store).await?;
        for name in &names {
            watch(&self.report, names.len());
            self.package(name).await?;
        }
        self.strangers().await?;
        self.leftovers().await?;
        self.cache().await
    }

    /// What was read; `None` where it could not be, which is reported. Fails where the store does not
    /// answer at all.
    async fn noted<T>(
        &mut self,
        name: &PackageName,
        what: impl Into<String>,
        read: Result<T, StorageError>,
    ) -> Result<Option<T>, RegistryError> {
        let error = match read {
            Ok(read) => {
                self.failures = 0;
                return Ok(Some(read));
            }
            Err(error) => error,
        };
        tracing::warn!(package.name = %name, error = &error as &dyn std::error::Error, "cannot be read");
        self.failures += 1;
        if self.failures >= MANY_FAILURES {
            self.store.check().await?;
            self.failures = 0;
        }
        let damage = Damage::Unreadable(name.clone(), what.into());
        self.report.damages.push(damage);
        Ok(None)
    }

    /// Checks `name`; once more from the beginning where somebody else has changed it meanwhile.
    async fn package(&mut self, name: &PackageName) -> Result<(), RegistryError> {
        let mut conflicts = Conflicts::default();
        loop {
            let before = self.report.counts();
            match self.package_once(name).await {
                Err(RegistryError::Conflict { .. }) => {
                    self.report.take_back(before);
                    conflicts.pause(name).await?;
                }
                done => return done,
            }
        }
    }

    async fn package_once(&mut self, name: &PackageName) -> Result<(), RegistryError> {
        self.report.packages += 1;
        let read = self.store.metadata().get(name).await;
        let is_lost = matches!(read, Err(StorageError::Lost { .. }));
        let read = if is_lost { Ok(None) } else { read };
        let Some(mut document) = self.noted(name, "the manifest", read).await? else {
            return Ok(());
        };
        if document.is_none() {
            let before = self.report.damages.len();
            document = self.lost(name).await?;
            if is_lost && self.report.damages.len() == before {
                self.report.damages.push(Damage::LostPackage(name.clone()));
            }
        }
        let Some(document) = document else {
            return Ok(());
        };
        let Ok(mut manifest) = Hosted::parse(&document.json) else {
            let damage = Damage::DamagedManifest(name.clone());
            self.report.damages.push(damage);
            return Ok(());
        };
        let findings = self.versions(name, &manifest).await?;
        let mut revision = document.revision;
        let has_findings = !findings.missing.is_empty()
            || !findings.damaged.is_empty()
            || !findings.tags.is_empty();
        let lets_go = !findings.missing.is_empty() || !findings.damaged.is_empty();
        if self.repair && lets_go && self.store.blobs().packages().next().await.is_none() {
            return Err(RegistryError::Settings {
                message: NO_TARBALLS.to_owned(),
            });
        }
        if self.repair && has_findings {
            revision = self
                .rewrite(name, &mut manifest, &findings, revision)
                .await?;
        }
        self.orphans(name, &mut manifest, &findings, revision).await
    }

    /// A package without a manifest: the one that was rebuilt, if one was.
    async fn lost(&mut self, name: &PackageName) -> Result<Option<Document>, RegistryError> {
        let listed = self.store.blobs().list(name).await;
        let listed = self.noted(name, "the list of tarballs", listed).await?;
        if listed.is_none_or(|listed| listed.is_empty()) {
            return Ok(None);
        }
        self.report.damages.push(Damage::LostManifest(name.clone()));
        if !self.repair || !recovery::recover(self.store, name).await? {
            return Ok(None);
        }
        self.report.repaired += 1;
        Ok(self.store.metadata().get(name).await?)
    }

    async fn versions(
        &mut self,
        name: &PackageName,
        manifest: &Hosted,
    ) -> Result<Findings, RegistryError> {
        let mut findings = Findings::default();
        for (version, raw) in manifest.packument().versions() {
            self.report.tarballs += 1;
            let dist = Dist::of(raw);
            let file = dist.as_ref().and_then(|dist| dist.file(name, version));
            let Some(file) = file else {
                findings.missing.push(version.to_owned());
                continue;
            };
            let integrity = dist.and_then(|dist| dist.integrity);
            let verdict = self.verify(name, &file, integrity.as_ref()).await;
            let verdict = self.noted(name, file.to_string(), verdict).await?;
            match verdict.unwrap_or(Verdict::Fine) {
                Verdict::Fine => {}
                Verdict::Missing => findings.missing.push(version.to_owned()),
                Verdict::Damaged => findings.damaged.push((version.to_owned(), file)),
            }
        }
        let tags = manifest.packument().dist_tags().iter();
        findings.tags = tags
            .filter(|(_, version)| manifest.packument().version(version).is_none())
            .map(|(tag, _)| tag.clone())
            .collect();
        let damages = &mut self.report.damages;
        for version in &findings.missing {
            damages.push(Damage::MissingTarball(name.clone(), version.clone()));
        }
        for (version, _) in &findings.damaged {
            damages.push(Damage::DamagedTarball(name.clone(), version.clone()));
        }
        for tag in &findings.tags {
            damages.push(Damage::DanglingTag(name.clone(), tag.clone()));
        }
        Ok(findings)
    }

    async fn verify(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: Option<&Integrity>,
    ) -> Result<Verdict, StorageError> {
        let blobs = self.store.blobs();
        let Some(integrity) = integrity else {
            let is_there = blobs.open(name, file).await?.is_some();
            return Ok(if is_there {
                Verdict::Fine
            } else {
                Verdict::Missing
            });
        };
        Ok(match blobs.verify(name, file, integrity).await? {
            None => Verdict::Missing,
            Some(Ok(_)) => Verdict::Fine,
            Some(Err(_)) => Verdict::Damaged,
        })
    }

    /// The manifest lets go of what cannot be served; only then are bytes moved.
    async fn rewrite(
        &mut self,
        name: &PackageName,
        manifest: &mut Hosted,
        findings: &Findings,
        revision: Revision,
    ) -> Result<Revision, RegistryError> {
        let now = self.clock.now();
        // The tarball may be on another node.
        let missing = if is_folder_of_one_node(self.store) {
            &[]
        } else {
            findings.missing.as_slice()
        };
        if missing.is_empty() && findings.damaged.is_empty() && findings.tags.is_empty() {
            return Ok(revision);
        }
        keep_copy(self.store, name, manifest.to_json(), now).await?;
        let damaged = findings.damaged.iter().map(|(version, _)| version);
        for version in missing.iter().chain(damaged) {
            manifest.remove_version(version, BY, now);
        }
        for tag in &findings.tags {
            manifest.remove_tag(tag, now);
        }
        let expected = Expected::Exactly(revision);
        let json = manifest.to_json();
        let revision = self.store.metadata().put(name, json, expected).await?;
        self.report.repaired += missing.len() + findings.damaged.len() + findings.tags.len();
        Ok(revision)
    }

    async fn orphans(
        &mut self,
        name: &PackageName,
        manifest: &mut Hosted,
        findings: &Findings,
        revision: Revision,
    ) -> Result<(), RegistryError> {
        let named = manifest.files(name);
        let mut files = Vec::new();
        let mut unknown = 0;
        let listed = self.store.blobs().list(name).await;
        let listed = self.noted(name, "the list of tarballs", listed).await?;
        for blob in listed.unwrap_or_default() {
            if named.contains(&blob.file) {
                continue;
            }
            let is_known = findings.damaged.iter().any(|(_, file)| *file == blob.file);
            if !is_known {
                let orphan = Damage::Orphan(name.clone(), blob.file.clone());
                self.report.damages.push(orphan);
                unknown += 1;
            }
            files.push(blob.file);
        }
        if self.repair && !files.is_empty() {
            let is_moved = self.set_aside(name, manifest, files, revision).await?;
            self.report.repaired += if is_moved { unknown } else { 0 };
        }
        Ok(())
    }

    /// Sets files aside that the manifest does not name; whether it did. Another node may be about
    /// to name one of them: once the manifest has been touched, it cannot any more.
    async fn set_aside(
        &self,
        name: &PackageName,
        manifest: &mut Hosted,
        files: Vec<TarballName>,
        revision: Revision,
    ) -> Result<bool, RegistryError> {
        let blobs = self.store.blobs();
        let doomed = blobs.doom(name, files).await?;
        manifest.touch(self.clock.now());
        let (json, expected) = (manifest.to_json(), Expected::Exactly(revision));
        match self.store.metadata().put(name, json, expected).await {
            Ok(revision) => Ok(blobs.set_aside(name, doomed, &revision).await?),
            Err(StorageError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn strangers(&mut self) -> Result<(), RegistryError> {
        let found = self.store.metadata().strangers().await?;
        let damages = found.into_iter().map(Damage::Stranger);
        self.report.damages.extend(damages);
        Ok(())
    }

    async fn leftovers(&mut self) -> Result<(), RegistryError> {
        let before = self
            .clock
            .now()
            .unix_millis()
            .saturating_sub(LONGEST_UPLOAD);
        let before = Timestamp::from_unix_millis(before);
        let found = self.store.blobs().leftovers(before, self.repair).await?;
        if self.repair {
            self.report.repaired += found.len();
        }
        let damages = found.into_iter().map(Damage::Leftover);
        self.report.damages.extend(damages);
        Ok(())
    }

    async fn cache(&mut self) -> Result<(), RegistryError> {
        let damaged = self.store.cache().damaged_tarballs(self.repair).await?;
        if self.repair {
            self.report.repaired += damaged.len();
        }
        let damages = damaged.into_iter().map(Damage::DamagedCache);
        self.report.damages.extend(damages);
        Ok(())
    }
}

const NO_TARBALLS: &str = "manifests name tarballs, and where tarballs are kept there are none at all, so that this may be \
    the wrong folder, bucket or prefix and nothing was changed; set RUSTACCIO_DATA_DIR, or the \
    bucket and prefix, to where they are";

/// Keeps the manifest as it was in `quarantine` of the data folder.
async fn keep_copy(
    store: &Store,
    name: &PackageName,
    json: Bytes,
    now: Timestamp,
) -> Result<(), RegistryError> {
    // No package's name begins with a dot.
    let folder = store.data_dir().join("quarantine/.manifests");
    let file = format!("{name}-{}.json", now.unix_millis()).replace('/', "%2f");
    let write = move || {
        fs::create_dir_all(&folder)?;
        let mut copy = fs::File::create(folder.join(file))?;
        copy.write_all(&json)?;
        copy.sync_all()?;
        fs::File::open(&folder)?.sync_all()
    };
    let written = tokio::task::spawn_blocking(write).await;
    written
        .map_err(RegistryError::internal)?
        .map_err(|error| StorageError::io("keeping a copy of a manifest", error).into())
}

enum Verdict {
    Fine,
    Missing,
    Damaged,
}
