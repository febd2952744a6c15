//! What is put right when a folder of Verdaccio's is opened: lists that are lost, names that Verdaccio has
//! forgotten, and what somebody left who was killed.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
};

use super::{
    super::{atomic::is_temporary, blobs::remove_if_there, metadata},
    cached::is_as_promised,
    list::{Condition, List},
    manifests::{Parts, nothing_of},
    sidecar::{Listing, Sidecar, file_of},
    state::{Found, State},
};
use crate::{
    models::{Origin, PackageName, TarballName},
    storage::{Layout, StorageError},
};

/// Where packages are, and where those come from that were not published here.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) layout: &'a Layout,
    /// The hosts of uplinks.
    pub(super) uplinks: &'a BTreeSet<String>,
}

/// So many names are told of those that something is wrong with.
const TOLD: usize = 5;

/// The hosted packages as far as their own files and the remains of the list say; `None` where the list is
/// to be believed. Where it is not known whether the folder `was_used` before, an empty list may be one
/// that was lost. Blocks.
pub(super) fn lost_names(
    ground: Ground<'_>,
    list: &List,
    condition: &Condition,
    was_used: bool,
    is_removed: impl Fn(&PackageName) -> bool,
) -> Result<Option<Vec<PackageName>>, StorageError> {
    let copied = |names: &mut HashSet<PackageName>| {
        // Verdaccio may have unpublished some of these since.
        for name in list.copied_names() {
            if !names.contains(&name) && is_hosted(ground, &name, Listing::Listed) {
                names.insert(name);
            }
        }
    };
    let mut names = HashSet::new();
    match condition {
        Condition::Whole => return Ok(None),
        // Verdaccio has unpublished all there was, or had lost its list and made another.
        Condition::Empty if was_used => copied(&mut names),
        Condition::Empty => names.extend(find_hosted(ground, Listing::Unlisted)?),
        Condition::Missing | Condition::Damaged(_) => {
            names.extend(find_hosted(ground, Listing::Unknown)?);
            names.extend(list.salvaged_names());
            copied(&mut names);
        }
    }
    names.retain(|name| !is_removed(name) || is_hosted(ground, name, Listing::Unlisted));
    let mut names: Vec<PackageName> = names.into_iter().collect();
    names.sort();
    Ok(Some(names))
}

/// The packages that say themselves that they were published here. All files are read. Blocks.
fn find_hosted(ground: Ground<'_>, listing: Listing) -> Result<Vec<PackageName>, StorageError> {
    let layout = ground.layout;
    let failed = |error| StorageError::io(format!("listing {}", layout.root().display()), error);
    let found = layout.packages().map_err(failed)?.into_iter();
    let names = found.map(|(name, _)| name);
    Ok(names
        .filter(|name| is_hosted(ground, name, listing))
        .collect())
}

/// Whether the file of `name` says that something was published here. Where the list is lost, nobody knows
/// of a damaged one: it may have been, so that nobody else's package is served in its place.
fn is_hosted(ground: Ground<'_>, name: &PackageName, listing: Listing) -> bool {
    let path = ground.layout.manifest(name);
    let sidecar = match metadata::read(&path) {
        Ok(None) => return false,
        Ok(Some(document)) => Sidecar::parse(&document.json).and_then(|sidecar| {
            sidecar.require_whole()?;
            Ok(sidecar)
        }),
        Err(error) => {
            tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "cannot be read, so that nobody knows whether the package was published here");
            return listing != Listing::Unlisted;
        }
    };
    match sidecar {
        Ok(sidecar) => !sidecar.hosted(name, listing, ground.uplinks).is_empty(),
        Err(error) => {
            let is_taken_for_hosted = listing != Listing::Unlisted;
            tracing::warn!(path = %path.display(), %error, is_taken_for_hosted, "is damaged, so that nobody knows whether the package was published here; if it was only cached, remove the file");
            is_taken_for_hosted
        }
    }
}

