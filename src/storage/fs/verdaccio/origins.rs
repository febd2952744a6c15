//! [`Origins`]: whose the names are that were hosted here, beyond the life of their files.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::super::{
    atomic::{MODE_PUBLIC, create_folder_synced, sync_parent, write_atomic},
    secret::read_foreign,
};
use crate::{
    models::{Origin, PackageName},
    storage::StorageError,
};

/// A file of lines, each a name and whose it is. Verdaccio writes to the packages' own files what uplinks
/// have under the same name, and forgets names that it unpublishes: afterwards nothing but this says that
/// a name was born here.
#[derive(Debug)]
pub(super) struct Origins {
    path: PathBuf,
    known: Mutex<HashMap<PackageName, Origin>>,
    /// Whether there were lines that cannot be read.
    is_damaged: bool,
}

#[derive(Deserialize, Serialize)]
struct Line {
    name: String,
    origin: Origin,
}

impl Origins {
    /// What is known in `path`, and whether anything was ever written there. Lines that cannot be read
    /// are left out. Blocks.
    pub(super) fn open(path: PathBuf) -> Result<(Self, bool), StorageError> {
        let bytes = read_foreign(&path)
            .map_err(|error| StorageError::io(format!("reading {}", path.display()), error))?;
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let is_there = text.is_some();
        let lines = text.iter().flat_map(|text| text.lines());
        let lines = lines.filter(|line| !line.trim().is_empty());
        let (mut known, mut is_damaged) = (HashMap::new(), false);
        for line in lines {
            match parse(line) {
                Some((name, origin)) => drop(known.insert(name, origin)),
                None => is_damaged = true,
            }
        }
        let origins = Self {
            path,
            known: Mutex::new(known),
            is_damaged,
        };
        Ok((origins, is_there))
    }

    /// Whose `name` is, if it was ever hosted.
    pub(super) fn get(&self, name: &PackageName) -> Option<Origin> {
        self.known.lock().get(name).copied()
    }

    /// All names that were ever hosted, in their order, and whose they are.
    pub(super) fn all(&self) -> Vec<(PackageName, Origin)> {
        let known = self.known.lock();
        let mut all: Vec<_> = known
            .iter()
            .map(|(name, origin)| (name.clone(), *origin))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Keeps whose these names are, durably, as far as it is not known. Blocks.
    pub(super) fn keep(&self, names: &[(PackageName, Origin)]) -> Result<(), StorageError> {
        let mut known = self.known.lock();
        let new: Vec<_> = names
            .iter()
            .filter(|(name, _)| !known.contains_key(name))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines = text_of(new.iter().map(|(name, origin)| (name, *origin)));
        append(&self.path, &lines)
            .map_err(|error| StorageError::io(format!("writing {}", self.path.display()), error))?;
        known.extend(new.into_iter().cloned());
        Ok(())
    }

    /// Forgets whose `name` is. Blocks.
    pub(super) fn forget(&self, name: &PackageName) -> Result<(), StorageError> {
        if self.known.lock().remove(name).is_none() {
            return Ok(());
        }
        self.rewrite()
    }

    /// Writes the file anew, without what could not be read, which is kept elsewhere. Blocks.
    pub(super) fn rewrite(&self) -> Result<(), StorageError> {
        let known = self.known.lock();
        let mut sorted: Vec<_> = known.iter().map(|(name, origin)| (name, *origin)).collect();
        sorted.sort_by_key(|(name, _)| *name);
        let text = text_of(sorted.into_iter());
        if read_foreign(&self.path).is_ok_and(|known| known.as_deref() == Some(text.as_bytes())) {
            return Ok(());
        }
        let failed = |error| StorageError::io(format!("writing {}", self.path.display()), error);
        if self.is_damaged {
            let kept = self.path.with_extension("damaged");
            fs::copy(&self.path, &kept).map_err(failed)?;
            tracing::error!(path = %self.path.display(), kept = %kept.display(), "lines that say whose names are cannot be read; the file as it was is kept");
        }
        write_atomic(&self.path, text.as_bytes(), MODE_PUBLIC).map_err(failed)
    }
}

fn parse(line: &str) -> Option<(PackageName, Origin)> {
    let line: Line = serde_json::from_str(line).ok()?;
    Some((line.name.parse().ok()?, line.origin))
}

fn text_of<'a>(names: impl Iterator<Item = (&'a PackageName, Origin)>) -> String {
    let mut text = String::new();
    for (name, origin) in names {
        let name = name.to_string();
        let line = serde_json::to_string(&Line { name, origin }).unwrap_or_default();
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Adds `lines`, on a line of their own also where the last one was not finished.
fn append(path: &Path, lines: &str) -> io::Result<()> {
    let is_new = !path.exists();
    if let Some(folder) = path.parent().filter(|_| is_new) {
        create_folder_synced(folder)?;
    }
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("\n{lines}").as_bytes())?;
    file.sync_data()?;
    if is_new { sync_parent(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_known_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/origins");
        let name = |text: &str| -> PackageName { text.parse().unwrap() };
        let (origins, was_there) = Origins::open(path.clone()).unwrap();
        assert!(!was_there);
        origins.keep(&[(name("a"), Origin::Local)]).unwrap();
        origins.keep(&[(name("a"), Origin::Override)]).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"name\":\"tor");
        write_atomic(&path, text.as_bytes(), MODE_PUBLIC).unwrap();
        let (origins, was_there) = Origins::open(path.clone()).unwrap();
        assert!(was_there);
        let both = [(name("@s/b"), Origin::Override), (name("c"), Origin::Local)];
        origins.keep(&both).unwrap();
        let (origins, _) = Origins::open(path.clone()).unwrap();
        assert_eq!(origins.get(&name("@s/b")), Some(Origin::Override));
        assert_eq!(origins.all().len(), 3);
        origins.rewrite().unwrap();
        let kept = fs::read_to_string(path.with_extension("damaged")).unwrap();
        assert!(kept.contains("{\"name\":\"tor"));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }
}
