//! A pipe in the place of a file: who reads it waits until the test writes it.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A pipe in the place of a file. Dropping it lets everybody go who waits for it.
pub(crate) struct Pipe(PathBuf);

impl Pipe {
    pub(crate) fn instead_of(path: &Path) -> Self {
        let beside = path.with_extension("pipe");
        let made = Command::new("mkfifo").arg(&beside).status();
        assert!(made.unwrap().success());
        std::fs::rename(&beside, path).unwrap();
        Self(path.to_owned())
    }

    /// Waits for a reader, and gives this to those who read then. Blocks.
    pub(crate) fn give(&self, bytes: &[u8]) {
        let mut pipe = OpenOptions::new().write(true).open(&self.0).unwrap();
        pipe.write_all(bytes).unwrap();
    }

    /// Takes it away; who has waited for it finds nothing in it.
    pub(crate) fn release(self) {
        drop(self);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let aside = self.0.with_extension("aside");
        // Something else may have been put in its place.
        if let Ok(about) = std::fs::metadata(&self.0)
            && !about.is_file()
            && std::fs::rename(&self.0, &aside).is_ok()
        {
            // Open for both it never waits; with its end, theirs comes.
            drop(OpenOptions::new().read(true).write(true).open(&aside));
            let _ = std::fs::remove_file(&aside);
        }
    }
}