/// Writes a list in the place of one that is lost. Blocks.
pub(super) fn restore(
    list: &List,
    names: &[PackageName],
    condition: Condition,
) -> Result<(), StorageError> {
    let path = list.path().display();
    let Condition::Damaged(why) = condition else {
        if !names.is_empty() {
            tracing::warn!(%path, packages = names.len(), "the list of hosted packages has no names, and there are packages that were published here; they are put into it");
        }
        return list.add(names);
    };
    let (kept, has_secret) = list.rebuild(names)?;
    let packages = names.len();
    if has_secret {
        tracing::error!(%path, why, kept = %kept.display(), packages, "the list of hosted packages was damaged: it is kept aside, and a new one was made of what could be read of it and of the packages that were published here");
    } else {
        tracing::error!(%path, why, kept = %kept.display(), packages, "the list of hosted packages was damaged: it is kept aside, and a new one was made of the packages that were published here. The secret of Verdaccio's tokens is not in it, so that old tokens end: put the `secret` back if you have it from a backup, or let everybody log in again");
    }
    Ok(())
}

/// Keeps whose all hosted names are, as long as their files say it. Blocks.
pub(super) fn keep_origins(parts: &Parts, was_used: bool) -> Result<(), StorageError> {
    let names = parts.list.names()?;
    let unknown = names
        .iter()
        .filter(|name| parts.origins.get(name).is_none());
    let mut new = Vec::new();
    for name in unknown {
        // What is wrong with others is told where they are read.
        if let Ok(state) = parts.state(name)
            && !state.is_lost
            && let Some(origin) = state.origin
        {
            new.push((name.clone(), origin));
        }
    }
    parts.origins.keep(&new)?;
    let shared = new.iter().filter(|(_, origin)| *origin == Origin::Override);
    let mut shared: Vec<&str> = shared.map(|(name, _)| name.as_str()).collect();
    if !was_used && !shared.is_empty() {
        tracing::warn!(
            packages = told(&mut shared),
            "these packages were published here, and uplinks have packages of the same names, which Verdaccio has mixed: both are served, as it did. Where that is not wanted, set `merge: false` for them below `packages`"
        );
    }
    parts.origins.rewrite()
}

/// Keeps the names that were born here and that Verdaccio has unpublished meanwhile: nobody else's package
/// is served under them. Puts those into the list again of which something is left. And lets go of what
/// was left of those that Verdaccio has published again. Blocks.
pub(super) fn keep_names(parts: &Parts) -> Result<(), StorageError> {
    let listed = parts.list.names()?;
    for (name, origin) in parts.origins.all() {
        if listed.contains(&name) || parts.removed_path(&name).exists() {
            continue;
        }
        // What is left of it puts it into the list.
        let Ok(state) = parts.state(&name) else {
            continue;
        };
        if !state.is_listed && origin == Origin::Local {
            tracing::info!(package.name = %name, "was published here and is unpublished; nobody else's package is served under its name");
            parts.write_removed(&name, &nothing_of(&name, origin))?;
        }
    }
    for name in parts.removed_names()? {
        let Ok(state) = parts.state(&name) else {
            continue;
        };
        if state.has_versions() {
            parts.forget_removed(&name)?;
        } else if listed.contains(&name) && state.found.as_ref().is_none_or(is_only_cached) {
            if state.found.is_none() && parts.has_tarballs(&name) {
                // Verdaccio has published it again, and its file is lost.
                parts.forget_removed(&name)?;
            } else {
                // Somebody died before the name was out of the list.
                parts.list.remove(&name)?;
            }
        }
    }
    Ok(())
}

/// The hosted packages that the list lacks. Blocks.
pub(super) fn unlisted(parts: &Parts) -> Result<Vec<PackageName>, StorageError> {
    let listed = parts.list.names()?;
    let names = parts.origins.all().into_iter().map(|(name, _)| name);
    Ok(names
        .filter(|name| !listed.contains(name))
        .filter(|name| parts.state(name).is_ok_and(|state| state.is_listed))
        .collect())
}

