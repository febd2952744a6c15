//! Where things are in a bucket, and who owns a key.
//!
//! Written is the layout of Verdaccio's plugin: `@scope/name/package.json`, and the tarballs beside it.
//! Older ones are read: the slash of the name as `__` or encoded, and tarballs below `-/`. **An update
//! of an older manifest goes where it was read from**, by If-Match on that very key: so there is one
//! manifest of a package at any time, and whoever else still writes it meets the same precondition. A
//! tarball always goes to its present key, which is read first.

use percent_encoding::percent_decode_str;

use super::bucket::OWN;
use crate::{
    models::{PackageName, TarballName},
    storage::layout::MANIFEST,
};

/// Where bytes are whose key was in use before.
pub(super) const ELSEWHERE: &str = ".rustaccio/blobs/";

/// How the slash of a scoped name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spelling {
    /// `@scope/name`, as it is written now.
    Plain,
    /// `@scope__name`.
    Underscores,
    /// `@scope%2fname`.
    Lower,
    /// `@scope%2Fname`.
    Upper,
    /// `%40scope%2Fname`.
    Whole,
}

impl Spelling {
    /// Those that are not written any more.
    pub(super) const OLD: [Self; 4] = [Self::Underscores, Self::Lower, Self::Upper, Self::Whole];

    /// The folder of `name`.
    pub(super) fn folder(self, name: &PackageName) -> String {
        let name = name.as_str();
        match self {
            Self::Plain => name.to_owned(),
            Self::Underscores => name.replace('/', "__"),
            Self::Lower => name.replace('/', "%2f"),
            Self::Upper => name.replace('/', "%2F"),
            Self::Whole => name.replace('@', "%40").replace('/', "%2F"),
        }
    }

    pub(super) fn letter(self) -> char {
        match self {
            Self::Plain => 'p',
            Self::Underscores => 'u',
            Self::Lower => 'l',
            Self::Upper => 'e',
            Self::Whole => 'w',
        }
    }

    pub(super) fn of_letter(letter: char) -> Option<Self> {
        let all = [
            Self::Plain,
            Self::Underscores,
            Self::Lower,
            Self::Upper,
            Self::Whole,
        ];
        all.into_iter().find(|spelling| spelling.letter() == letter)
    }
}

/// The spellings that the folders of `name` may have, the present one first.
pub(super) fn spellings(name: &PackageName) -> impl Iterator<Item = Spelling> {
    let old = Spelling::OLD.into_iter();
    let old = old.take(if name.scope().is_some() { 4 } else { 0 });
    std::iter::once(Spelling::Plain).chain(old)
}

/// Whether other packages may have the same folder in this spelling; then the manifest tells.
pub(super) fn is_ambiguous(name: &PackageName, spelling: Spelling) -> bool {
    spelling == Spelling::Underscores && name.as_str().contains("__")
}

/// The key of the manifest, below the prefix.
pub(super) fn manifest(name: &PackageName, spelling: Spelling) -> String {
    format!("{}/{MANIFEST}", spelling.folder(name))
}

/// The key of a tarball, below the prefix.
pub(super) fn blob(name: &PackageName, file: &TarballName) -> String {
    format!("{name}/{file}")
}

/// The keys that a tarball may have from older versions, below the prefix; those that are likelier
/// first.
pub(super) fn old_blobs(name: &PackageName, file: &TarballName) -> Vec<String> {
    let mut keys = vec![format!("{name}/-/{file}")];
    for spelling in spellings(name).skip(1) {
        let folder = spelling.folder(name);
        keys.push(format!("{folder}/{file}"));
        keys.push(format!("{folder}/-/{file}"));
    }
    keys
}

/// Where the bytes of a tarball are whose key was in use before.
pub(super) fn elsewhere(name: &PackageName, file: &TarballName, nonce: &str) -> String {
    format!("{ELSEWHERE}{name}/{file}/{nonce}")
}

/// The key of the tarball that an object of [`elsewhere`] belongs to, and the object's nonce.
pub(super) fn owner_of_elsewhere(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(ELSEWHERE)?.rsplit_once('/')
}

/// Where a copy of what was set aside is.
pub(super) fn quarantine(name: &PackageName, file: &TarballName, nonce: &str) -> String {
    format!("{OWN}quarantine/{name}/{nonce}.{file}")
}

/// What a key, below the prefix, is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Manifest(Folder),
    Blob(Folder, TarballName),
}

/// The folder of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// That of this package.
    Of(PackageName, Spelling),
    /// Of which package, only its manifest tells.
    Ambiguous(String),
}

