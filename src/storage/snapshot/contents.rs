//! What a snapshot had when it was made, so that one that was served and changed since is told from it.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use crate::storage::{
    StorageError, fs::secret::read_foreign, layout::MANIFEST, secrets, signing_keys,
};

/// The file with the hashes of a snapshot's manifests, accounts and keys, as `sha256sum` writes and
/// checks them.
pub(super) const NAME: &str = "rustaccio-contents";

/// What that file says of `folder` as it is now. Blocks.
pub(super) fn of(folder: &Path) -> Result<String, StorageError> {
    let failed = |error| StorageError::io(format!("reading {}", folder.display()), error);
    let mut files: Vec<PathBuf> = [super::ACCOUNTS, secrets::KEY, signing_keys::KEYS]
        .iter()
        .map(PathBuf::from)
        .collect();
    for entry in fs::read_dir(folder.join("tarballs")).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        files.push(Path::new("tarballs").join(name).join(MANIFEST));
    }
    files.sort();
    let mut text = String::new();
    for file in files {
        let bytes = match read_foreign(&folder.join(&file)) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
            Err(error) => return Err(failed(error)),
        };
        let hash = hex::encode(sha2::Sha256::digest(bytes));
        // Writing to a text does not fail.
        let _ = writeln!(text, "{hash}  {}", file.display());
    }
    Ok(text)
}

/// Whether `folder` has what it had when it was made. Not where that cannot be read. Blocks.
pub(super) fn is_as_made(folder: &Path) -> bool {
    let Ok(Some(made)) = read_foreign(&folder.join(NAME)) else {
        return false;
    };
    of(folder).is_ok_and(|now| now.as_bytes() == made)
}