/// Whether all that is in a file without anything hosted came from uplinks.
fn is_only_cached(found: &Found) -> bool {
    found.sidecar.as_ref().is_some_and(Sidecar::is_mixed)
}

/// Removes tarballs that somebody left who died before the manifest named them, or after it let go of
/// them. Blocks.
pub(super) fn finish_tarballs(parts: &Parts) -> Result<(), StorageError> {
    let failed = |error| StorageError::io("looking for tarballs that were under way", error);
    for (name, files) in parts.under_way.all().map_err(failed)? {
        let state = match parts.state(&name) {
            Ok(state) if !state.is_lost && !is_damaged(&state) => state,
            // It is to be put back first, and may name them.
            _ => continue,
        };
        let mut is_done = true;
        for file in &files {
            if is_named(&name, file, &state, parts) {
                continue;
            }
            let path = parts.layout.blob(&name, file);
            match remove_if_there(&path) {
                Ok(()) => {
                    tracing::info!(package.name = %name, %file, "what was left of an interrupted change was removed");
                }
                // Nothing in it: the package's folder is a file.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => {
                    is_done = false;
                    tracing::warn!(path = %path.display(), %error, "what was left of an interrupted change cannot be removed; Verdaccio would serve it");
                }
            }
        }
        if !is_done {
            continue;
        }
        // Verdaccio leaves no empty folder either.
        let _ = fs::remove_dir(parts.layout.folder(&name));
        parts.under_way.done(&name, |_| true);
        parts.under_way.tidy(&name);
    }
    Ok(())
}

fn is_damaged(state: &State) -> bool {
    let found = state.found.as_ref();
    found.is_some_and(|found| found.sidecar.is_none())
}

/// Whether `file` is what a version says, published here or cached.
fn is_named(name: &PackageName, file: &TarballName, state: &State, parts: &Parts) -> bool {
    let found = state.found.as_ref();
    let Some((found, sidecar)) = found.and_then(|found| Some((found, found.sidecar.as_ref()?)))
    else {
        return false;
    };
    let versions = sidecar.versions();
    let mut named = versions
        .iter()
        .filter(|(version, raw)| file_of(name, version, raw).as_ref() == Some(file));
    named.any(|(version, raw)| {
        found.hosted.contains(version) || is_as_promised(&parts.layout.blob(name, file), raw)
    })
}

/// Removes what our own writes left half-made, and nothing else. Blocks.
pub(super) fn sweep(parts: &Parts) -> Result<(), StorageError> {
    let mut names: HashSet<PackageName> = parts.list.names()?.iter().cloned().collect();
    names.extend(parts.removed_names()?);
    let under_way = parts.under_way.all().unwrap_or_default();
    names.extend(under_way.into_iter().map(|(name, _)| name));
    let folders = names.iter().map(|name| parts.layout.folder(name));
    let own = [parts.layout.root().to_owned(), parts.removed.clone()];
    for folder in folders.chain(own) {
        let Ok(files) = fs::read_dir(&folder) else {
            continue;
        };
        for file in files.flatten() {
            if file.file_name().to_str().is_some_and(is_own_temporary) {
                let path = file.path();
                if let Err(error) = remove_if_there(&path) {
                    tracing::warn!(path = %path.display(), %error, "what an unfinished write left cannot be removed");
                }
            }
        }
    }
    Ok(())
}

/// Whether it is what our writes are called before they are done, such as `.package.json.0123456789abcdef.tmp`.
fn is_own_temporary(file: &str) -> bool {
    let nonce = file
        .strip_suffix(".tmp")
        .and_then(|rest| rest.rsplit('.').next());
    is_temporary(file)
        && nonce.is_some_and(|nonce| {
            nonce.len() >= 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// The first of `names`, and how many more there are.
pub(super) fn told(names: &mut Vec<&str>) -> String {
    names.sort_unstable();
    let more = names.len().saturating_sub(TOLD);
    names.truncate(TOLD);
    let shown = names.join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    }
}
