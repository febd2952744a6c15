//! Folders of snapshots: which there are, and which one is restored.

use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
};

use crate::{
    error::RegistryError,
    lifecycle::{Clock as _, SystemClock},
    models::Timestamp,
    storage::{FileKeys, KeyStore as _},
};

/// Says in a folder that it is a copy, and whether it is whole.
pub(super) const MARK: &str = "rustaccio-backup";
pub(super) const COMPLETE: &str = "complete";
pub(super) const INCOMPLETE: &str = "incomplete";
/// What earlier versions, which had one copy in a folder, said of one that lacks something.
const OLD_INCOMPLETE: &str = "usable, and not complete";
/// What the name of a snapshot ends with until it is made.
const PARTIAL: &str = ".partial";

/// A snapshot.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// When it was begun.
    pub(super) time: Timestamp,
    pub(super) is_complete: bool,
}

/// What is in a folder of snapshots.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Newest first.
    pub(super) snapshots: Vec<Found>,
    /// What was never finished, or was about to be removed.
    pub(super) partial: Vec<PathBuf>,
    /// Whether there is a copy in the folder itself, as earlier versions made it.
    is_old: bool,
    /// Something that does not belong there.
    stranger: Option<String>,
}

impl Folder {
    /// Looks into `folder`, which may not be there.
    pub(super) async fn read(folder: &Path) -> Result<Self, RegistryError> {
        let mut read = Self::default();
        let mut entries = match tokio::fs::read_dir(folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(read),
            Err(error) => return Err(RegistryError::internal(error)),
        };
        while let Some(entry) = entries
            .next_entry()
            .await
            .map_err(RegistryError::internal)?
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if let Some(time) = time_of(&name) {
                let Some(state) = state_of(&path).await? else {
                    read.stranger = Some(name);
                    continue;
                };
                read.snapshots.push(Found {
                    path,
                    time,
                    is_complete: state == COMPLETE,
                });
            } else if name.strip_suffix(PARTIAL).and_then(time_of).is_some() {
                read.partial.push(path);
            } else if name == MARK {
                read.is_old = true;
            } else if !["lock", "lost+found"].contains(&&*name) {
                read.stranger = Some(name);
            }
        }
        read.snapshots.sort_by_key(|found| Reverse(found.time));
        Ok(read)
    }

    /// Fails where no snapshot may be made in it.
    pub(super) fn require_own(&self, folder: &Path) -> Result<(), RegistryError> {
        let shown = folder.display();
        let message = if self.is_old {
            format!(
                "{shown} is a backup that an earlier version made, which `rustaccio restore` takes as it is; \
                 name another folder for snapshots"
            )
        } else if let Some(stranger) = &self.stranger {
            format!(
                "{shown} has something that is no snapshot: {stranger}; name an empty folder, or one \
                 that `rustaccio backup` has made"
            )
        } else {
            return Ok(());
        };
        Err(RegistryError::Settings { message })
    }

    /// The names of the next snapshot, until it is made and then. It is later than all others, whatever the
    /// clock says.
    pub(super) fn next(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let mut time = SystemClock.now();
        if let Some(newest) = self.snapshots.first() {
            time = time.max(newest.time.plus_millis(1000));
        }
        let name = name_of(time);
        (folder.join(format!("{name}{PARTIAL}")), folder.join(name))
    }
}

/// What the name of `path` is while it is being removed: nobody takes it for a snapshot then.
pub(super) fn doomed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

/// `2026-11-26T11-15-00Z`.
fn name_of(time: Timestamp) -> String {
    let text = time.to_string().replace(':', "-");
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{seconds}Z")
}

fn time_of(name: &str) -> Option<Timestamp> {
    let (date, time) = name.split_once('T')?;
    let text = format!("{date}T{}", time.replace('-', ":"));
    let time = Timestamp::parse_rfc3339(&text)?;
    (name_of(time) == name).then_some(time)
}

/// The first line of what `folder` says of itself.
async fn state_of(folder: &Path) -> Result<Option<String>, RegistryError> {
    let text = FileKeys::foreign(folder.to_owned()).read(MARK).await?;
    let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(text.map(|text| text.lines().next().unwrap_or_default().to_owned()))
}

/// What is restored, and what is to be said of that.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) folder: PathBuf,
    pub(crate) note: Option<String>,
}

/// The snapshot that `folder` is or has: its newest complete one, or with `incomplete` its newest.
pub(crate) async fn choose(folder: &Path, incomplete: bool) -> Result<Choice, RegistryError> {
    if state_of(folder).await?.is_some() {
        return Ok(Choice {
            folder: folder.to_owned(),
            note: None,
        });
    }
    let found = Folder::read(folder).await?;
    let newest = found.snapshots.first();
    let complete = found.snapshots.iter().find(|found| found.is_complete);
    let chosen = if incomplete { newest } else { complete };
    let shown = folder.display();
    let Some(chosen) = chosen else {
        let message = match newest {
            Some(newest) => format!(
                "{shown} has no complete snapshot; its newest one, {}, lacks what {MARK} in it says: make \
                 another one, or restore what it has with --incomplete",
                newest.path.display()
            ),
            None => format!("{shown} is no backup"),
        };
        return Err(RegistryError::Settings { message });
    };
    let path = chosen.path.display();
    let is_newest = newest.is_some_and(|newest| newest.path == chosen.path);
    let note = match (chosen.is_complete, is_newest) {
        (false, _) => format!("restoring {path}, the newest snapshot, which is incomplete"),
        (true, true) => format!("restoring {path}, the newest snapshot"),
        (true, false) => format!(
            "restoring {path}, the newest complete snapshot; there are newer ones that are incomplete"
        ),
    };
    Ok(Choice {
        folder: chosen.path.clone(),
        note: Some(note),
    })
}

/// Fails where `folder` is not to be restored as it is.
pub(super) async fn require_usable(folder: &Path, incomplete: bool) -> Result<(), RegistryError> {
    let wrong = match state_of(folder).await?.as_deref() {
        Some(COMPLETE) => return Ok(()),
        Some(INCOMPLETE | OLD_INCOMPLETE) if incomplete => return Ok(()),
        Some(INCOMPLETE) => {
            "is a snapshot that lacks what rustaccio-backup in it says; make another one, or restore what it \
             has with --incomplete"
        }
        Some(OLD_INCOMPLETE) => {
            "is a backup that lacks something, or whose last update was broken off; restore what it has \
             with --incomplete"
        }
        Some(_) => "is a backup that was broken off before it had everything once",
        None => "is no backup",
    };
    Err(RegistryError::Settings {
        message: format!("{} {wrong}", folder.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_times() {
        let time = Timestamp::parse_rfc3339("2026-11-26T11:15:00.250Z").unwrap();
        assert_eq!(name_of(time), "2026-11-26T11-15-00Z");
        assert_eq!(
            time_of("2026-11-26T11-15-00Z"),
            Some(time.plus_millis(-250))
        );
        for other in [
            "2026-11-26",
            "2026-11-26T11:15:00Z",
            "mine",
            "2026-11-26T11-15-00Z.partial",
        ] {
            assert_eq!(time_of(other), None, "{other}");
        }
    }
}
