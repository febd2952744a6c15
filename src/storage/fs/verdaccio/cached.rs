//! [`VerdaccioCache`]: what Verdaccio has cached of upstream, to be read where we know nothing newer:
//! installs go on while upstream is down.

use std::{fs::File, io, io::Read as _, path::PathBuf, sync::Arc};

use super::{
    super::{blocking, open_blob},
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
}

impl VerdaccioCache {
    pub(super) fn new(manifests: &VerdaccioManifests) -> Self {
        Self {
            parts: Arc::clone(&manifests.parts),
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

    /// The path and length of the tarball `file` of `name`, if it is there and has this integrity.
    pub(in crate::storage) async fn tarball(
        &self,
        name: &PackageName,
        file: &TarballName,
        integrity: &Integrity,
    ) -> Result<Option<(PathBuf, u64)>, StorageError> {
        let path = self.parts.layout.blob(name, file);
        let mut verifier = integrity.verifier();
        blocking(move || {
            let Some(mut blob) = open_blob(&path)? else {
                return Ok(None);
            };
            let mut piece = vec![0; PIECE];
            let mut read = |file: &mut File| -> io::Result<()> {
                loop {
                    let count = file.read(&mut piece)?;
                    if count == 0 {
                        return Ok(());
                    }
                    verifier.update(piece.get(..count).unwrap_or_default());
                }
            };
            read(&mut blob.file)
                .map_err(|error| StorageError::io(format!("reading {}", path.display()), error))?;
            if let Err(found) = verifier.finish() {
                tracing::debug!(path = %path.display(), %found, "Verdaccio has another file of this name");
                return Ok(None);
            }
            Ok(Some((path, blob.length)))
        })
        .await
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
fn millis(fetched: Option<f64>) -> i64 {
    fetched.unwrap_or_default() as i64
}
