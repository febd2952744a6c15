//! [`VerdaccioCache`]: what Verdaccio has cached of upstream, to be read where we know nothing newer:
//! installs go on while upstream is down.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;

use super::{
    super::{TemporaryPath, atomic::copy_by, blocking, open_blob},
    manifests::{Parts, VerdaccioManifests},
};
use crate::{
    models::{ContentCoding, Integrity, PackageName, TarballName, Timestamp, UplinkName},
    storage::{CachedDocument, Freshness, StorageError},
};

/// How much of a tarball is read at once.
const PIECE: usize = 128 * 1024;

/// The parts of a folder of Verdaccio's that came from uplinks. Nothing is written.
#[derive(Clone, Debug)]
pub(in crate::storage) struct VerdaccioCache {
    parts: Arc<Parts>,
    temporary: PathBuf,
}

impl VerdaccioCache {
    /// `temporary` is a folder of unfinished files.
    pub(super) fn new(manifests: &VerdaccioManifests, temporary: PathBuf) -> Self {
        Self {
            parts: Arc::clone(&manifests.parts),
            temporary,
        }
    }

    /// What `uplink` has said of `name`. A damaged file is as good as none.
    pub(in crate::storage) async fn packument(
        &self,
        name: &PackageName,
        uplink: &UplinkName,
    ) -> Result<Option<CachedDocument>, StorageError> {
        let (parts, name, uplink) = (Arc::clone(&self.parts), name.clone(), uplink.clone());
        blocking(move || {
            // That a hosted package cannot be read is told to whoever asks for that.
            let Ok(state) = parts.state(&name) else {
                return Ok(None);
            };
            let Some(found) = state.found else {
                return Ok(None);
            };
            let document = found
                .sidecar
                .and_then(|sidecar| sidecar.of_uplink(&name, uplink.as_str(), &found.hosted));
            Ok(document.map(|(body, asked)| {
                let freshness = Freshness {
                    fetched_at: Timestamp::from_unix_millis(millis(asked.fetched)),
                    // Verdaccio never takes over that a version is gone or deprecated: this is not the
                    // document that upstream knows by its tag, and "not modified" would keep it forever.
                    etag: None,
                    last_modified: None,
                };
                CachedDocument::new(body, ContentCoding::default(), freshness)
            }))
        })
        .await
    }

    /// The tarball `file` of `name`, if it is there and has this integrity, under a name of its own, and its
    /// length in bytes. Nobody else gives another file that name.
    pub(in crate::storage) async fn tarball(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<Option<(TemporaryPath, u64)>, StorageError> {
        let path = self.parts.layout.blob(name, file);
        let (integrity, temporary) = (integrity.clone(), self.temporary.clone());
        blocking(move || {
            let failed =
                |error| StorageError::io(format!("taking over {}", path.display()), error);
            let Some(own) = own_name_of(&path, &temporary).map_err(failed)? else {
                return Ok(None);
            };
            match length_if_promised(own.path(), &integrity).map_err(failed)? {
                Some(length) => Ok(Some((own, length))),
                None => {
                    tracing::debug!(path = %path.display(), "Verdaccio has another file of this name");
                    Ok(None)
                }
            }
        })
        .await
    }
}

/// Gives the file `path` another name in `folder`, or copies it where that does not go. `None` if there is
/// no such file.
fn own_name_of(path: &Path, folder: &Path) -> io::Result<Option<TemporaryPath>> {
    // A link leads to the file that is meant.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        path => path?,
    };
    let own = TemporaryPath::in_folder(folder);
    let linked = fs::hard_link(&path, own.path());
    match linked.or_else(|_| copy_by(folder, &path, own.path())) {
        Ok(()) => Ok(Some(own)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The length of the file at `path` in bytes, if it has this `integrity`.
fn length_if_promised(path: &Path, integrity: &Integrity) -> io::Result<Option<u64>> {
    let Some(mut blob) = open_blob(path).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let mut verifier = integrity.verifier();
    let mut piece = vec![0; PIECE];
    loop {
        let count = blob.file.read(&mut piece)?;
        if count == 0 {
            return Ok(verifier.finish().is_ok().then_some(blob.length));
        }
        verifier.update(piece.get(..count).unwrap_or_default());
    }
}

/// Whether the file at `path` is what the raw `version` promises. Blocks.
pub(super) fn is_as_promised(path: &Path, version: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Promised {
        dist: Promise,
    }
    #[derive(Deserialize)]
    struct Promise {
        integrity: Option<String>,
        shasum: Option<String>,
    }
    let Ok(Promised { dist }) = serde_json::from_slice(version) else {
        return false;
    };
    let integrity = dist.integrity.and_then(|text| text.parse().ok());
    let shasum = || Integrity::from_shasum(dist.shasum.as_deref()?).ok();
    let integrity: Option<Integrity> = integrity.or_else(shasum);
    integrity.is_some_and(|integrity| matches!(length_if_promised(path, &integrity), Ok(Some(_))))
}

#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
fn millis(fetched: Option<f64>) -> i64 {
    fetched.unwrap_or_default() as i64
}
