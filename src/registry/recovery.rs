//! Recovering packages whose manifest is lost, from their tarballs. Only at start, by `fsck` and
//! by reindexing, and only where there is no manifest at all: one that is there is the truth.

use std::{collections::VecDeque, fs::File, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::value::RawValue;

use super::{
    Registry,
    packument::Hosted,
    publish::{
        archive::{ArchiveLimits, TarballFacts, inspect},
        error::storage_failure,
        hashing::{DistClaims, TarballDigests, TarballHasher},
        manifest::{ManifestFacts, prepare_manifest},
        selection::NewVersion,
    },
};
use crate::{
    error::RegistryError,
    models::{Origin, PackageName, Restrictions, Tag, Version},
    storage::{Expected, StorageError, Store, StoredBlob},
};

/// Between attempts to look at all packages.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Where so many packages in a row cannot be read, it may be the store that does not work.
const GIVEN_UP_AFTER: usize = 5;

/// Who removed what cannot be read, as its tombstone says.
const BY: &str = "rustaccio";

/// A tarball that was read again.
struct Recovered {
    version: Version,
    blob: StoredBlob,
    digests: TarballDigests,
    facts: TarballFacts,
}

impl Registry {
    /// Recovers all packages that have tarballs and no manifest. Whether all could be looked at: one that
    /// cannot be read keeps no other from being served.
    pub async fn recover(self: &Arc<Self>) -> Result<bool, RegistryError> {
        let mut names = self.store.blobs().perhaps_lost();
        let (mut is_whole, mut in_a_row) = (true, 0);
        while let Some(name) = names.next().await {
            let name = name?;
            let Err(error) = self.recover_lost(&name).await else {
                in_a_row = 0;
                continue;
            };
            (is_whole, in_a_row) = (false, in_a_row + 1);
            if in_a_row == GIVEN_UP_AFTER {
                self.store.check().await?;
                in_a_row = 0;
            }
            tracing::error!(
                package.name = %name,
                error = &error as &dyn std::error::Error,
                "cannot be read, so that nobody knows whether its manifest is lost; trying again later"
            );
        }
        self.documents.hosted.are_recovered(is_whole);
        Ok(is_whole)
    }

    async fn recover_lost(&self, name: &PackageName) -> Result<(), RegistryError> {
        match self.store.metadata().stamp(name).await {
            Ok(None) | Err(StorageError::Lost { .. }) => {
                self.documents.hosted.recover(name).await?;
                Ok(())
            }
            Ok(Some(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, while the registry serves: until it is done, each package that seems to be missing
    /// is looked at when somebody asks for it.
    pub async fn recover_in_background(self: &Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.recover().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot look for packages whose manifest is lost; trying again later"
                ),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Registry {
    /// Lets searches find packages that were recovered after everything was listed, until the registry
    /// ends.
    pub(super) async fn index_recovered(&self) {
        let recovered = self.documents.hosted.recoveries();
        let mut recovered = recovered.lock().await;
        // One that fails keeps those behind it from nothing.
        let mut again = VecDeque::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let name = tokio::select! {
                biased;
                name = recovered.recv() => match name {
                    Some(name) => name,
                    None => return,
                },
                () = tokio::time::sleep(pause), if !again.is_empty() => match again.pop_front() {
                    Some(name) => name,
                    None => continue,
                },
            };
            let Err(error) = self.fill_readable(&name).await else {
                pause = FIRST_PAUSE;
                continue;
            };
            tracing::warn!(
                package.name = %name,
                error = &error as &dyn std::error::Error,
                "a package that was recovered cannot be found by searches; trying again later"
            );
            again.push_back(name);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Writes a manifest of what the tarballs of `name` say. Whether there was anything to write.
pub(super) async fn recover(store: &Store, name: &PackageName) -> Result<bool, RegistryError> {
    let (mut versions, mut damaged) = (Vec::new(), Vec::new());
    for blob in store.blobs().list(name).await? {
        match read(store, name, &blob).await {
            Ok(Some(recovered)) => versions.push(recovered),
            Ok(None) => {}
            Err(error) if error.status().is_client_error() => {
                tracing::warn!(package.name = %name, file = %blob.file, %error, "a tarball without a manifest is left as it is; remove it, or put back its manifest");
                damaged.push(blob);
            }
            Err(error) => return Err(error),
        }
    }
    versions.sort_by(|one, other| one.version.cmp(&other.version));
    let Some(mut manifest) = manifest_of(name, &versions)? else {
        return Ok(false);
    };
    // Where a version may not come back with other bytes, it does not after this either.
    for blob in damaged {
        let version = blob.file.version_of(name);
        if let Some(version) =
            version.filter(|version| manifest.packument().same_version(version).is_none())
        {
            manifest.mark_lost(&version, BY, blob.created);
        }
    }
    let metadata = store.metadata();
    match metadata
        .put(name, manifest.to_json(), Expected::Absent)
        .await
    {
        Ok(_) => {
            let versions = versions.len();
            if manifest.restrictions().is_empty() {
                tracing::warn!(package.name = %name, versions, "the manifest was lost and has been rebuilt from the tarballs; its owners and tags, and whether a second factor is needed to change it, are to be set again");
            } else {
                tracing::warn!(package.name = %name, versions, "the manifest was lost and has been rebuilt from the tarballs; nobody may use the package until an administrator names an owner with `npm owner add`");
            }
            Ok(true)
        }
        Err(StorageError::Conflict(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn read(
    store: &Store,
    name: &PackageName,
    stored: &StoredBlob,
) -> Result<Option<Recovered>, RegistryError> {
    let Some(blob) = store.blobs().open(name, &stored.file).await? else {
        return Ok(None);
    };
    let file = blob.into_file(store.temporary()).await?;
    let work = move || read_blocking(&file);
    let done = tokio::task::spawn_blocking(work).await;
    let (digests, facts) = done.map_err(RegistryError::internal)??;
    let version: Version = facts
        .version
        .trim()
        .parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    facts.require(name, &version)?;
    Ok(Some(Recovered {
        version,
        blob: stored.clone(),
        digests,
        facts,
    }))
}

fn read_blocking(mut file: &File) -> Result<(TarballDigests, TarballFacts), RegistryError> {
    use std::io::{Read as _, Seek as _};

    let facts = inspect(file, ArchiveLimits::default())?;
    file.rewind().map_err(storage_failure)?;
    let mut hasher = TarballHasher::default();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(storage_failure)?;
        if count == 0 {
            return Ok((hasher.finish(), facts));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// The manifest of `versions`, which are in ascending order; `None` without any.
fn manifest_of(
    name: &PackageName,
    versions: &[Recovered],
) -> Result<Option<Hosted>, RegistryError> {
    let Some(first) = versions.first() else {
        return Ok(None);
    };
    let mut manifest = Hosted::new(name, Origin::Local, first.blob.created);
    for recovered in versions {
        let (file, raw) = (&recovered.blob.file, version_json(name, recovered)?);
        let created = recovered.blob.created;
        manifest.add_version(&recovered.version, file, raw, &[], created);
        manifest.mark_recovered(&recovered.version);
    }
    let released = versions
        .iter()
        .rfind(|recovered| !recovered.version.is_prerelease());
    if let Some(latest) = released.or(versions.last()) {
        manifest.set_tag(&Tag::latest(), latest.version.as_str(), latest.blob.created);
    }
    if name.scope().is_some() {
        // It may have been restricted, and nobody can say any more to whom.
        manifest.restrict(Restrictions::lost(), first.blob.created);
    }
    Ok(Some(manifest))
}

fn version_json(name: &PackageName, recovered: &Recovered) -> Result<Bytes, RegistryError> {
    let json = String::from_utf8_lossy(&recovered.facts.manifest_json).into_owned();
    let new = NewVersion {
        version: recovered.version.clone(),
        file: recovered.blob.file.clone(),
        manifest: RawValue::from_string(json).map_err(RegistryError::internal)?,
        tags: Vec::new(),
        claims: DistClaims::default(),
        is_stored: false,
    };
    let facts = ManifestFacts {
        digests: &recovered.digests,
        archive: &recovered.facts,
        publisher: None,
        // Signed when it is rendered.
        signing_keys: None,
        provenance: None,
    };
    let prepared = prepare_manifest(name, &new, facts)?;
    Ok(Bytes::from(prepared.manifest.get().to_owned()))
}
