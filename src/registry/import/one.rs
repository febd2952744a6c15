//! Importing one package: what is missing is fetched, then the manifest is written.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{
    Import, Imported,
    place::Refusal,
    tarball::{Fetched, Trouble, Wanted},
};
use crate::{
    error::{RegistryError, explain},
    lifecycle::{compute_on, crash_point},
    models::{Origin, PackageName, TarballName, Version},
    registry::{
        packument::{Digests, Dist, Hosted, Packument, Taken, Took, taken_version},
        publish::manifest::STORED_ORIGIN,
    },
    storage::{Expected, MetadataStoreExt as _, StorageError},
};

/// One package that is imported.
pub(super) struct Package<'i> {
    pub(super) import: &'i Import<'i>,
    pub(super) name: PackageName,
}

/// What has come of one package.
#[derive(Default)]
pub(super) struct Done {
    pub(super) report: Imported,
    /// Whether the source did not answer.
    pub(super) is_unanswered: bool,
    /// Whether no other package can be imported either.
    pub(super) is_hopeless: bool,
}

/// A version that is not here.
struct New {
    version: Version,
    raw: Bytes,
    dist: Dist,
    file: TarballName,
}

/// What is to be done.
#[derive(Default)]
struct Plan {
    new: Vec<New>,
    /// Versions that are here with the same bytes, as the source says them now.
    same: Vec<Taken>,
    done: Done,
}

impl Done {
    fn fail(&mut self, what: &str, error: &Refusal) {
        self.is_unanswered |= error.concerns_all();
        let text = format!("{what}: {}", error.explain());
        self.report.failures.push(text);
    }

    fn fail_to_store(&mut self, what: &str, error: &StorageError) {
        self.is_hopeless |= matches!(error, StorageError::Full(_));
        let text = format!("{what}: {}", explain(error));
        self.report.failures.push(text);
    }
}

