//! [`inspect`]: reads a tarball without unpacking it, and says what is in it or why it is refused.

use std::{
    cell::RefCell,
    io::{self, BufRead as _, BufReader, Read},
    rc::Rc,
};

use flate2::bufread::GzDecoder;
use indexmap::IndexMap;
use serde_json::value::RawValue;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::{
    archive_path::{EntryPath, check_path},
    error::storage_failure,
};
use crate::{
    error::RegistryError,
    models::{PackageName, Version},
};

const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
/// A longer README is cut here, as npm does.
const MAX_README_BYTES: usize = 64 * 1024;

/// What a tarball may cost to read, and later to unpack.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveLimits {
    /// Bytes of the tar stream inside the gzip.
    pub unpacked_bytes: u64,
    /// Headers in the tar stream, those of extensions included.
    pub entries: usize,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 2 * 1024 * 1024 * 1024,
            entries: 100_000,
        }
    }
}

/// What is in a tarball.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarballFacts {
    /// `name` of its `package.json`.
    pub name: String,
    /// `version` of its `package.json`.
    pub version: String,
    /// Regular files.
    pub file_count: u64,
    /// Bytes of the regular files.
    pub unpacked_size: u64,
    /// Whether `npm-shrinkwrap.json` is next to `package.json`.
    pub has_shrinkwrap: bool,
    /// Whether `binding.gyp` is next to `package.json`.
    pub has_binding_gyp: bool,
    /// Whether an install runs something: a script, or `node-gyp` for `binding.gyp`.
    pub has_install_script: bool,
    /// `package.json` itself.
    pub manifest_json: Vec<u8>,
    /// The README next to `package.json`, cut where it is too long.
    pub readme: Option<String>,
}

