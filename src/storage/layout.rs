//! [`Layout`]: which folder a package has, in a folder of ours and in one of Verdaccio's.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::VerdaccioFolder,
    models::{InvalidPattern, PackageName, Pattern, TarballName},
};

/// The file in a package's folder that holds its manifest.
pub(super) const MANIFEST: &str = "package.json";

/// Where the files of hosted packages are, below one root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    /// In a folder of Verdaccio's, the patterns of its rules in their order, each with the folder of
    /// the packages for which it decides.
    rules: Option<Arc<[(Pattern, PathBuf)]>>,
}

impl Layout {
    /// The native layout: `<root>/<package with "/" as "__">/<file>`.
    ///
    /// A scoped name that itself contains `__` keeps its slash as `%2f`, so that no two names
    /// share a folder.
    pub fn native(root: PathBuf) -> Self {
        Self { root, rules: None }
    }

    /// Verdaccio's layout: `<root>[/<folder of the first rule that matches>]/<name>/<file>`, where a
    /// scope is a folder of its own.
    pub fn verdaccio(folder: &VerdaccioFolder) -> Result<Self, InvalidPattern> {
        let rules = folder.subfolders.iter().map(|(pattern, subfolder)| {
            let base = match subfolder {
                Some(subfolder) => folder.root.join(relative(subfolder)),
                None => folder.root.clone(),
            };
            Ok((Pattern::compile(pattern)?, base))
        });
        Ok(Self {
            root: folder.root.clone(),
            rules: Some(rules.collect::<Result<_, InvalidPattern>>()?),
        })
    }

    /// The folder of all packages.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of `name`.
    pub fn folder(&self, name: &PackageName) -> PathBuf {
        let Some(rules) = &self.rules else {
            return self.root.join(folder_name(name));
        };
        let rule = rules
            .iter()
            .find(|(pattern, _)| pattern.matches(name.as_str()));
        let base = rule.map_or(&self.root, |(_, base)| base);
        // A name has one slash at most, and neither `..` nor a leading dot or slash.
        base.join(name.as_str())
    }

    /// The manifest of `name`.
    pub fn manifest(&self, name: &PackageName) -> PathBuf {
        self.folder(name).join(MANIFEST)
    }

    /// The blob `file` of `name`.
    pub fn blob(&self, name: &PackageName, file: &TarballName) -> PathBuf {
        self.folder(name).join(file.as_str())
    }

    /// The names for which there are folders, with these. Blocks.
    pub(super) fn packages(&self) -> io::Result<Vec<(PackageName, PathBuf)>> {
        let Some(rules) = &self.rules else {
            let named = |folder: &Path| package_of(folder.file_name()?.to_str()?);
            let folders = folders_in(&self.root)?.into_iter();
            return Ok(folders
                .filter_map(|folder| Some((named(&folder)?, folder)))
                .collect());
        };
        let mut bases: BTreeSet<&Path> = rules.iter().map(|(_, base)| base.as_path()).collect();
        bases.insert(&self.root);
        let mut found = Vec::new();
        for base in bases {
            for folder in existing_folders_in(base)? {
                let is_scope = |folder: &Path| name_of(folder).is_some_and(|n| n.starts_with('@'));
                if is_scope(&folder) {
                    let scope = name_of(&folder).unwrap_or_default();
                    for folder in existing_folders_in(&folder)? {
                        let base = name_of(&folder).unwrap_or_default();
                        found.push((format!("{scope}/{base}"), folder));
                    }
                } else if let Some(name) = name_of(&folder) {
                    found.push((name.to_owned(), folder));
                }
            }
        }
        let named = found.into_iter().filter_map(|(name, folder)| {
            let name: PackageName = name.parse().ok()?;
            // What lies where nobody looks for it belongs to nobody: what was left behind when a rule got
            // another folder, and folders that only hold other packages' ones.
            (self.folder(&name) == folder
                && (folder.join(MANIFEST).exists() || !holds(rules, &folder)))
            .then_some((name, folder))
        });
        Ok(named.collect())
    }
}

/// Whether packages' folders are in `folder` by the rules.
fn holds(rules: &[(Pattern, PathBuf)], folder: &Path) -> bool {
    rules.iter().any(|(_, base)| base.starts_with(folder))
}

/// `path` as Node.js joins it to another: one that is absolute begins there too, and `..` leads
/// out of a folder as it stands in the text.
fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::Prefix(_)))
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}

fn name_of(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str()
}

/// The folders in `folder` whose names do not begin with a dot, links to folders among them. Blocks.
fn folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let kind = entry.file_type()?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
        if is_folder && !is_hidden {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The same; none where there is no such folder.
fn existing_folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match folders_in(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
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

    #[test]
    fn verdaccios_folders_are_where_its_rules_say() {
        let root = tempfile::tempdir().unwrap();
        let folder = |text: &str| Some(PathBuf::from(text));
        let verdaccio = VerdaccioFolder {
            root: root.path().to_owned(),
            database: root.path().join(".verdaccio-db.json"),
            subfolders: vec![
                ("@acme/*".to_owned(), folder("private")),
                ("deep-*".to_owned(), folder("/private/deep")),
                ("@*/*".to_owned(), None),
                ("**".to_owned(), None),
            ],
            proxied: Vec::new(),
            uplinks: BTreeSet::new(),
        };
        let layout = Layout::verdaccio(&verdaccio).unwrap();
        for (name, place) in [
            ("@acme/app", "private/@acme/app"),
            ("@other/app", "@other/app"),
            ("deep-one", "private/deep/deep-one"),
            ("lodash", "lodash"),
            ("private", "private"),
        ] {
            let name: PackageName = name.parse().unwrap();
            assert_eq!(layout.folder(&name), root.path().join(place));
        }
        for made in [
            "private/@acme/app",
            "private/deep/deep-one",
            "private/stray",
            "@other/app",
            "@acme/elsewhere",
            "lodash",
            ".rustaccio/tmp",
            ".stage",
        ] {
            fs::create_dir_all(root.path().join(made)).unwrap();
        }
        fs::File::create(root.path().join("file")).unwrap();
        std::os::unix::fs::symlink(root.path().join("lodash"), root.path().join("linked")).unwrap();
        std::os::unix::fs::symlink(root.path().join("nowhere"), root.path().join("dead")).unwrap();
        let listed = || {
            let mut names: Vec<String> = layout
                .packages()
                .unwrap()
                .into_iter()
                .map(|(name, _)| name.to_string())
                .collect();
            names.sort();
            names
        };
        let names = ["@acme/app", "@other/app", "deep-one", "linked", "lodash"];
        assert_eq!(listed(), names);
        // A package may have the name of a folder of packages.
        fs::File::create(root.path().join("private/package.json")).unwrap();
        assert!(listed().contains(&"private".to_owned()));
    }
}
