//! Whether the data folder is one that Verdaccio made.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    Config, HtpasswdConfig, PackagesConfig, Source, StorageConfig, UplinksConfig, VerdaccioFolder,
};

/// Files by which Verdaccio's folder is known, the older one first: Verdaccio uses it as long as it is
/// there.
const DATABASES: [&str; 2] = [".sinopia-db.json", ".verdaccio-db.json"];
/// Verdaccio's file of users.
const HTPASSWD: &str = "htpasswd";
/// What is kept in such a folder besides packages. No package has a name that begins with a dot.
const OWN_FOLDER: &str = ".rustaccio";

/// A data folder that is both Verdaccio's and ours, where nobody knows whose packages are meant.
#[derive(Debug)]
pub(super) struct TwoOwners {
    /// Verdaccio's list.
    pub(super) list: PathBuf,
    /// What only we make.
    pub(super) ours: PathBuf,
}

impl TwoOwners {
    /// What is wrong, and what to do.
    pub(super) fn message(&self) -> String {
        format!(
            "is a folder of rustaccio's ({ours}), in which Verdaccio was started too ({list}); if the packages \
             are in `tarballs`, stop Verdaccio and remove {list}; if they are Verdaccio's, give this registry \
             a data folder of its own and take them over with `rustaccio import`",
            ours = self.ours.display(),
            list = self.list.display(),
        )
    }
}

impl StorageConfig {
    /// Where the data folder is Verdaccio's, uses its packages where they are, and keeps everything
    /// else in a folder of its own in it. `database` is the name of the file with the list, where it has
    /// another than usual.
    pub(super) fn recognise_verdaccio(
        &mut self,
        packages: &PackagesConfig,
        uplinks: &UplinksConfig,
        database: Option<&str>,
    ) -> Result<(), TwoOwners> {
        let root = self.data_dir.clone();
        let mut names = DATABASES.into_iter().chain(database);
        let found = names.find(|name| is_there(&root.join(name)));
        // A folder that was used as Verdaccio's stays one, also when its list is lost.
        let usual = database.unwrap_or(DATABASES[1]);
        let was_used = || is_there(&root.join(OWN_FOLDER)).then_some(usual);
        let Some(found) = found.or_else(was_used) else {
            return Ok(());
        };
        let list = root.join(found);
        if let Some(ours) = made_by_us(&root) {
            return Err(TwoOwners { list, ours });
        }
        let rules = packages.rules.iter();
        let proxied = rules.clone();
        let uplinks = uplinks.uplinks.iter();
        self.data_dir = root.join(OWN_FOLDER);
        self.verdaccio = Some(VerdaccioFolder {
            database: list,
            root,
            subfolders: rules
                .map(|rule| (rule.pattern.clone(), rule.storage.clone()))
                .collect(),
            proxied: proxied
                .map(|rule| (rule.pattern.clone(), !rule.proxy.is_empty()))
                .collect(),
            uplinks: uplinks
                .filter_map(|(_, uplink)| VerdaccioFolder::host_of(&uplink.url))
                .collect(),
        });
        Ok(())
    }
}

impl VerdaccioFolder {
    /// The host of `url`, as [`VerdaccioFolder::uplinks`] has it.
    pub fn host_of(url: &Url) -> Option<String> {
        let host = url.host_str()?;
        Some(match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        })
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

/// What only we make in a data folder of ours, if it is there. A rule of Verdaccio's may have a folder
/// that is called `tarballs`, but not with our lock beside it.
fn made_by_us(root: &Path) -> Option<PathBuf> {
    let (state, tarballs) = (root.join("state.json"), root.join("tarballs"));
    if state.is_file() {
        return Some(state);
    }
    (tarballs.is_dir() && root.join("lock").is_file()).then_some(tarballs)
}

/// Whether something is there, even if it leads nowhere or cannot be looked at.
fn is_there(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}
