//! Copies of everything in a folder, and what is made of them.

use std::path::{Path, PathBuf};

use super::{
    backends::{Backends, accounts_path},
    end::End,
    migrate::Watch,
    restore::fill_from,
};
use crate::{
    config::{Config, MetadataBackend, TarballBackend},
    error::{RegistryError, explain},
    storage::{
        FileKeys, FolderClaim, KeyStore as _, Moved, Moving, TemporaryFolder, move_accounts,
        move_packages, require_same_key,
    },
};

/// Says in a folder that it is a copy, and whether it is whole.
const COPY: &str = "rustaccio-backup";
const BEGUN: &[u8] = b"begun, and not complete\n";
const COMPLETE: &[u8] = b"complete\n";
/// It was complete once and an update was broken off, or something could not be copied.
const INCOMPLETE: &[u8] = b"usable, and not complete\n";

/// Copies everything into `folder`, while registries go on serving it. What is there already of an
/// earlier copy is brought up to date; it stays complete where this fails before anything is changed.
pub(crate) async fn back_up(
    config: &Config,
    folder: &Path,
    watch: Watch<'_>,
) -> Result<Moved, RegistryError> {
    let files = FileKeys::new(folder.to_owned());
    let before = files.read(COPY).await?;
    if before.is_none() && !is_empty(folder).await? {
        return Err(RegistryError::Settings {
            message: format!(
                "{} is neither empty nor an earlier backup; name another folder",
                folder.display()
            ),
        });
    }
    let mut from = open_source(config).await?;
    let _claim = FolderClaim::take(folder.to_owned()).await?;
    if before.is_none() {
        // There is nothing to lose, and the next one may go on in this folder.
        say(&files, BEGUN).await?;
    }
    let target = at(folder);
    let to = Box::pin(Backends::connect(&target)).await?;
    let to = End::target(target, to).await?;
    require_same_key(&*from.keys, &*to.keys).await?;
    require_as_much(config, &from, &to).await?;
    let temporary = TemporaryFolder::open(&folder.join("tmp"))?;
    let is_usable = before.is_some_and(|before| before != BEGUN);
    say(&files, if is_usable { INCOMPLETE } else { BEGUN }).await?;
    let moving = Moving {
        overwrite: true,
        tarballs: Some(&temporary),
        is_live: true,
        is_one_of_many: from.is_one_of_many(),
        watch,
    };
    let mut moved = move_packages(from.place(), to.place(), moving).await?;
    // As they are now: whoever has published meanwhile is among them. The source may have gone.
    let read = from.read_accounts_again().await;
    let checked = match read {
        Ok(()) => require_as_much(config, &from, &to).await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) => move_accounts(from.place(), to.place(), moving, &mut moved).await?,
        Err(error) => {
            let failure = format!("accounts: {}", explain(&error));
            moved.failures.push(failure);
            moved.is_broken_off = true;
        }
    }
    if moved.is_complete() {
        say(&files, COMPLETE).await?;
    } else if !moved.is_broken_off {
        say(&files, INCOMPLETE).await?;
    }
    Ok(moved)
}

/// What is accepted when a backup is restored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accepted {
    /// That what is another in the target is replaced.
    pub(crate) overwrite: bool,
    /// That tokens are taken which the target lacks, though they may have been revoked there.
    pub(crate) with_tokens: bool,
    /// That the backup lacks something, or its last update was broken off.
    pub(crate) incomplete: bool,
}

/// Copies everything of a backup to where the settings say. No registry may be running there.
pub(crate) async fn restore(
    config: &Config,
    folder: &Path,
    accepted: Accepted,
    watch: Watch<'_>,
) -> Result<Moved, RegistryError> {
    let state = FileKeys::new(folder.to_owned()).read(COPY).await?;
    let wrong = match state.as_deref() {
        Some(COMPLETE) => None,
        Some(INCOMPLETE) if accepted.incomplete => None,
        Some(INCOMPLETE) => Some(
            "is a backup that lacks something, or whose last update was broken off; make it again, or \
             restore what it has with --incomplete",
        ),
        Some(_) => {
            Some("is a backup that was broken off before it had everything once; make it again")
        }
        None => Some("is no backup"),
    };
    if let Some(wrong) = wrong {
        return Err(RegistryError::Settings {
            message: format!("{} {wrong}", folder.display()),
        });
    }
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
    let folder = &storage.data_dir;
    if is_in_folder && is_empty(folder).await? {
        return Err(wrong(config, "is not there, or empty"));
    }
    if is_in_folder && storage.metadata == MetadataBackend::Sidecar {
        let mut has_any = false;
        for path in [folder.join("tarballs"), accounts_path(config)] {
            let is_there = tokio::fs::try_exists(path).await;
            has_any |= is_there.map_err(RegistryError::internal)?;
        }
        if !has_any {
            return Err(wrong(config, "has neither packages nor accounts"));
        }
    }
    let backends = Box::pin(Backends::open(config)).await?;
    let from = End::source(config.clone(), backends).await?;
    if from.has_no_packages().await? && from.has_no_accounts().await? {
        return Err(wrong(config, "has neither packages nor accounts"));
    }
    Ok(from)
}

/// Fails where the copy has what the source has nothing of. Of packages that were unpublished, the source
/// still has the names.
async fn require_as_much(config: &Config, from: &End, to: &End) -> Result<(), RegistryError> {
    if from.has_no_accounts().await? && !to.has_no_accounts().await? {
        return Err(wrong(
            config,
            "has no users at all, and the backup has some",
        ));
    }
    if from.has_no_packages().await? && !to.has_no_packages().await? {
        return Err(wrong(
            config,
            "has no packages at all, and the backup has some",
        ));
    }
    Ok(())
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

async fn say(files: &FileKeys, text: &[u8]) -> Result<(), RegistryError> {
    let before = files.read(COPY).await?;
    files.write(COPY, text, before.as_deref()).await?;
    Ok(())
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