/// Why a tarball is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is not a single byte.
    #[error("the tarball is empty")]
    Empty,
    /// Not gzip around tar, or cut short.
    #[error("the tarball is not a valid gzip-compressed tar archive")]
    Malformed(#[source] io::Error),
    /// Bytes follow the archive that an unpacker may read differently.
    #[error("the tarball has data after its end")]
    TrailingData,
    /// More than the limit when unpacked.
    #[error("the tarball is larger than {0} bytes when unpacked")]
    TooLarge(u64),
    /// More headers than the limit.
    #[error("the tarball has more than {0} entries")]
    TooManyEntries(usize),
    /// An entry that is not safe, or that two programs may read differently.
    #[error("the tarball's entry `{path}` is refused: {reason}")]
    Entry {
        /// The entry's path, cut and cleaned.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// No `package.json` in the top directory.
    #[error("the tarball has no package.json in its top directory")]
    NoManifest,
    /// `package.json` is not an object with a name and a version.
    #[error("the tarball's package.json is not valid: it needs a `name` and a `version`")]
    InvalidManifest,
    /// The tarball itself cannot be read; not the client's fault.
    #[error("the tarball cannot be read")]
    Read(#[source] io::Error),
}

impl From<ArchiveError> for RegistryError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Read(source) => storage_failure(source),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl TarballFacts {
    /// Returns a 400 unless the tarball is of this name and version.
    ///
    /// `package.json` may spell its version as clients accept and clean it: with spaces around, a
    /// leading `v` or `=`, and with build metadata that the client leaves out.
    pub fn require(&self, name: &PackageName, version: &Version) -> Result<(), RegistryError> {
        let cleaned = self
            .version
            .trim()
            .trim_start_matches(['v', '='])
            .trim_start();
        let without_build = cleaned.split_once('+').map_or(cleaned, |(core, _)| core);
        let is_same_version = cleaned == version.as_str() || without_build == version.as_str();
        if self.name.trim() == name.as_str() && is_same_version {
            return Ok(());
        }
        let cut = |text: &str| -> String { text.chars().take(214).collect() };
        Err(RegistryError::bad_request(format!(
            "the tarball is of `{}@{}`, but `{name}@{version}` is being published",
            cut(&self.name),
            cut(&self.version)
        )))
    }
}

/// Reads a whole tarball and returns what is in it. Blocking work.
///
/// The archive has one top directory with regular files and directories below it, and nothing
/// that two unpackers could read in two ways: no links, no second `package.json`, no sizes that
/// disagree, nothing after the end but zeros.
pub fn inspect(tarball: impl Read, limits: ArchiveLimits) -> Result<TarballFacts, ArchiveError> {
    let fault = Fault::default();
    let source = Source {
        inner: tarball,
        fault: fault.clone(),
    };
    let mut compressed = BufReader::with_capacity(64 * 1024, source);
    let is_empty = compressed
        .fill_buf()
        .map_err(|error| fault.explain(error))?
        .is_empty();
    if is_empty {
        return Err(ArchiveError::Empty);
    }
    let bounded = Bounded {
        inner: GzDecoder::new(compressed),
        left: limits.unpacked_bytes,
        limit: limits.unpacked_bytes,
        fault: fault.clone(),
    };
    let mut archive = Archive::new(bounded);
    let mut inspector = Inspector::default();
    let entries = archive.entries().map_err(|error| fault.explain(error))?;
    for (index, entry) in entries.raw(true).enumerate() {
        if index >= limits.entries {
            return Err(ArchiveError::TooManyEntries(limits.entries));
        }
        let entry = entry.map_err(|error| fault.explain(error))?;
        inspector.take(entry, &fault)?;
    }
    let mut tar = archive.into_inner();
    require_zeros(&mut tar, &fault)?;
    let mut compressed = tar.inner.into_inner();
    require_zeros(&mut compressed, &fault)?;
    inspector.finish()
}

/// The error behind an `io::Error` that came through the decoders, which may have wrapped it.
#[derive(Clone, Default)]
struct Fault(Rc<RefCell<Option<ArchiveError>>>);

impl Fault {
    fn set(&self, error: ArchiveError) -> io::Error {
        *self.0.borrow_mut() = Some(error);
        io::Error::other("refused")
    }

    fn explain(&self, error: io::Error) -> ArchiveError {
        let fault = self.0.borrow_mut().take();
        fault.unwrap_or(ArchiveError::Malformed(error))
    }
}

/// Marks errors of the tarball's own reader.
struct Source<R> {
    inner: R,
    fault: Fault,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(self.fault.set(ArchiveError::Read(error)))
            }
            result => result,
        }
    }
}

/// Fails where the tar stream is longer than it may be.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
    fault: Fault,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(length(count)) else {
            return Err(self.fault.set(ArchiveError::TooLarge(self.limit)));
        };
        self.left = left;
        Ok(count)
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn require_zeros(reader: &mut impl Read, fault: &Fault) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fault.explain(error)),
        };
        if buffer.iter().take(count).any(|byte| *byte != 0) {
            return Err(ArchiveError::TrailingData);
        }
    }
}

/// Collects facts entry by entry.
#[derive(Default)]
struct Inspector {
    facts: TarballFacts,
    top: Option<String>,
    manifest: Option<Vec<u8>>,
    /// Path that a GNU or PAX header gave for the entry after it.
    next_path: Option<Vec<u8>>,
    /// Size that a PAX header gave for the entry after it.
    next_size: Option<u64>,
}

