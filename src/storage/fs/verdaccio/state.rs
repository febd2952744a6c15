//! [`State`]: what is known of a name in Verdaccio's folder, by its file, the list, and what we remember.

use std::{collections::HashSet, fs};

use super::{
    super::metadata::{read, revision_of},
    manifests::{Parts, is_not_a_folder, nothing_of},
    sidecar::{ATTACHMENTS, DISTFILES, Listing, Sidecar},
};
use crate::{
    models::{Origin, PackageName, Revision, TarballName},
    storage::{Document, Stamp, StorageError},
};

/// A file of Verdaccio's, read.
pub(super) struct Found {
    pub(super) document: Document,
    /// `None` where it is damaged.
    pub(super) sidecar: Option<Sidecar>,
    /// The versions that were published here.
    pub(super) hosted: HashSet<String>,
}

/// What is known of a name.
pub(super) struct State {
    /// Whose it is, if it is known: one of which something is hosted.
    pub(super) origin: Option<Origin>,
    pub(super) is_listed: bool,
    /// Whether it is a hosted package of which there is no manifest.
    pub(super) is_lost: bool,
    /// Verdaccio's file.
    pub(super) found: Option<Found>,
    /// The manifest without versions.
    pub(super) removed: Option<Document>,
}

impl State {
    pub(super) fn has_versions(&self) -> bool {
        let found = self.found.as_ref();
        found.is_some_and(|found| !found.hosted.is_empty())
    }

    /// The manifest.
    pub(super) fn into_document(self) -> Option<Document> {
        if !self.has_versions() && self.removed.is_some() {
            return self.removed;
        }
        if !self.has_versions() && !self.is_listed {
            return None;
        }
        let origin = self.origin.unwrap_or(Origin::Local);
        let found = self.found?;
        let json = found.sidecar?.view(&found.hosted, origin);
        Some(Document {
            json,
            ..found.document
        })
    }

    pub(super) fn revision(&self) -> Option<Revision> {
        if self.is_lost {
            return None;
        }
        let found = self.found.as_ref();
        let found = found.filter(|_| self.has_versions() || self.is_listed);
        let document = match &self.removed {
            Some(removed) if !self.has_versions() => Some(removed),
            _ => found.map(|found| &found.document),
        };
        document.map(|document| document.revision.clone())
    }

    /// Whether something is hosted under the name, be it nothing any more.
    pub(super) fn is_hosted(&self) -> bool {
        self.is_listed || self.removed.is_some() || self.has_versions()
    }
}

impl Parts {
    /// What is known of `name`. Blocks.
    pub(super) fn state(&self, name: &PackageName) -> Result<State, StorageError> {
        let removed = read(&self.removed_path(name))?;
        let mut is_listed = self.list.names()?.contains(name);
        if !is_listed && removed.is_none() && self.is_left_behind(name)? {
            tracing::error!(package.name = %name, list = %self.list.path().display(), "the package was published here, its files are there, and it is not in the list of such packages; it is put into the list again");
            self.list_again(name)?;
            is_listed = true;
        }
        let document = self.read_manifest(name)?;
        let found = match document {
            Some(document) => Some(self.found(name, document, is_listed)?),
            None => None,
        };
        let has_versions = found.as_ref().is_some_and(|found| !found.hosted.is_empty());
        // Somebody may have published it since the list was looked at.
        if has_versions && !is_listed && self.list.names()?.contains(name) {
            is_listed = true;
        }
        let origin = self.origin(name, found.as_ref(), removed.as_ref());
        if has_versions && !is_listed {
            tracing::warn!(package.name = %name, list = %self.list.path().display(), "the package was published here and is not in the list of such packages; it is put into the list again");
            self.keep_origin(name, origin.unwrap_or(Origin::Local))?;
            self.list_again(name)?;
            is_listed = true;
        }
        let removed = removed.or_else(|| self.forgotten(name, is_listed));
        let is_lost = is_listed
            && !has_versions
            && removed.is_none()
            && found
                .as_ref()
                .is_none_or(|found| self.has_stray_tarball(name, found));
        Ok(State {
            origin,
            is_listed,
            is_lost,
            found,
            removed,
        })
    }

    fn read_manifest(&self, name: &PackageName) -> Result<Option<Document>, StorageError> {
        match read(&self.layout.manifest(name)) {
            Err(StorageError::Backend { source, .. }) if is_not_a_folder(&source) => Ok(None),
            read => read,
        }
    }

    fn list_again(&self, name: &PackageName) -> Result<(), StorageError> {
        if self.is_read_only {
            return Ok(());
        }
        self.list.add(std::slice::from_ref(name))
    }

    fn keep_origin(&self, name: &PackageName, origin: Origin) -> Result<(), StorageError> {
        if self.is_read_only {
            return Ok(());
        }
        self.origins.keep(&[(name.clone(), origin)])
    }

