//! [`Layout`]: which folder a package has. The native folder, and later a bucket and a Verdaccio
//! folder, are opened through it.

use std::path::{Path, PathBuf};

use crate::models::{PackageName, TarballName};

/// The file in a package's folder that holds its manifest.
pub(super) const MANIFEST: &str = "package.json";

/// Where the files of hosted packages are, below one root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The native layout: `<root>/<package with "/" as "__">/<file>`.
    ///
    /// A scoped name that itself contains `__` keeps its slash as `%2f`, so that no two names
    /// share a folder.
    pub fn native(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of all packages.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of `name`.
    pub fn folder(&self, name: &PackageName) -> PathBuf {
        self.root.join(folder_name(name))
    }

    /// The manifest of `name`.
    pub fn manifest(&self, name: &PackageName) -> PathBuf {
        self.folder(name).join(MANIFEST)
    }

    /// The blob `file` of `name`.
    pub fn blob(&self, name: &PackageName, file: &TarballName) -> PathBuf {
        self.folder(name).join(file.as_str())
    }
}

/// The name of the folder of `name`, unique among all names.
pub(super) fn folder_name(name: &PackageName) -> String {
    if name.as_str().contains("__") {
        name.to_path_segment()
    } else {
        name.as_str().replace('/', "__")
    }
}

/// The package whose folder has this name; `None` if no package's has.
pub(super) fn package_of(folder: &str) -> Option<PackageName> {
    let name: PackageName = if folder.starts_with('@') && !folder.contains("%2f") {
        folder.replacen("__", "/", 1).parse().ok()?
    } else {
        folder.replacen("%2f", "/", 1).parse().ok()?
    };
    (folder_name(&name) == folder).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_names_are_one_to_one() {
        for (name, folder) in [
            ("lodash", "lodash"),
            ("@types/node", "@types__node"),
            ("a__b", "a__b"),
            ("@a/b__c", "@a%2fb__c"),
            ("@a__b/c", "@a__b%2fc"),
            ("@a/_b", ""),
        ] {
            let Ok(name) = name.parse::<PackageName>() else {
                continue;
            };
            assert_eq!(folder_name(&name), folder);
            assert_eq!(package_of(folder), Some(name));
        }
    }

    #[test]
    fn other_folders_belong_to_nobody() {
        for folder in ["@a__b__c", ".rustaccio", "@a", "", "..", "@a%2fb"] {
            assert_eq!(package_of(folder), None, "{folder:?}");
        }
    }
}
