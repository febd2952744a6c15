//! Snapshots of everything in a folder, and what is made of them.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use super::{
    backends::{Backends, accounts_path, packages_path},
    end::{End, has_none},
    migrate::Watch,
    restore::fill_from,
    snapshots::{self, COMPLETE, Folder, INCOMPLETE, MARK, require_usable},
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::{RegistryError, explain},
    storage::{AccountStore, Earlier, FolderClaim, KeysOf, Moved, Snapshot, Snapshotting, Taken},
};

/// How a snapshot is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backup {
    /// Whether what is linked is read.
    pub(crate) verify: bool,
    /// How many complete snapshots stay after a complete one; all of them without it.
    pub(crate) keep: Option<NonZeroUsize>,
}

/// What has come of a backup.
#[derive(Debug)]
pub(crate) struct BackedUp {
    pub(crate) taken: Taken,
    /// The snapshot.
    pub(crate) path: PathBuf,
    /// What has become of older ones, in words.
    pub(crate) notes: Vec<String>,
}

/// Makes a snapshot of everything in `folder`, while registries go on serving it. Nothing of earlier ones is
/// changed, and nothing is written where this fails.
pub(crate) async fn back_up(
    config: &Config,
    folder: &Path,
    backup: Backup,
    watch: &(dyn Fn(&Taken) + Sync),
) -> Result<BackedUp, RegistryError> {
    require_apart(config, folder).await?;
    Folder::read(folder).await?.require_own(folder)?;
    let from = open_source(config).await?;
    let _claim = FolderClaim::take(folder.to_owned())
        .await
        .map_err(|error| RegistryError::Settings {
            message: format!("another backup may be going into it: {}", explain(&error)),
        })?;
    // As it is now that nobody else changes it.
    let found = Folder::read(folder).await?;
    found.require_own(folder)?;
    let earlier = open_earlier(&found).await?;
    let keys = KeysOf::read(&*from.keys).await?;
    require_same_registry(config, &keys, earlier.first()).await?;
    require_as_much(config, &from, earlier.first()).await?;
    for partial in &found.partial {
        remove(partial).await?;
    }
    let (partial, path) = found.next(folder);
    let made = Box::pin(make(
        (&partial, &path),
        (config, &from, keys),
        (backup, &earlier),
        watch,
    ));
    let taken = match made.await {
        Ok(taken) => taken,
        Err(error) => {
            // It is of no use, and the disk may be full. What stays is removed by the next one.
            let _ = tokio::fs::remove_dir_all(&partial).await;
            return Err(error);
        }
    };
    let mut notes = Vec::new();
    if let Some(keep) = backup.keep.filter(|_| taken.is_complete()) {
        notes = thin_out(folder, keep).await?;
    }
    Ok(BackedUp { taken, path, notes })
}

/// Makes the snapshot in `partial`, which becomes `path`.
async fn make(
    (partial, path): (&Path, &Path),
    (config, from, mut keys): (&Config, &End, KeysOf),
    (backup, earlier): (Backup, &[Earlier]),
    watch: &(dyn Fn(&Taken) + Sync),
) -> Result<Taken, RegistryError> {
    let making = Snapshotting {
        from: from.place(),
        earlier,
        is_one_of_many: from.is_one_of_many(),
        may_have_lost: from.has_place_of_tarballs().await?,
        verify: backup.verify,
        watch,
    };
    let snapshot = Snapshot::begin(partial.to_owned(), making).await?;
    let mut taken = snapshot.take_packages().await?;
    // As they are now: whoever has published meanwhile is among them.
    let read = from.read_accounts().await;
    let accounts = match &read {
        Ok(accounts) => match accounts_are_gone(&**accounts, earlier.first()).await {
            Ok(false) => Ok(&**accounts),
            Ok(true) => Err(explain(&wrong(config, NO_USERS))),
            Err(error) => Err(explain(&error)),
        },
        Err(error) => Err(explain(error)),
    };
    snapshot.take_accounts(accounts, &mut taken).await?;
    // What was published meanwhile may be signed with a new key.
    match KeysOf::read(&*from.keys).await {
        Ok(now) if now.differ_from(&keys).is_none() => keys = now,
        Ok(_) => taken.lacks("failed: keys: they were changed meanwhile".to_owned()),
        Err(error) => taken.lacks(format!("failed: keys: {}", explain(&error))),
    }
    snapshot.take_keys(&keys).await?;
    let mut text = if taken.is_complete() {
        COMPLETE
    } else {
        INCOMPLETE
    }
    .to_owned()
        + "\n";
    for line in &taken.lacking {
        text.push_str(line);
        text.push('\n');
    }
    snapshot.finish(path.to_owned(), MARK, text).await?;
    Ok(taken)
}

