//! [`UnderWay`]: which tarballs are about to be placed or deleted.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::super::atomic::{create_folder_synced, sync_folder};
use crate::{
    models::{PackageName, TarballName},
    storage::layout::{folder_name, package_of},
};

/// An empty file for each tarball that lies in Verdaccio's folder before the manifest names it, or after the
/// manifest let go of it. Verdaccio serves what lies there, whatever it is: what was left by somebody
/// who died between is cleared away at the next start.
#[derive(Debug)]
pub(super) struct UnderWay {
    folder: PathBuf,
    /// Held while notes and tarballs are compared.
    comparing: Mutex<()>,
}

impl UnderWay {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            comparing: Mutex::new(()),
        }
    }

    /// Notes `files`, durably. Blocks.
    pub(super) fn note(&self, name: &PackageName, files: &[TarballName]) -> io::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let folder = self.folder_of(name);
        create_folder_synced(&folder)?;
        let _comparing = self.comparing.lock();
        let mut is_new = false;
        for file in files {
            match File::create_new(folder.join(file.as_str())) {
                Ok(_) => is_new = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        if is_new { sync_folder(&folder) } else { Ok(()) }
    }

    /// Takes the notes of those files back that are `done`. One that stays does no harm. Blocks.
    pub(super) fn done(&self, name: &PackageName, mut done: impl FnMut(&TarballName) -> bool) {
        let folder = self.folder_of(name);
        let _comparing = self.comparing.lock();
        for file in noted_in(&folder).unwrap_or_default() {
            if done(&file)
                && let Err(error) = fs::remove_file(folder.join(file.as_str()))
            {
                tracing::debug!(package.name = %name, %file, %error, "the note that it is under way stays");
            }
        }
    }

    /// The files of `name` that are noted. Blocks.
    pub(super) fn of(&self, name: &PackageName) -> Vec<TarballName> {
        noted_in(&self.folder_of(name)).unwrap_or_default()
    }

    /// All that is noted. Blocks.
    pub(super) fn all(&self) -> io::Result<Vec<(PackageName, Vec<TarballName>)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_str().and_then(package_of);
            // What is no folder is none of ours.
            if let Some(name) = name
                && entry.file_type()?.is_dir()
            {
                all.push((name, noted_in(&entry.path())?));
            }
        }
        Ok(all)
    }

    /// Removes what is left of `name` if it has no notes. Blocks.
    pub(super) fn tidy(&self, name: &PackageName) {
        // One with notes is not empty.
        let _ = fs::remove_dir(self.folder_of(name));
    }

    fn folder_of(&self, name: &PackageName) -> PathBuf {
        self.folder.join(folder_name(name))
    }
}

fn noted_in(folder: &Path) -> io::Result<Vec<TarballName>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        files.extend(file.to_str().and_then(|file| file.parse().ok()));
    }
    Ok(files)
}