/// What `key`, below the prefix, is for; `None` for what is nobody's.
pub(super) fn meaning(key: &str) -> Option<Meaning> {
    if key.starts_with(OWN) {
        return None;
    }
    let (folder, file) = key.rsplit_once('/')?;
    let folder = folder.strip_suffix("/-").unwrap_or(folder);
    let folder = folder_of(folder)?;
    if file == MANIFEST {
        return Some(Meaning::Manifest(folder));
    }
    Some(Meaning::Blob(folder, file.parse().ok()?))
}

/// The folder of `key`, below the prefix, if it may be that of a package in an older spelling.
pub(super) fn old_folder(key: &str) -> Option<&str> {
    if key.starts_with(OWN) {
        return None;
    }
    let (folder, _) = key.rsplit_once('/')?;
    let folder = folder.strip_suffix("/-").unwrap_or(folder);
    match folder_of(folder)? {
        Folder::Of(_, Spelling::Plain) => None,
        Folder::Of(..) | Folder::Ambiguous(_) => Some(folder),
    }
}

/// Whose folder one of this name is; `None` for nobody's.
pub(super) fn folder_of(folder: &str) -> Option<Folder> {
    let decoded = percent_decode_str(folder).decode_utf8().ok()?;
    if decoded.starts_with('@') && !decoded.contains('/') {
        if decoded.matches("__").count() > 1 || decoded.contains("___") {
            return Some(Folder::Ambiguous(folder.to_owned()));
        }
        let name: PackageName = decoded.replacen("__", "/", 1).parse().ok()?;
        return Some(Folder::Of(name, Spelling::Underscores));
    }
    let name: PackageName = decoded.parse().ok()?;
    let spelling = spellings(&name).find(|spelling| spelling.folder(&name) == folder)?;
    Some(Folder::Of(name, spelling))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(key: &str) -> Option<String> {
        match meaning(key)? {
            Meaning::Manifest(Folder::Of(name, _)) | Meaning::Blob(Folder::Of(name, _), _) => {
                Some(name.to_string())
            }
            Meaning::Manifest(Folder::Ambiguous(folder))
            | Meaning::Blob(Folder::Ambiguous(folder), _) => Some(format!("?{folder}")),
        }
    }

    #[test]
    fn keys_of_all_layouts_belong_to_their_packages() {
        for (key, name) in [
            ("lodash/package.json", Some("lodash")),
            ("lodash/lodash-1.0.0.tgz", Some("lodash")),
            ("lodash/-/lodash-1.0.0.tgz", Some("lodash")),
            ("a__b/package.json", Some("a__b")),
            ("@a/b/package.json", Some("@a/b")),
            ("@a/b/b-1.0.0.tgz", Some("@a/b")),
            ("@a/b/-/b-1.0.0.tgz", Some("@a/b")),
            ("@a__b/package.json", Some("@a/b")),
            ("@a__b/b-1.0.0.tar.gz", Some("@a/b")),
            ("@a%2fb/package.json", Some("@a/b")),
            ("@a%2Fb/-/b-1.0.0.tgz", Some("@a/b")),
            ("%40a%2Fb/b-1.0.0.tgz", Some("@a/b")),
            ("@a%2fb__c/package.json", Some("@a/b__c")),
            ("@a/b__c/package.json", Some("@a/b__c")),
            ("@a__b__c/package.json", Some("?@a__b__c")),
            ("verdaccio-s3-db.json", None),
            (".rustaccio/blobs/a/a-1.0.0.tgz/00", None),
            (".rustaccio/package.json", None),
            ("lodash/other.json", None),
            ("a/b/c/package.json", None),
            ("package.json", None),
        ] {
            assert_eq!(owner(key).as_deref(), name, "{key}");
        }
    }

    #[test]
    fn what_is_written_is_found_again() {
        for name in ["lodash", "@a/b", "@a/b__c", "JSONStream"] {
            let name: PackageName = name.parse().unwrap();
            for spelling in spellings(&name).filter(|spelling| !is_ambiguous(&name, *spelling)) {
                let key = manifest(&name, spelling);
                let folder = Folder::Of(name.clone(), spelling);
                assert_eq!(meaning(&key), Some(Meaning::Manifest(folder)), "{key}");
                assert_eq!(Spelling::of_letter(spelling.letter()), Some(spelling));
            }
            let file = format!("{}-1.0.0.tgz", name.base()).parse().unwrap();
            for key in old_blobs(&name, &file) {
                let found = owner(&key);
                assert!(
                    found.is_some_and(|owner| owner == name.as_str() || owner.starts_with('?'))
                );
            }
        }
    }
}