/// The newest snapshots, down to one that is as it was made.
async fn open_earlier(found: &Folder) -> Result<Vec<Earlier>, RegistryError> {
    let mut earlier = Vec::new();
    for found in &found.snapshots {
        let opened = Earlier::open(found.path.clone()).await?;
        let is_as_made = opened.is_as_made();
        earlier.push(opened);
        if is_as_made {
            break;
        }
    }
    Ok(earlier)
}

/// Removes what is older than the newest `keep` complete snapshots.
async fn thin_out(folder: &Path, keep: NonZeroUsize) -> Result<Vec<String>, RegistryError> {
    let found = Folder::read(folder).await?;
    let complete = found.snapshots.iter().filter(|found| found.is_complete);
    let mut notes = Vec::new();
    let Some(last) = complete.map(|found| found.time).nth(keep.get() - 1) else {
        return Ok(notes);
    };
    for old in found.snapshots.iter().filter(|found| found.time < last) {
        let shown = old.path.display();
        // It may be somebody's registry by now.
        let is_as_made = Earlier::open(old.path.clone()).await?.is_as_made();
        if !is_as_made || FolderClaim::is_taken(old.path.clone()).await? {
            notes.push(format!(
                "left, because it was used since it was made: {shown}"
            ));
            continue;
        }
        // Half of it would pass for a whole one.
        let doomed = snapshots::doomed(&old.path);
        let renamed = tokio::fs::rename(&old.path, &doomed).await;
        renamed.map_err(RegistryError::internal)?;
        remove(&doomed).await?;
        notes.push(format!("removed: {shown}"));
    }
    Ok(notes)
}

async fn remove(folder: &Path) -> Result<(), RegistryError> {
    let removed = tokio::fs::remove_dir_all(folder).await;
    removed.map_err(|error| RegistryError::Settings {
        message: format!("cannot remove {}: {error}", folder.display()),
    })
}

/// Fails where the data folder and the backup are not apart.
async fn require_apart(config: &Config, folder: &Path) -> Result<(), RegistryError> {
    let storage = &config.storage;
    let data = storage
        .verdaccio
        .as_ref()
        .map_or(&storage.data_dir, |verdaccio| &verdaccio.root);
    let (one, other) = (resolve(data).await?, resolve(folder).await?);
    if !one.starts_with(&other) && !other.starts_with(&one) {
        return Ok(());
    }
    Err(RegistryError::Settings {
        message: format!(
            "the folder of the backup, {}, and the data folder {} of RUSTACCIO_DATA_DIR are the same, or one \
             lies within the other; name a folder elsewhere, best on another disk",
            folder.display(),
            data.display()
        ),
    })
}

/// Where `path` leads, as far as it is there.
async fn resolve(path: &Path) -> Result<PathBuf, RegistryError> {
    let path = std::path::absolute(path).map_err(RegistryError::internal)?;
    for known in path.ancestors() {
        match tokio::fs::canonicalize(known).await {
            Ok(resolved) => {
                let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
                return Ok(resolved.join(rest));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(RegistryError::internal(error)),
        }
    }
    Ok(path)
}

/// What is accepted when a backup is restored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accepted {
    /// That what is another in the target is replaced.
    pub(crate) overwrite: bool,
    /// That tokens are taken which the target lacks, though they may have been revoked there.
    pub(crate) with_tokens: bool,
    /// That the backup lacks something.
    pub(crate) incomplete: bool,
}

/// Copies everything of a backup to where the settings say. No registry may be running there.
pub(crate) async fn restore(
    config: &Config,
    folder: &Path,
    accepted: Accepted,
    watch: Watch<'_>,
) -> Result<Moved, RegistryError> {
    require_usable(folder, accepted.incomplete).await?;
    let _source = FolderClaim::take(folder.to_owned()).await?;
    let source = at(folder);
    let from = Box::pin(Backends::connect(&source)).await?;
    let from = End::source(source, from).await?;
    fill_from(&from, folder, config, accepted, watch).await
}