    /// What is remembered of a name that was born here and that Verdaccio has forgotten.
    fn forgotten(&self, name: &PackageName, is_listed: bool) -> Option<Document> {
        if is_listed || self.origins.get(name) != Some(Origin::Local) {
            return None;
        }
        let json = nothing_of(name, Origin::Local);
        Some(Document {
            revision: revision_of(&json),
            stamp: Stamp::default(),
            json,
        })
    }

    /// Whether something is left of `name`, which was hosted and is in no list, that Verdaccio takes away
    /// when it unpublishes: its tarballs, its file if that is damaged, or one of versions that came from
    /// nowhere else. Blocks.
    pub(super) fn is_left_behind(&self, name: &PackageName) -> Result<bool, StorageError> {
        if self.origins.get(name).is_none() {
            return Ok(false);
        }
        let Some(document) = self.read_manifest(name)? else {
            return Ok(self.has_tarballs(name));
        };
        let sidecar = Sidecar::parse(&document.json).and_then(|sidecar| {
            sidecar.require_whole()?;
            Ok(sidecar)
        });
        Ok(match sidecar {
            Ok(sidecar) => !sidecar
                .hosted(name, Listing::Unknown, &self.uplinks)
                .is_empty(),
            Err(_) => true,
        })
    }

    /// Whether there are tarballs in the folder of `name` that are not about to be placed or deleted. Blocks.
    pub(super) fn has_tarballs(&self, name: &PackageName) -> bool {
        let noted = self.under_way.of(name);
        self.tarballs_in_folder(name)
            .iter()
            .any(|file| !noted.iter().any(|noted| noted.as_str() == file))
    }

    fn tarballs_in_folder(&self, name: &PackageName) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.layout.folder(name)) else {
            return Vec::new();
        };
        let files = entries.flatten().map(|entry| entry.file_name());
        files
            .filter_map(|file| file.into_string().ok())
            .filter(|file| file.parse::<TarballName>().is_ok())
            .collect()
    }

    /// Whether a tarball lies beside a file that says nothing of it: the one that did has been replaced.
    fn has_stray_tarball(&self, name: &PackageName, found: &Found) -> bool {
        let Some(sidecar) = found.sidecar.as_ref().filter(|sidecar| sidecar.is_mixed()) else {
            return false;
        };
        let known = [sidecar.members(DISTFILES), sidecar.members(ATTACHMENTS)];
        let noted = self.under_way.of(name);
        self.tarballs_in_folder(name).iter().any(|file| {
            !known.iter().any(|known| known.contains_key(file))
                && !noted.iter().any(|noted| noted.as_str() == file)
        })
    }

    /// Whose the name is: as it was known before, or as a manifest says, or else as the file looks.
    fn origin(
        &self,
        name: &PackageName,
        found: Option<&Found>,
        removed: Option<&Document>,
    ) -> Option<Origin> {
        let sidecar = found.and_then(|found| found.sidecar.as_ref());
        let of_removed = || {
            let removed = Sidecar::parse(&removed?.json).ok()?;
            removed.origin()
        };
        self.origins
            .get(name)
            .or_else(|| sidecar.and_then(Sidecar::origin))
            .or_else(of_removed)
            .or_else(|| sidecar.map(Sidecar::deduced_origin))
    }

    fn found(
        &self,
        name: &PackageName,
        document: Document,
        is_listed: bool,
    ) -> Result<Found, StorageError> {
        let path = || self.layout.manifest(name).display().to_string();
        let listing = if is_listed {
            Listing::Listed
        } else {
            Listing::Unlisted
        };
        let sidecar = Sidecar::parse(&document.json);
        let is_ours = is_listed || sidecar.as_ref().is_ok_and(Sidecar::has_uploads);
        let sidecar = match sidecar.and_then(|sidecar| {
            if is_ours {
                sidecar.require_whole()?;
            }
            Ok(sidecar)
        }) {
            Ok(sidecar) => Some(sidecar),
            Err(error) if is_ours => {
                return Err(StorageError::Damaged {
                    what: path(),
                    source: error.into(),
                });
            }
            Err(error) => {
                tracing::warn!(package.name = %name, path = path(), %error, "this file of a package that is not in the list of hosted ones is damaged; it counts for nothing");
                None
            }
        };
        let hosted = sidecar
            .as_ref()
            .map(|sidecar| sidecar.hosted(name, listing, &self.uplinks));
        let hosted = hosted.unwrap_or_default();
        let is_any = !hosted.is_empty();
        self.remembered
            .insert(name.clone(), (document.stamp, is_any));
        Ok(Found {
            document,
            sidecar,
            hosted,
        })
    }
}
