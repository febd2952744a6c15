//! Committing a publish: the blob first, the manifest last, by compare-and-swap.

use std::{fs::File, io::Read as _, sync::Arc};

use bytes::Bytes;

use super::{
    archive::{ArchiveLimits, TarballFacts, inspect},
    body::{Access, Maintainer, RawObject},
    error::storage_failure,
    hashing::{TarballDigests, TarballHasher},
    intent::Publish,
    manifest::{ManifestFacts, PreparedManifest, Publisher, prepare_manifest},
    put::Done,
    selection::NewVersion,
};
use crate::{
    error::RegistryError,
    events::Event,
    lifecycle::crash_point,
    models::{Action, Caller, Digest, Integrity, Origin, PackageName, Restrictions, Visibility},
    registry::{
        Registry,
        access::access_event,
        attestations::Provenance,
        edit::Stored,
        metadata::maintainers_json,
        packument::{Dist, Hosted, Packument},
    },
    storage::{Conflicts, Created, Seen, StorageError, TemporaryBlob},
};

/// Fields of the newest version that the document shows too, as the public registry does.
const SHOWN_FIELDS: [&str; 9] = [
    "description",
    "keywords",
    "author",
    "license",
    "homepage",
    "repository",
    "bugs",
    "contributors",
    "readmeFilename",
];

/// A version that has passed every check that needs no look at what is stored.
struct Candidate {
    caller: Caller,
    publish: Publish,
    tarball: TemporaryBlob<TarballHasher>,
    digests: TarballDigests,
    facts: TarballFacts,
    provenance: Option<Provenance>,
}

impl Registry {
    /// Publishes one version, with its provenance `bundle` if it has one.
    pub(super) async fn publish_version(
        self: &Arc<Self>,
        caller: &Caller,
        publish: Publish,
        tarball: TemporaryBlob<TarballHasher>,
        bundle: Option<TemporaryBlob<TarballHasher>>,
    ) -> Result<Done, RegistryError> {
        let name = publish.name.clone();
        self.authorise(caller, Action::Publish, &name).await?;
        check_access(&publish)?;
        let stored = self.read(&name).await?.manifest;
        let is_stored = |version: &str| is_version_of(stored.as_ref(), version);
        let new = publish.select_version(is_stored)?;
        check_private(&new)?;
        let digests = tarball
            .observer()
            .map(|hasher| hasher.clone().finish())
            .ok_or_else(|| RegistryError::internal("the tarball was not written"))?;
        digests.check(&new.claims)?;
        let limits = ArchiveLimits {
            unpacked_bytes: self.publish.max_unpacked,
            ..ArchiveLimits::default()
        };
        let facts = inspect_file(&tarball, limits).await?;
        facts.require(&name, &new.version)?;
        let provenance = match bundle {
            Some(bundle) => {
                let text = text_of(&bundle).await?;
                let version = &new.version;
                Some(Provenance::parse(text, &name, version, &digests.sha512)?)
            }
            None => None,
        };
        let candidate = Candidate {
            caller: caller.clone(),
            publish,
            tarball,
            digests,
            facts,
            provenance,
        };
        let registry = Arc::clone(self);
        self.tracked(async move { registry.commit(candidate).await })
            .await
    }

