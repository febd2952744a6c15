//! A new package, put in its place in one step: half the syncs of one after the other.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::atomic::{MODE_PUBLIC, sync_folder, sync_parent, write_synced};
use crate::{
    lifecycle::{crash_point, random_hex},
    models::TarballName,
    storage::layout::MANIFEST,
};

/// Makes `folder` with the manifest `json` and the durable file `blob` under the name `file`,
/// durably. `false`: there is something in such a folder already, and it was not touched. Blocks.
///
/// It is filled beside `blob`, which nobody looks at, and moved when it is whole: at no moment is
/// there a manifest without its blob, or a blob without its manifest.
pub(super) fn create_folder_with(
    folder: &Path,
    json: &[u8],
    file: &TarballName,
    blob: &Path,
) -> io::Result<bool> {
    let filled = Unplaced(blob.with_file_name(random_hex::<16>()));
    fs::create_dir(&filled.0)?;
    fs::hard_link(blob, filled.0.join(file.as_str()))?;
    write_synced(&filled.0.join(MANIFEST), json, MODE_PUBLIC)?;
    sync_folder(&filled.0)?;
    crash_point("package-filled");
    match fs::rename(&filled.0, folder) {
        Ok(()) => {
            crash_point("package-placed");
            sync_parent(folder).map(|()| true)
        }
        Err(error) if is_in_the_way(error.kind()) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_in_the_way(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
    )
}

/// A folder that is removed when it is dropped, unless it has been moved.
struct Unplaced(PathBuf);

impl Drop for Unplaced {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a temporary folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_or_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (temporary, packages) = (root.path().join("tmp"), root.path().join("packages"));
        fs::create_dir(&temporary).unwrap();
        fs::create_dir(&packages).unwrap();
        let (blob, folder) = (temporary.join("blob"), packages.join("n"));
        write_synced(&blob, b"bytes", MODE_PUBLIC).unwrap();
        let file: TarballName = "n-1.0.0.tgz".parse().unwrap();
        let create = |json: &str| create_folder_with(&folder, json.as_bytes(), &file, &blob);
        // Somebody who is about to write into it has made it.
        fs::create_dir(&folder).unwrap();
        assert!(create("first").unwrap());
        assert!(!create("second").unwrap());
        let text = |path| fs::read_to_string(path).unwrap();
        assert_eq!(text(folder.join(MANIFEST)), "first");
        assert_eq!(text(folder.join("n-1.0.0.tgz")), "bytes");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
        fs::remove_file(&blob).unwrap();
        assert!(create("third").is_err());
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    }
}