impl Inspector {
    fn take(&mut self, mut entry: Entry<'_, impl Read>, fault: &Fault) -> Result<(), ArchiveError> {
        let own_path = entry.path_bytes().into_owned();
        let refuse = |path: &[u8], reason| ArchiveError::Entry {
            path: printable(path),
            reason,
        };
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => {
                let extension = read_extension(&mut entry, &own_path, fault)?;
                // A global path would be the path of every entry; unpackers pass it over.
                let records =
                    PaxRecords::parse(&extension).map_err(|reason| refuse(&own_path, reason))?;
                return match records.size {
                    Some(_) => Err(refuse(&own_path, "it sets the size of every entry")),
                    None => Ok(()),
                };
            }
            EntryType::XHeader => {
                let extension = read_extension(&mut entry, &own_path, fault)?;
                let records =
                    PaxRecords::parse(&extension).map_err(|reason| refuse(&own_path, reason))?;
                self.next_size = records.size.or(self.next_size);
                return match records.path {
                    Some(path) => self.set_next_path(path),
                    None => Ok(()),
                };
            }
            EntryType::GNULongName => {
                let mut path = read_extension(&mut entry, &own_path, fault)?;
                if path.last() == Some(&0) {
                    path.pop();
                }
                return self.set_next_path(path);
            }
            _ => (),
        }
        let bytes = self.next_path.take().unwrap_or(own_path);
        let path = check_path(&bytes).map_err(|reason| refuse(&bytes, reason))?;
        let top = self.top.get_or_insert_with(|| path.top.to_owned());
        if top != path.top {
            return Err(refuse(&bytes, "it is outside of the one top directory"));
        }
        let size = entry.size();
        if self.next_size.take().is_some_and(|other| other != size) {
            return Err(refuse(&bytes, "it has two sizes"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous if !path.names_a_directory => {
                if path.below.is_empty() {
                    return Err(refuse(&bytes, "it is outside of the one top directory"));
                }
                self.file(&mut entry, &path, fault)
            }
            // Unpackers take a file whose path ends in a slash for a directory, too.
            EntryType::Directory | EntryType::Regular if size == 0 => Ok(()),
            EntryType::Directory | EntryType::Regular | EntryType::Continuous => {
                Err(refuse(&bytes, "it is a directory with content"))
            }
            EntryType::Symlink | EntryType::Link => Err(refuse(&bytes, "it is a link")),
            _ => Err(refuse(&bytes, "it is neither a file nor a directory")),
        }
    }

    fn set_next_path(&mut self, path: Vec<u8>) -> Result<(), ArchiveError> {
        match &self.next_path {
            Some(other) if *other != path => Err(ArchiveError::Entry {
                path: printable(&path),
                reason: "it has two paths",
            }),
            _ => {
                self.next_path = Some(path);
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        path: &EntryPath<'_>,
        fault: &Fault,
    ) -> Result<(), ArchiveError> {
        let size = entry.size();
        self.facts.file_count += 1;
        self.facts.unpacked_size = self.facts.unpacked_size.saturating_add(size);
        let keep = match path.below {
            "package.json" => {
                self.check_manifest_entry(size)?;
                size
            }
            "npm-shrinkwrap.json" => {
                self.facts.has_shrinkwrap = true;
                0
            }
            "binding.gyp" => {
                self.facts.has_binding_gyp = true;
                0
            }
            other if is_readme(other) && self.facts.readme.is_none() => length(MAX_README_BYTES),
            _ => 0,
        };
        let mut content = Vec::new();
        let kept = entry
            .by_ref()
            .take(keep)
            .read_to_end(&mut content)
            .map_err(|error| fault.explain(error))?;
        let skipped = io::copy(entry, &mut io::sink()).map_err(|error| fault.explain(error))?;
        if length(kept).saturating_add(skipped) != size {
            return Err(ArchiveError::Malformed(io::ErrorKind::UnexpectedEof.into()));
        }
        if path.below == "package.json" {
            self.manifest = Some(content);
        } else if keep > 0 {
            self.facts.readme = Some(String::from_utf8_lossy(&content).into_owned());
        }
        Ok(())
    }

    fn check_manifest_entry(&self, size: u64) -> Result<(), ArchiveError> {
        let reason = if self.manifest.is_some() {
            "it is there twice"
        } else if size > MAX_MANIFEST_BYTES {
            "it is too large"
        } else {
            return Ok(());
        };
        Err(ArchiveError::Entry {
            path: "package.json".to_owned(),
            reason,
        })
    }

    fn finish(mut self) -> Result<TarballFacts, ArchiveError> {
        if let Some(path) = self.next_path {
            return Err(ArchiveError::Entry {
                path: printable(&path),
                reason: "the archive ends before it",
            });
        }
        let manifest = self.manifest.ok_or(ArchiveError::NoManifest)?;
        // npm passes over a byte order mark.
        let text = manifest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&manifest);
        let fields: IndexMap<String, Box<RawValue>> =
            serde_json::from_slice(text).map_err(|_| ArchiveError::InvalidManifest)?;
        let field =
            |key: &str| -> Option<String> { serde_json::from_str(fields.get(key)?.get()).ok() };
        self.facts.name = field("name").ok_or(ArchiveError::InvalidManifest)?;
        self.facts.version = field("version").ok_or(ArchiveError::InvalidManifest)?;
        let scripts = fields.get("scripts").map(AsRef::as_ref);
        let has_gypfile = fields
            .get("gypfile")
            .is_none_or(|value| value.get() != "false");
        self.facts.has_install_script =
            runs_at_install(scripts) || (self.facts.has_binding_gyp && has_gypfile);
        self.facts.manifest_json = manifest;
        Ok(self.facts)
    }
}

/// Whether one of the scripts runs when the package is installed from a registry.
pub(super) fn runs_at_install(scripts: Option<&RawValue>) -> bool {
    let Some(scripts) = scripts else {
        return false;
    };
    let Ok(scripts) = serde_json::from_str::<IndexMap<String, &RawValue>>(scripts.get()) else {
        return false;
    };
    ["preinstall", "install", "postinstall"]
        .iter()
        .filter_map(|key| scripts.get(*key))
        .any(|script| script.get() != "\"\"" && script.get().starts_with('"'))
}

fn is_readme(below: &str) -> bool {
    ["readme.md", "readme", "readme.markdown", "readme.txt"]
        .iter()
        .any(|name| below.eq_ignore_ascii_case(name))
}

fn read_extension(
    entry: &mut Entry<'_, impl Read>,
    path: &[u8],
    fault: &Fault,
) -> Result<Vec<u8>, ArchiveError> {
    let size = entry.size();
    if size > MAX_EXTENSION_BYTES {
        return Err(ArchiveError::Entry {
            path: printable(path),
            reason: "its extended header is too large",
        });
    }
    let mut content = Vec::new();
    let count = entry
        .read_to_end(&mut content)
        .map_err(|error| fault.explain(error))?;
    if length(count) == size {
        Ok(content)
    } else {
        Err(ArchiveError::Malformed(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// What a PAX header says about the entry after it, as far as it matters here.
#[derive(Default)]
struct PaxRecords {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl PaxRecords {
    /// Refuses what programs read in different ways.
    fn parse(extension: &[u8]) -> Result<Self, &'static str> {
        const INVALID: &str = "its extended header is not valid";
        // The parser stops at an empty line, where others go on.
        if extension.starts_with(b"\n") || extension.windows(2).any(|pair| pair == b"\n\n") {
            return Err(INVALID);
        }
        let mut records = Self::default();
        for record in PaxExtensions::new(extension) {
            let record = record.map_err(|_| INVALID)?;
            match record.key_bytes() {
                b"path" => records.path = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let size = record.value().ok().and_then(|text| text.parse().ok());
                    records.size = Some(size.ok_or(INVALID)?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err("it is a sparse file"),
                _ => (),
            }
        }
        Ok(records)
    }
}

/// A path for a message: cut, and without anything that could be a second line.
fn printable(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let cleaned = text.chars().map(|character| {
        if character.is_control() {
            '\u{fffd}'
        } else {
            character
        }
    });
    cleaned.take(120).collect()
}

#[cfg(test)]
mod tests;