    async fn commit(self: &Arc<Self>, candidate: Candidate) -> Result<Done, RegistryError> {
        let name = &candidate.publish.name;
        let _turn = self.take_turn(name).await?;
        let mut conflicts = Conflicts::default();
        // Set once the manifest has moved past everybody who could still delete the blob.
        let mut may_replace = None;
        loop {
            let Stored { manifest, expected } = self.read(name).await?;
            let is_stored = |version: &str| is_version_of(manifest.as_ref(), version);
            let new = candidate.publish.select_version(is_stored)?;
            if let Some(manifest) = manifest.as_ref().filter(|_| new.is_stored) {
                return self.publish_again(&candidate, &new, manifest);
            }
            let Some(mut manifest) = manifest else {
                let manifest = self.new_manifest(name).await?;
                if self.create_package(&candidate, &new, &manifest).await? {
                    return Ok(Done::Created);
                }
                // An empty manifest before the first blob: whose the name is stays decided, and a
                // blob without any manifest is always one whose manifest was lost.
                match self.write(name, &manifest, expected).await {
                    Ok(_) => {}
                    Err(StorageError::Conflict(_)) => conflicts.pause(name).await?,
                    Err(error) => return Err(error.into()),
                }
                continue;
            };
            let is_new_package = manifest.is_gone();
            self.require_free(&candidate, &new, &manifest).await?;
            let placed = self.place_blob(&candidate, &new, may_replace.take());
            if let Created::Taken(seen) = placed.await? {
                // Something lies there that no manifest names: the rest of a crash, or of an
                // unpublish that may not have finished.
                manifest.touch(self.clock.now());
                match self.write(name, &manifest, expected).await {
                    Ok(_) => {
                        crash_point("manifest-touched");
                        may_replace = Some(seen);
                    }
                    Err(StorageError::Conflict(_)) => conflicts.pause(name).await?,
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            crash_point("blob-placed");
            let events = self.add(&candidate, &new, &mut manifest, is_new_package)?;
            match self.write(name, &manifest, expected).await {
                Ok(_) => {
                    self.has_published(&candidate, &new, &events);
                    return Ok(if is_new_package {
                        Done::Created
                    } else {
                        Done::Changed
                    });
                }
                Err(StorageError::Conflict(_)) => conflicts.pause(name).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts a package that is not there in its place with its first version. `false`: something of
    /// that name is there.
    async fn create_package(
        &self,
        candidate: &Candidate,
        new: &NewVersion,
        empty: &Hosted,
    ) -> Result<bool, RegistryError> {
        let name = &candidate.publish.name;
        self.require_free(candidate, new, empty).await?;
        let mut manifest = empty.clone();
        let events = self.add(candidate, new, &mut manifest, true)?;
        let (blobs, json) = (self.store.blobs(), manifest.to_json());
        let created = blobs.create_package(name, json, &new.file, candidate.tarball.finished());
        if created.await?.is_none() {
            return Ok(false);
        }
        self.has_changed(name, &manifest);
        self.has_published(candidate, new, &events);
        Ok(true)
    }

    /// The manifest of a name that is published for the first time. Whose name it is depends on
    /// whether upstream has it, so upstream has to be asked now.
    async fn new_manifest(&self, name: &PackageName) -> Result<Hosted, RegistryError> {
        self.documents.forget_absence(name);
        let origin = match self.documents.upstream_only(name).await {
            Ok(Some(_)) => Origin::Override,
            Ok(None) => Origin::Local,
            Err(error) if self.publish.allow_offline => {
                tracing::warn!(package.name = %name, error = &error as &dyn std::error::Error, "published although upstream cannot be asked");
                Origin::Local
            }
            Err(error) => {
                return Err(RegistryError::UpstreamUnavailable {
                    message: format!(
                        "`{name}` is new here and upstream cannot be asked whether it has that \
                         name; try again, or set publish.allow_offline"
                    ),
                    retry_after: error.retry_after(),
                    source: error.into(),
                });
            }
        };
        // Where there is no upstream, somebody has to bring `events` and its like from there.
        let was_asked = !self.policy.proxies_of(name).is_empty();
        if origin == Origin::Local && was_asked && name.is_core_module() {
            return Err(RegistryError::bad_request(format!(
                "invalid package name `{name}`: Node.js has a module of that name, which is found \
                 instead of any package"
            )));
        }
        Ok(Hosted::new(name, origin, self.clock.now()))
    }

    /// Refuses versions that are taken, here or upstream, that were unpublished for good, and whose file
    /// belongs to another version; and callers who are not owners.
    async fn require_free(
        &self,
        candidate: &Candidate,
        new: &NewVersion,
        manifest: &Hosted,
    ) -> Result<(), RegistryError> {
        let name = &candidate.publish.name;
        self.require_owner(&candidate.caller, manifest)?;
        if let Some(taken) = manifest.packument().same_version(&new.version) {
            return Err(already_present(taken));
        }
        let is_tombstone = manifest.was_unpublished(&new.version);
        let is_taken_file = !manifest.versions_of(name, &new.file).is_empty();
        if is_taken_file || (is_tombstone && self.publish.immutable) {
            return Err(already_present(new.version.as_str()));
        }
        if self.policy.merge_of(name) == Some(false) || manifest.origin() == Origin::Local {
            return Ok(());
        }
        let upstream = match self.documents.upstream_only(name).await {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::debug!(package.name = %name, error = &error as &dyn std::error::Error, "upstream's versions are not known");
                None
            }
        };
        match upstream
            .as_ref()
            .and_then(|upstream| upstream.same_version(&new.version))
        {
            Some(taken) => Err(already_present(taken)),
            None => Ok(()),
        }
    }

    /// Gives the tarball its final place, in that of what was `seen` there before the manifest was
    /// touched. Taken: other bytes, or bytes that somebody may be about to delete, are there.
    async fn place_blob(
        &self,
        candidate: &Candidate,
        new: &NewVersion,
        seen: Option<Seen>,
    ) -> Result<Created, RegistryError> {
        let (name, blobs) = (&candidate.publish.name, self.store.blobs());
        let tarball = candidate.tarball.finished();
        if let Some(seen) = seen
            && blobs.replace(name, &new.file, &seen, tarball).await?
        {
            return Ok(Created::New);
        }
        Ok(blobs.create(name, &new.file, tarball).await?)
    }

    /// Adds the version. What will have happened once that is stored.
    fn add(
        &self,
        candidate: &Candidate,
        new: &NewVersion,
        manifest: &mut Hosted,
        is_new_package: bool,
    ) -> Result<Vec<Event>, RegistryError> {
        let publish = &candidate.publish;
        let publisher = candidate.publisher();
        let facts = ManifestFacts {
            digests: &candidate.digests,
            archive: &candidate.facts,
            publisher: publisher.as_ref(),
            signing_keys: self.signing_keys.as_deref(),
            provenance: candidate
                .provenance
                .as_ref()
                .map(|provenance| provenance.predicate_type.as_str()),
        };
        let prepared = prepare_manifest(&publish.name, new, facts)?;
        let now = self.clock.now();
        let raw = Bytes::from(prepared.manifest.get().to_owned());
        if let Some(provenance) = &candidate.provenance {
            manifest.set_provenance(&new.version, provenance.bundle.clone());
        }
        manifest.add_version(&new.version, &new.file, raw.clone(), &new.tags, now);
        if is_new_package {
            let owners = candidate.first_owners(publisher.as_ref());
            manifest.set_field("maintainers", maintainers_json(&owners)?, now);
        }
        // Without a word it stays as it is, as on the public registry.
        let visibility = publish.access.map(|access| match access {
            Access::Public => Visibility::Public,
            Access::Restricted => Visibility::Restricted,
        });
        let before = manifest.restrictions();
        let mut events = Vec::new();
        if let Some(visibility) = visibility.filter(|wish| *wish != before.visibility) {
            let restrictions = Restrictions {
                visibility,
                ..before.clone()
            };
            manifest.restrict(restrictions, now);
            events.push(access_event(manifest));
        }
        let latest = manifest.packument().resolve("latest").map(str::to_owned);
        let is_shown = latest.is_none_or(|latest| latest == new.version.as_str());
        if is_shown {
            self.show(candidate, manifest, prepared)?;
        }
        let (version, tags) = (new.version.as_str(), manifest.packument().dist_tags());
        let tags = tags.iter().filter(|(_, tagged)| *tagged == version);
        let published = Event::Published {
            version: version.to_owned(),
            tags: tags.map(|(tag, _)| tag.clone()).collect(),
            new_package: is_new_package,
            integrity: candidate.digests.sha512.to_string(),
            manifest: raw,
        };
        events.insert(0, published);
        Ok(events)
    }

    /// Lets the document speak for the version that `latest` means.
    fn show(
        &self,
        candidate: &Candidate,
        manifest: &mut Hosted,
        prepared: PreparedManifest,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        let fields: RawObject =
            serde_json::from_str(prepared.manifest.get()).map_err(RegistryError::internal)?;
        for field in SHOWN_FIELDS {
            if let Some(raw) = fields.get(field) {
                manifest.set_field(field, Bytes::from(raw.get().to_owned()), now);
            }
        }
        let sent = [prepared.readme, candidate.publish.readme.clone()];
        let mut readmes = sent
            .into_iter()
            .flatten()
            .chain(candidate.facts.readme.clone());
        if let Some(readme) = readmes.find(|readme| !readme.trim().is_empty()) {
            let raw = serde_json::Value::from(readme).to_string();
            manifest.set_field("readme", raw.into(), now);
        }
        Ok(())
    }

    /// A version that is stored: only the same client sending the same bytes again, or bytes that
    /// were recovered without their document, are no conflict.
    fn publish_again(
        &self,
        candidate: &Candidate,
        new: &NewVersion,
        manifest: &Hosted,
    ) -> Result<Done, RegistryError> {
        let is_same = has_integrity(
            manifest.packument(),
            new.version.as_str(),
            &candidate.digests.sha512,
        );
        let key = (candidate.publish.name.clone(), new.version.clone());
        let is_retry = self.recent.get(&key).is_some_and(|(session, digest)| {
            candidate.caller.session.as_ref() == Some(&session)
                && digest == candidate.digests.sha512
        });
        if is_same && (is_retry || manifest.is_recovered(new.version.as_str())) {
            return Ok(Done::Changed);
        }
        Err(already_present(new.version.as_str()))
    }

    /// It is stored.
    fn has_published(&self, candidate: &Candidate, new: &NewVersion, events: &[Event]) {
        self.remember(candidate, new);
        for event in events {
            let (caller, name) = (&candidate.caller, &candidate.publish.name);
            self.events.tell(caller, Some(name), event);
        }
    }

    fn remember(&self, candidate: &Candidate, new: &NewVersion) {
        self.metrics.published();
        if let Some(session) = &candidate.caller.session {
            let key = (candidate.publish.name.clone(), new.version.clone());
            let digest = candidate.digests.sha512.clone();
            self.recent.insert(key, (Arc::clone(session), digest));
        }
    }
}

impl Candidate {
    fn publisher(&self) -> Option<Publisher> {
        (!self.caller.is_anonymous()).then(|| Publisher {
            name: self.caller.display_name().to_owned(),
            email: None,
        })
    }

    /// Who owns a new package: those whom the document names, if the publisher is one of them.
    fn first_owners(&self, publisher: Option<&Publisher>) -> Vec<Maintainer> {
        let sent = self.publish.maintainers.clone().unwrap_or_default();
        let Some(publisher) = publisher else {
            return sent;
        };
        if sent.iter().any(|person| person.name == publisher.name) {
            return sent;
        }
        vec![Maintainer {
            name: publisher.name.clone(),
            email: publisher.email.clone(),
        }]
    }
}

fn is_version_of(manifest: Option<&Hosted>, version: &str) -> bool {
    manifest.is_some_and(|manifest| manifest.packument().version(version).is_some())
}

fn has_integrity(packument: &Packument, version: &str, digest: &Digest) -> bool {
    let stored: Option<Integrity> = packument
        .version(version)
        .and_then(|raw| Dist::of(raw))
        .and_then(|dist| dist.integrity);
    stored.is_some_and(|integrity| integrity.strongest() == digest)
}

/// Clients of every age look for one half of this sentence or the other.
fn already_present(version: &str) -> RegistryError {
    RegistryError::conflict(format!(
        "this package is already present. You cannot publish over the previously published \
         versions: {version}."
    ))
}

fn check_access(publish: &Publish) -> Result<(), RegistryError> {
    if publish.access == Some(Access::Restricted) && publish.name.scope().is_none() {
        let message = "only scoped packages can be restricted";
        return Err(RegistryError::bad_request(message));
    }
    Ok(())
}

fn check_private(new: &NewVersion) -> Result<(), RegistryError> {
    let fields: RawObject =
        serde_json::from_str(new.manifest.get()).map_err(RegistryError::internal)?;
    if fields.get("private").is_some_and(|raw| raw.get() == "true") {
        return Err(RegistryError::bad_request(
            "this package is marked as private; remove `private` from its package.json to publish it",
        ));
    }
    Ok(())
}

/// What is in the bundle, which is small.
async fn text_of(bundle: &TemporaryBlob<TarballHasher>) -> Result<String, RegistryError> {
    let path = bundle.path().to_owned();
    let work = move || {
        let mut text = String::new();
        let mut file = File::open(path).map_err(storage_failure)?;
        file.read_to_string(&mut text).map_err(storage_failure)?;
        Ok(text)
    };
    let read = tokio::task::spawn_blocking(work).await;
    read.map_err(RegistryError::internal)?
}

async fn inspect_file(
    tarball: &TemporaryBlob<TarballHasher>,
    limits: ArchiveLimits,
) -> Result<TarballFacts, RegistryError> {
    let path = tarball.path().to_owned();
    let work = move || {
        let file = File::open(path).map_err(storage_failure)?;
        Ok(inspect(file, limits)?)
    };
    let inspected = tokio::task::spawn_blocking(work).await;
    inspected.map_err(RegistryError::internal)?
}
