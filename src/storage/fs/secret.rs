//! Reading files with secrets: whoever finds one open to others closes it.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use super::atomic::MODE_SECRET;

/// Reads a file that is another's, and leaves it as it is; `None` if it is missing. Blocks.
#[expect(clippy::disallowed_methods, reason = "runs on the blocking pool")]
pub(crate) fn read_foreign(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Reads the file and closes it to others; `None` if it is missing. Blocks.
pub(crate) fn read_secret(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(bytes) = read_foreign(path)? else {
        return Ok(None);
    };
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others could read this file; it is 0600 now");
        fs::set_permissions(path, fs::Permissions::from_mode(MODE_SECRET))?;
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::atomic::write_atomic;

    #[test]
    fn an_open_file_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        assert_eq!(read_secret(&path).unwrap(), None);
        for mode in [0o644, 0o640, 0o604, 0o600] {
            write_atomic(&path, b"text", mode).unwrap();
            assert_eq!(read_secret(&path).unwrap().unwrap(), b"text");
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
    }
}
