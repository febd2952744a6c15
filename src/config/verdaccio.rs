//! Whether the data folder is one that Verdaccio made.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Config, HtpasswdConfig, PackagesConfig, Source, StorageConfig, VerdaccioFolder};

/// Files by which Verdaccio's folder is known, the older one first: Verdaccio uses it as long as it is
/// there.
const DATABASES: [&str; 2] = [".sinopia-db.json", ".verdaccio-db.json"];
/// Verdaccio's file of users.
const HTPASSWD: &str = "htpasswd";
/// What is kept in such a folder besides packages. No package has a name that begins with a dot.
const OWN_FOLDER: &str = ".rustaccio";

impl StorageConfig {
    /// Where the data folder is Verdaccio's, uses its packages where they are, and keeps everything
    /// else in a folder of its own in it. `database` is the name of the file with the list, where it has
    /// another than usual.
    pub(super) fn recognise_verdaccio(
        &mut self,
        packages: &PackagesConfig,
        database: Option<&str>,
    ) {
        let root = self.data_dir.clone();
        let mut names = DATABASES.into_iter().chain(database);
        let found = names.find(|name| is_there(&root.join(name)));
        // A folder that was used as Verdaccio's stays one, also when its list is lost.
        let was_used = || is_there(&root.join(OWN_FOLDER)).then_some(DATABASES[1]);
        let Some(found) = found.or_else(was_used) else {
            return;
        };
        let rules = packages.rules.iter();
        self.data_dir = root.join(OWN_FOLDER);
        self.verdaccio = Some(VerdaccioFolder {
            database: root.join(found),
            root,
            subfolders: rules
                .map(|rule| (rule.pattern.clone(), rule.storage.clone()))
                .collect(),
        });
    }
}

impl Config {
    /// Users of a folder of Verdaccio's are where Verdaccio has them: in the file that is named, or in
    /// `htpasswd` beside the file of settings.
    pub(super) fn settle_htpasswd(&mut self, file: Option<&Source>) {
        let is_named = |htpasswd: &HtpasswdConfig| htpasswd.file != PathBuf::new();
        if self.auth.htpasswd.as_ref().is_some_and(is_named) {
            return;
        }
        let rounds = self.auth.htpasswd.take().unwrap_or_default().rounds;
        let Some(verdaccio) = &self.storage.verdaccio else {
            return;
        };
        let beside = file.map(|source| PathBuf::from(source.beside_it(HTPASSWD)));
        let file = beside.unwrap_or_else(|| verdaccio.root.join(HTPASSWD));
        self.auth.htpasswd = Some(HtpasswdConfig { file, rounds });
    }
}

/// Whether something is there, even if it leads nowhere or cannot be looked at.
fn is_there(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}
