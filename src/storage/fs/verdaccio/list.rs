//! [`List`]: the file in which Verdaccio keeps the names of hosted packages, and its secret.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    super::{
        atomic::{MODE_SECRET, create_folder_synced, sync_parent, write_atomic},
        locks::lock_file,
        metadata::stamp_of,
        secret::read_foreign,
    },
    members::{Members, members_of, object, text},
    owner,
    salvage::{Salvaged, salvage},
};
use crate::{
    lifecycle::{SystemClock, crash_point},
    models::PackageName,
    storage::{Stamp, StorageError},
};

pub(super) const LIST: &str = "list";
pub(super) const SECRET: &str = "secret";

/// The names of hosted packages. Others may change the file: it is read again when it is another.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    /// What the file was when it was last whole, for when it is lost.
    copy: PathBuf,
    /// Who writes holds it; `None` where nothing is written.
    lock: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    names: Arc<HashSet<PackageName>>,
}

/// How the file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It has names.
    Whole,
    /// It has none.
    Empty,
    /// There is none.
    Missing,
    /// It is not what it should be, which shows as the text says.
    Damaged(String),
}

/// A state of the file, and what is in it or why that cannot be read.
type ListRead = (Stamp, Result<Contents, String>);

/// What is in the file.
struct Contents {
    /// All members, in their order.
    members: Members,
    list: Vec<Value>,
}

impl Contents {
    fn parse(json: &Bytes) -> Result<Self, String> {
        let members = members_of(json).map_err(|error| error.to_string())?;
        let list = match members.get(LIST) {
            Some(raw) => serde_json::from_slice(raw).map_err(|error| format!("`list`: {error}"))?,
            None => Vec::new(),
        };
        Ok(Self { members, list })
    }

    fn new() -> Self {
        let mut members = Members::new();
        members.insert(LIST.to_owned(), Bytes::from_static(b"[]"));
        // Verdaccio makes itself one.
        members.insert(SECRET.to_owned(), Bytes::from_static(b"\"\""));
        Self {
            members,
            list: Vec::new(),
        }
    }

    fn names(&self) -> HashSet<PackageName> {
        let texts = self.list.iter().filter_map(Value::as_str);
        texts.filter_map(|name| name.parse().ok()).collect()
    }

    /// Adds what is missing. Whether anything was.
    fn add(&mut self, names: &[PackageName]) -> bool {
        let before = self.list.len();
        let known: HashSet<String> = self.texts().map(str::to_owned).collect();
        let missing = names.iter().filter(|name| !known.contains(name.as_str()));
        self.list.extend(missing.map(|name| name.as_str().into()));
        self.list.len() != before
    }

    /// Takes all names out; what is none of ours stays.
    fn clear(&mut self) {
        let is_name = |known: &Value| {
            let name = known.as_str().map(str::parse::<PackageName>);
            name.is_some_and(|name| name.is_ok())
        };
        self.list.retain(|known| !is_name(known));
    }

    /// Fills in a secret that is missing or empty.
    fn fill_in_secret(&mut self, secret: &str) {
        let known = self.members.get(SECRET);
        if known.is_none_or(|known| known.len() <= 2) {
            self.members.insert(SECRET.to_owned(), text(secret));
        }
    }

    fn has_secret(&self) -> bool {
        let known = self.members.get(SECRET);
        known.is_some_and(|known| known.len() > 2)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter_map(Value::as_str)
    }

    fn to_json(&self) -> Bytes {
        let mut members = self.members.clone();
        let list = Value::from(self.list.clone()).to_string();
        members.insert(LIST.to_owned(), list.into());
        object(&members)
    }
}

impl List {
    /// The list in `path`, of which there is a `copy` of our own, and how it was found; to be changed under
    /// the file `lock`, if at all. Blocks.
    pub(super) fn open(
        path: &Path,
        copy: PathBuf,
        lock: Option<PathBuf>,
    ) -> Result<(Self, Condition), StorageError> {
        // A link leads to the file that is to be replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let list = Self {
            path,
            copy,
            lock,
            known: Mutex::default(),
        };
        let condition = match list.read()? {
            None => Condition::Missing,
            Some((_, Err(why))) => Condition::Damaged(why),
            Some((stamp, Ok(contents))) => {
                let names = contents.names();
                let is_empty = names.is_empty();
                list.remember(Some(stamp), names);
                // An empty one may be another than the one that was lost.
                if list.lock.is_some() && (!is_empty || list.copied_names().is_empty()) {
                    list.keep_copy(&contents)?;
                }
                if is_empty {
                    Condition::Empty
                } else {
                    Condition::Whole
                }
            }
        };
        Ok((list, condition))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names as they are now. Looks at the file, and reads it where it is another.
    pub(super) fn names(&self) -> Result<Arc<HashSet<PackageName>>, StorageError> {
        let stamp = self.stamp()?;
        {
            let known = self.known.lock();
            if known.stamp == stamp || stamp.is_none() {
                return Ok(Arc::clone(&known.names));
            }
        }
        match self.read()? {
            Some((stamp, Ok(contents))) => Ok(self.remember(Some(stamp), contents.names())),
            Some((stamp, Err(why))) => {
                tracing::error!(path = %self.path.display(), why, "the list of hosted packages was changed and cannot be read any more; what it said before counts");
                let mut known = self.known.lock();
                known.stamp = Some(stamp);
                Ok(Arc::clone(&known.names))
            }
            None => Ok(Arc::clone(&self.known.lock().names)),
        }
    }