impl Package<'_> {
    pub(super) async fn run(&self) -> Done {
        let mut done = Done::default();
        let name = self.name.as_str();
        let json = match self.import.source.packument(&self.name).await {
            Ok(Some(json)) => json,
            Ok(None) => {
                done.report.missing.push(name.to_owned());
                return done;
            }
            Err(error) => {
                done.fail(name, &error);
                return done;
            }
        };
        let length = json.len();
        let given = self
            .import
            .origin
            .or_else(|| self.import.source.origin(&json));
        let origin = given.unwrap_or(Origin::Local);
        let parsed = compute_on(length, move || Packument::parse(&json)).await;
        let source = match parsed {
            Ok(Ok(source)) => source,
            Ok(Err(error)) => {
                let text = format!("{name}: the source's answer is no package document: {error}");
                done.report.failures.push(text);
                return done;
            }
            Err(error) => {
                done.report.failures.push(format!("{name}: {error}"));
                return done;
            }
        };
        if source.text("name").is_none_or(|own| own != name) {
            let text = format!("{name}: the source answered with another package");
            done.report.failures.push(text);
            return done;
        }
        match self.import_document(&source, origin).await {
            Ok(done) => done,
            Err(error) => {
                done.report
                    .failures
                    .push(format!("{name}: {}", explain(&error)));
                done
            }
        }
    }

    async fn read(&self) -> Result<Option<Hosted>, RegistryError> {
        let document = self.import.target.metadata.get(&self.name).await?;
        let parse = |document: crate::storage::Document| Hosted::parse(&document.json);
        let hosted = document.map(parse).transpose();
        hosted.map_err(RegistryError::internal)
    }

    async fn import_document(
        &self,
        source: &Packument,
        origin: Origin,
    ) -> Result<Done, RegistryError> {
        let own = self.read().await?;
        let is_new = own.is_none();
        let now = self.import.clock.now();
        let empty = Hosted::new(&self.name, origin, now);
        let own = own.unwrap_or(empty);
        let Plan {
            new,
            same,
            mut done,
        } = self.plan(source, &own);
        done.report.same = same.len();
        if self.import.target.temporary.is_none() {
            let mut tried = own.clone();
            let is_changed = !new.is_empty() || tried.take(source, &same, now).is_changed;
            done.report.versions = new.len();
            count(&mut done, is_changed && !(is_new && new.is_empty()));
            return Ok(done);
        }
        if is_new && new.is_empty() {
            count(&mut done, false);
            return Ok(done);
        }
        let mut reserved = None;
        if is_new {
            // Before the first blob, so that whose the name is stays decided, and that a blob without
            // any manifest is always one whose manifest was lost.
            let (metadata, json) = (&self.import.target.metadata, own.to_json());
            reserved = Some(metadata.put(&self.name, json, Expected::Absent).await?);
            crash_point("import-begun");
        }
        let taken = self.fetch_all(&new, &own, &mut done).await?;
        if taken.is_empty()
            && let Some(revision) = reserved
        {
            self.import
                .target
                .metadata
                .delete(&self.name, &revision)
                .await?;
            count(&mut done, false);
            return Ok(done);
        }
        done.report.versions = taken.len();
        // In the order of the source.
        let mut all: Vec<Taken> = same.into_iter().chain(taken).collect();
        let order: Vec<&str> = source.versions().map(|(version, _)| version).collect();
        all.sort_by_cached_key(|taken| order.iter().position(|own| *own == taken.version.as_str()));
        crash_point("tarballs-imported");
        let took = self.write(source, &all, origin).await?;
        for tag in &took.other_tags {
            let text = format!(
                "{}: the dist-tag {tag} is another in the source, and stays as it is: something was \
                 published here",
                self.name
            );
            done.report.notes.push(text);
        }
        count(&mut done, took.is_changed);
        Ok(done)
    }

    /// Which versions are to be fetched, and which are here.
    fn plan(&self, source: &Packument, own: &Hosted) -> Plan {
        let mut plan = Plan::default();
        let follows = own.follows(source);
        let mut files: BTreeSet<TarballName> = own.files(&self.name).into_iter().collect();
        for (text, raw) in source.versions() {
            let what = format!("{}@{text}", self.name);
            let report = &mut plan.done.report;
            let Ok(version) = text.parse::<Version>() else {
                report.failures.push(format!("{what}: it is no version"));
                continue;
            };
            let stored = own.packument().version(text);
            if let Some(stored) = stored {
                let (digests, theirs) = (Digests::of(stored), Digests::of(raw));
                if digests.differ(&theirs) {
                    let text = format!("{what} has other bytes in the source");
                    report.conflicts.push(text);
                } else if let Some(taken) = self.as_here(own, &version, raw, &digests, follows) {
                    plan.same.push(taken);
                }
                continue;
            }
            if let Some(near) = own.packument().same_version(&version) {
                let text = format!("{what} is here as {near}");
                report.conflicts.push(text);
                continue;
            }
            if own.was_unpublished(&version) {
                report
                    .conflicts
                    .push(format!("{what} was unpublished here"));
                continue;
            }
            let Some(dist) = Dist::of(raw) else {
                report
                    .missing
                    .push(format!("{what}, which names no tarball"));
                continue;
            };
            let is_free = |file: &TarballName| !files.contains(file);
            let named = dist.file(&self.name, text).filter(is_free);
            let conventional = || TarballName::of(&self.name, &version).ok().filter(is_free);
            let Some(file) = named.or_else(conventional) else {
                let text = format!("{what}: another version has its tarball's name");
                report.failures.push(text);
                continue;
            };
            files.insert(file.clone());
            let raw = raw.clone();
            plan.new.push(New {
                version,
                raw,
                dist,
                file,
            });
        }
        plan
    }

    /// A version that is here, as the source says it now: with another deprecation, perhaps.
    fn as_here(
        &self,
        own: &Hosted,
        version: &Version,
        raw: &Bytes,
        digests: &Digests,
        follows: bool,
    ) -> Option<Taken> {
        let stored = own.packument().version(version.as_str())?;
        let dist = Dist::of(stored)?;
        let file = dist.file(&self.name, version.as_str())?;
        let tarball = (dist.tarball.as_str(), digests);
        let manifest = if follows {
            taken_version(&self.name, version, raw, tarball, own.origin())?
        } else {
            stored.clone()
        };
        Some(Taken {
            version: version.clone(),
            file,
            manifest,
        })
    }

    /// Fetches what is new. What cannot be had is in the report.
    async fn fetch_all(
        &self,
        new: &[New],
        own: &Hosted,
        done: &mut Done,
    ) -> Result<Vec<Taken>, RegistryError> {
        let Import {
            source,
            target,
            clock,
            jobs,
            ..
        } = self.import;
        let here = target.blobs.list(&self.name).await?;
        let here: BTreeSet<TarballName> = here.into_iter().map(|blob| blob.file).collect();
        let here = &here;
        let fetched = stream::iter(new).map(|new| async move {
            let wanted = Wanted {
                source,
                target,
                clock,
                name: &self.name,
                version: new.version.as_str(),
                file: &new.file,
                address: &new.dist.tarball,
                promised: new.dist.integrity.as_ref(),
                is_taken: here.contains(&new.file),
            };
            (new, wanted.fetch().await)
        });
        let mut fetched = fetched.buffer_unordered((*jobs).max(1));
        let mut taken = Vec::new();
        while let Some((new, outcome)) = fetched.next().await {
            let what = format!("{}@{}", self.name, new.version);
            match outcome {
                Ok(Fetched {
                    digests,
                    downloaded,
                }) => {
                    done.report.tarballs += usize::from(downloaded.is_some());
                    done.report.bytes += downloaded.unwrap_or_default();
                    let address = format!("{STORED_ORIGIN}/{}/-/{}", self.name, new.file);
                    let tarball = (address.as_str(), &digests);
                    let origin = own.origin();
                    match taken_version(&self.name, &new.version, &new.raw, tarball, origin) {
                        Some(manifest) => taken.push(Taken {
                            version: new.version.clone(),
                            file: new.file.clone(),
                            manifest,
                        }),
                        None => done
                            .report
                            .failures
                            .push(format!("{what}: it is no object")),
                    }
                }
                Err(Trouble::Missing) => {
                    done.report.missing.push(format!("the tarball of {what}"));
                }
                Err(Trouble::Damaged(why)) => done.report.damaged.push(format!("{what}: {why}")),
                Err(Trouble::Source(error)) => done.fail(&what, &error),
                Err(Trouble::Storage(error)) => done.fail_to_store(&what, &error),
                Err(Trouble::Other(why)) => done.report.failures.push(format!("{what}: {why}")),
            }
        }
        Ok(taken)
    }

    /// Writes the manifest, as long as it is not as it should be.
    async fn write(
        &self,
        source: &Packument,
        versions: &[Taken],
        origin: Origin,
    ) -> Result<Took, RegistryError> {
        let now = self.import.clock.now();
        let mut took = Took::default();
        let write = self.import.target.metadata.update(&self.name, |document| {
            let mut hosted = match document {
                Some(document) => Hosted::parse(&document.json).map_err(RegistryError::internal)?,
                None => Hosted::new(&self.name, origin, now),
            };
            took = hosted.take(source, versions, now);
            Ok::<_, RegistryError>(took.is_changed.then(|| hosted.to_json()))
        });
        write.await?;
        Ok(took)
    }
}

fn count(done: &mut Done, is_changed: bool) {
    done.report.changed = usize::from(is_changed);
    done.report.unchanged = usize::from(!is_changed);
}