/// The source of a backup, if it is one: nothing is made where nothing is.
async fn open_source(config: &Config) -> Result<End, RegistryError> {
    let storage = &config.storage;
    let is_in_folder = storage.tarballs == TarballBackend::Local;
    let folder = storage
        .verdaccio
        .as_ref()
        .map_or(&storage.data_dir, |verdaccio| &verdaccio.root);
    if is_in_folder && is_empty(folder).await? {
        return Err(wrong(config, "is not there, or empty"));
    }
    if is_in_folder && storage.metadata == MetadataBackend::Sidecar {
        let is_there = |path: PathBuf| async move {
            let is_there = tokio::fs::try_exists(path).await;
            is_there.map_err(RegistryError::internal)
        };
        // A start makes it, and nothing takes it away.
        if !is_there(packages_path(config)).await? {
            let has_accounts = is_there(accounts_path(config)).await?;
            return Err(wrong(
                config,
                if has_accounts { NO_FOLDER } else { NOTHING },
            ));
        }
    }
    let backends = Box::pin(Backends::open_to_read(config)).await?;
    let from = End::source(config.clone(), backends).await?;
    if from.has_no_packages().await? && from.has_no_accounts().await? {
        return Err(wrong(config, NOTHING));
    }
    Ok(from)
}

const NOTHING: &str = "has neither packages nor accounts";
const NO_FOLDER: &str = "has accounts, and no folder `tarballs`";
const NO_USERS: &str = "has no users at all, and the backup has some";

/// Fails where the keys are those of another registry than `earlier`'s.
async fn require_same_registry(
    config: &Config,
    keys: &KeysOf,
    earlier: Option<&Earlier>,
) -> Result<(), RegistryError> {
    let Some(earlier) = earlier else {
        return Ok(());
    };
    let there = KeysOf::read(&earlier.keys()).await?;
    match keys.differ_from(&there) {
        Some(why) => Err(wrong(config, why)),
        None => Ok(()),
    }
}

/// Fails where `earlier` has what the source has nothing of. Of packages that were unpublished, the source
/// still has the names.
async fn require_as_much(
    config: &Config,
    from: &End,
    earlier: Option<&Earlier>,
) -> Result<(), RegistryError> {
    if accounts_are_gone(&*from.accounts, earlier).await? {
        return Err(wrong(config, NO_USERS));
    }
    if let Some(earlier) = earlier
        && from.has_no_packages().await?
        && !earlier.has_no_packages().await?
    {
        let why = "has no packages at all, and the backup has some";
        return Err(wrong(config, why));
    }
    Ok(())
}

/// Whether `earlier` has accounts, and there are none.
async fn accounts_are_gone(
    accounts: &dyn AccountStore,
    earlier: Option<&Earlier>,
) -> Result<bool, RegistryError> {
    let Some(earlier) = earlier else {
        return Ok(false);
    };
    if !has_none(accounts).await? {
        return Ok(false);
    }
    // What cannot be read may be all of them.
    Ok(match earlier.accounts().await {
        Ok(earlier) => !has_none(&earlier).await?,
        Err(_) => true,
    })
}

/// Why what the settings name is not backed up.
fn wrong(config: &Config, why: &str) -> RegistryError {
    let storage = &config.storage;
    let folder = storage.data_dir.display();
    let source = match (storage.metadata, storage.tarballs) {
        (MetadataBackend::Transactional, TarballBackend::Local) => format!(
            "the database of RUSTACCIO_METADATA_POSTGRES_URL, with the data folder {folder} of \
             RUSTACCIO_DATA_DIR,"
        ),
        (MetadataBackend::Transactional, _) => {
            "the database of RUSTACCIO_METADATA_POSTGRES_URL".to_owned()
        }
        (_, TarballBackend::Local) => format!("the data folder {folder} of RUSTACCIO_DATA_DIR"),
        (_, TarballBackend::S3) => {
            "the bucket of RUSTACCIO_S3_BUCKET and RUSTACCIO_S3_PREFIX".to_owned()
        }
        (_, TarballBackend::Gcs) => {
            "the bucket of RUSTACCIO_GCS_BUCKET and RUSTACCIO_GCS_PREFIX".to_owned()
        }
        (_, TarballBackend::Azure) => {
            "the container of RUSTACCIO_AZURE_CONTAINER and RUSTACCIO_AZURE_PREFIX".to_owned()
        }
    };
    RegistryError::Settings {
        message: format!(
            "{source} {why}, so that it seems to be the wrong one, or to be gone; set what the \
             registry itself is started with, or name another folder for the backup"
        ),
    }
}

/// The settings of everything in one folder.
fn at(folder: &Path) -> Config {
    let mut config = Config::default();
    folder.clone_into(&mut config.storage.data_dir);
    config
}

/// Whether nothing is in the folder, or there is none.
async fn is_empty(folder: &Path) -> Result<bool, RegistryError> {
    let found: Option<PathBuf> = match tokio::fs::read_dir(folder).await {
        Ok(mut entries) => {
            let first = entries.next_entry().await;
            first
                .map_err(RegistryError::internal)?
                .map(|entry| entry.path())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(RegistryError::internal(error)),
    };
    Ok(found.is_none())
}