    /// Takes `names` for what the file says too. Nothing is written.
    pub(super) fn assume(&self, names: Vec<PackageName>) {
        let mut known = self.known.lock();
        let all = known.names.iter().cloned().chain(names).collect();
        known.names = Arc::new(all);
    }

    /// Adds `names`, durably. Blocks.
    pub(super) fn add(&self, names: &[PackageName]) -> Result<(), StorageError> {
        let known = self.names()?;
        if names.iter().all(|name| known.contains(name)) {
            return Ok(());
        }
        self.change(|contents| contents.add(names))
    }

    /// Takes `name` out, durably. Blocks.
    pub(super) fn remove(&self, name: &PackageName) -> Result<(), StorageError> {
        if !self.names()?.contains(name) {
            return Ok(());
        }
        self.change(|contents| {
            let before = contents.list.len();
            contents
                .list
                .retain(|known| known.as_str() != Some(name.as_str()));
            contents.list.len() != before
        })
    }

    /// The names that can be read of a damaged file. Blocks.
    pub(super) fn salvaged_names(&self) -> Vec<PackageName> {
        let names = self.salvaged().names.into_iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// The names that were in the file when it was last seen whole. Blocks.
    pub(super) fn copied_names(&self) -> HashSet<PackageName> {
        self.copied().map(|copy| copy.names()).unwrap_or_default()
    }

    /// Sets a damaged file aside and writes a new one with `names`, and with what else is known of the
    /// old one. Where that is now, and whether the secret is known. Blocks.
    pub(super) fn rebuild(&self, names: &[PackageName]) -> Result<(PathBuf, bool), StorageError> {
        let failed = |error| StorageError::io(format!("replacing {}", self.path.display()), error);
        let _lock = self.lock.as_deref().map(lock_file).transpose()?;
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let now = crate::lifecycle::Clock::now(&SystemClock).unix_millis();
        let aside = self.path.with_file_name(format!("{file}.damaged-{now}"));
        // The old one keeps its name until the new one has it: at no moment there is none.
        match fs::hard_link(&self.path, &aside) {
            Ok(()) => {}
            Err(_) => fs::copy(&self.path, &aside).map(drop).map_err(failed)?,
        }
        sync_parent(&aside).map_err(failed)?;
        let mut contents = self.copied().unwrap_or_else(Contents::new);
        contents.clear();
        contents.add(names);
        if let Some(secret) = self.salvaged().secret {
            contents.fill_in_secret(&secret);
        }
        let has_secret = contents.has_secret();
        self.write(&contents)?;
        Ok((aside, has_secret))
    }

    /// What can be read of a damaged file.
    fn salvaged(&self) -> Salvaged {
        match read_foreign(&self.path) {
            Ok(Some(bytes)) => salvage(&bytes),
            Ok(None) | Err(_) => Salvaged::default(),
        }
    }

    /// The copy, if there is one.
    fn copied(&self) -> Option<Contents> {
        let bytes = read_foreign(&self.copy).ok()??;
        Contents::parse(&bytes.into()).ok()
    }

    fn keep_copy(&self, contents: &Contents) -> Result<(), StorageError> {
        let json = contents.to_json();
        if read_foreign(&self.copy).is_ok_and(|copy| copy.as_deref() == Some(&json[..])) {
            return Ok(());
        }
        let folder = self.copy.parent().unwrap_or(Path::new("."));
        create_folder_synced(folder)
            .and_then(|()| write_atomic(&self.copy, &json, MODE_SECRET))
            .map_err(|error| StorageError::io(format!("writing {}", self.copy.display()), error))
    }

    /// What is in the list that is no name that we can serve. Blocks.
    pub(super) fn strangers(&self) -> Vec<String> {
        let Ok(Some((_, Ok(contents)))) = self.read() else {
            return Vec::new();
        };
        let known = contents.names();
        let is_known = |text: &str| {
            let name = text.parse::<PackageName>();
            name.is_ok_and(|name| known.contains(&name))
        };
        let texts = contents.list.iter().map(|entry| match entry {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        texts.filter(|text| !is_known(text)).collect()
    }

    fn change(&self, edit: impl FnOnce(&mut Contents) -> bool) -> Result<(), StorageError> {
        let Some(lock) = &self.lock else {
            return Err(StorageError::backend(
                format!("writing {}", self.path.display()),
                io::Error::from(io::ErrorKind::PermissionDenied),
            ));
        };
        let _lock = lock_file(lock)?;
        let mut contents = match self.read()? {
            Some((_, Ok(contents))) => contents,
            None => {
                // Somebody has taken the file away; what it said is known.
                let mut contents = self.copied().unwrap_or_else(Contents::new);
                contents.clear();
                let names: Vec<_> = self.known.lock().names.iter().cloned().collect();
                contents.add(&names);
                contents
            }
            Some((_, Err(why))) => {
                let what = format!(
                    "{}, which is to be repaired or taken away,",
                    self.path.display()
                );
                return Err(StorageError::Damaged {
                    what,
                    source: why.into(),
                });
            }
        };
        if edit(&mut contents) {
            self.write(&contents)?;
        }
        Ok(())
    }

    fn write(&self, contents: &Contents) -> Result<(), StorageError> {
        let failed = |error| StorageError::io(format!("writing {}", self.path.display()), error);
        let mode = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.permissions().mode() & 0o777,
            Err(_) => MODE_SECRET,
        };
        owner::write(&self.path, &contents.to_json(), mode).map_err(failed)?;
        crash_point("list-written");
        self.keep_copy(contents)?;
        let stamp = self.stamp()?;
        self.remember(stamp, contents.names());
        Ok(())
    }

    fn remember(
        &self,
        stamp: Option<Stamp>,
        names: HashSet<PackageName>,
    ) -> Arc<HashSet<PackageName>> {
        let names = Arc::new(names);
        *self.known.lock() = Known {
            stamp,
            names: Arc::clone(&names),
        };
        names
    }

    /// The stamp of the file; `None` if there is none.
    fn stamp(&self) -> Result<Option<Stamp>, StorageError> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(stamp_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// What is in the file, or why that cannot be read, with the stamp before.
    fn read(&self) -> Result<Option<ListRead>, StorageError> {
        let Some(stamp) = self.stamp()? else {
            return Ok(None);
        };
        let bytes = read_foreign(&self.path).map_err(|error| self.unreadable(error))?;
        Ok(bytes.map(|bytes| (stamp, Contents::parse(&bytes.into()))))
    }

    fn unreadable(&self, error: io::Error) -> StorageError {
        StorageError::io(format!("reading {}", self.path.display()), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::atomic::MODE_PUBLIC;

    fn name(text: &str) -> PackageName {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".verdaccio-db.json");
        let lock = folder.path().join("lock");
        let text = r#"{"secret":"s3","list":["a","not a name",7],"other":{"x":[1.50]}}"#;
        write_atomic(&path, text.as_bytes(), MODE_PUBLIC).unwrap();
        let (list, condition) =
            List::open(&path, folder.path().join("own/copy"), Some(lock.clone())).unwrap();
        assert_eq!(condition, Condition::Whole);
        list.add(&[name("a")]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        list.add(&[name("@s/b")]).unwrap();
        list.remove(&name("a")).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"secret":"s3","list":["not a name",7,"@s/b"],"other":{"x":[1.50]}}"#
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE_PUBLIC);
        // Another process.
        let (other, _) = List::open(&path, folder.path().join("own/copy"), Some(lock)).unwrap();
        other.add(&[name("c")]).unwrap();
        assert!(list.names().unwrap().contains(&name("c")));
    }

    #[test]
    fn damage_is_told_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".verdaccio-db.json");
        let lock = folder.path().join("lock");
        let open =
            || List::open(&path, folder.path().join("own/copy"), Some(lock.clone())).unwrap();
        assert_eq!(open().1, Condition::Missing);
        for damaged in ["", "[]", "{\"list\":[", "{\"list\":7}"] {
            write_atomic(&path, damaged.as_bytes(), MODE_PUBLIC).unwrap();
            let (list, condition) = open();
            assert!(matches!(condition, Condition::Damaged(_)), "{damaged:?}");
            assert!(list.add(&[name("a")]).is_err());
            let (aside, _) = list.rebuild(&[name("a")]).unwrap();
            assert_eq!(fs::read_to_string(aside).unwrap(), damaged);
            let (list, condition) = open();
            assert_eq!(condition, Condition::Whole);
            assert!(list.names().unwrap().contains(&name("a")));
        }
        for empty in ["{}", "{\"list\":[],\"secret\":\"x\"}"] {
            write_atomic(&path, empty.as_bytes(), MODE_PUBLIC).unwrap();
            assert_eq!(open().1, Condition::Empty);
        }
    }
}
