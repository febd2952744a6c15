//! Tests of tarball inspection: what clients make, what attackers make, and random bytes.

use std::{
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

const MANIFEST: &str = r#"{"name":"a","version":"1.0.0"}"#;

/// Builds a tar stream entry by entry, without the checks of the `tar` crate's builder.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// A tar with a valid `package.json`.
    fn package() -> Self {
        Self::new().file("package/package.json", MANIFEST)
    }

    fn entry(mut self, kind: EntryType, path: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(u64::try_from(content.len()).unwrap());
        header.set_mode(0o644);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, content.as_bytes())
    }

    fn pax(self, records: &str) -> Self {
        self.entry(EntryType::XHeader, "PaxHeader", records.as_bytes())
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn gzip(self) -> Vec<u8> {
        gzip(&self.bytes())
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn facts(tarball: &[u8]) -> Result<TarballFacts, ArchiveError> {
    inspect(tarball, ArchiveLimits::default())
}

#[track_caller]
fn check_error(tarball: &[u8], expected: &str) {
    let error = facts(tarball).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(RegistryError::from(error).status().as_u16(), 400);
}

#[track_caller]
fn check_refused(tar: Tar, path: &str, reason: &str) {
    let expected = format!("the tarball's entry `{path}` is refused: {reason}");
    check_error(&tar.gzip(), &expected);
}

#[test]
fn an_ordinary_tarball_says_what_is_in_it() {
    let tarball = Tar::new()
        .entry(EntryType::Directory, "package/", b"")
        .file("package/package.json", MANIFEST)
        .file("package/README.md", "# a")
        .file("package/npm-shrinkwrap.json", "{}")
        .file("package/lib/binding.gyp", "{}")
        .pax("21 path=package/long\n")
        .file("package/short", "12345")
        .gzip();
    let facts = facts(&tarball).unwrap();
    let expected = TarballFacts {
        name: "a".to_owned(),
        version: "1.0.0".to_owned(),
        file_count: 5,
        unpacked_size: 42,
        has_shrinkwrap: true,
        has_binding_gyp: false,
        has_install_script: false,
        manifest_json: MANIFEST.as_bytes().to_vec(),
        readme: Some("# a".to_owned()),
    };
    assert_eq!(facts, expected);
}

#[test]
fn install_scripts_are_found() {
    #[track_caller]
    fn check(fields: &str, has_binding: bool, expected: bool) {
        let manifest = format!(r#"{{"name":"a","version":"1.0.0"{fields}}}"#);
        let mut tar = Tar::new().file("x/package.json", &manifest);
        if has_binding {
            tar = tar.file("x/binding.gyp", "{}");
        }
        let facts = facts(&tar.gzip()).unwrap();
        assert_eq!(facts.has_install_script, expected, "{fields} {has_binding}");
    }
    check("", false, false);
    check("", true, true);
    check(r#","gypfile":false"#, true, false);
    check(r#","scripts":{"preinstall":"x"}"#, false, true);
    check(
        r#","scripts":{"preinstall":"x"},"gypfile":false"#,
        true,
        true,
    );
    check(r#","scripts":{"prepare":"x"}"#, false, false);
    check(r#","scripts":[]"#, false, false);
}

#[test]
fn name_and_version_are_compared_as_clients_clean_them() {
    #[track_caller]
    fn check(version: &str, published: &str, expected: Option<&str>) {
        let facts = TarballFacts {
            name: "a".to_owned(),
            version: version.to_owned(),
            ..TarballFacts::default()
        };
        let result = facts.require(&"a".parse().unwrap(), &published.parse().unwrap());
        let message = result.err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), expected, "{version} {published}");
    }
    check("1.0.0", "1.0.0", None);
    check(" v1.0.0 ", "1.0.0", None);
    check("1.0.0+b", "1.0.0", None);
    check("1.0.0+b", "1.0.0+b", None);
    let wrong = "the tarball is of `a@1.0.1`, but `a@1.0.0` is being published";
    check("1.0.1", "1.0.0", Some(wrong));
    let build = "the tarball is of `a@1.0.0`, but `a@1.0.0+b` is being published";
    check("1.0.0", "1.0.0+b", Some(build));
}

#[test]
fn what_is_no_archive_is_refused() {
    const MALFORMED: &str = "the tarball is not a valid gzip-compressed tar archive";
    check_error(b"", "the tarball is empty");
    check_error(b"not gzip", MALFORMED);
    check_error(&Tar::package().bytes(), MALFORMED);
    check_error(&gzip(b"not tar"), MALFORMED);
    check_error(&gzip(&[b'x'; 2048]), MALFORMED);
    let whole = Tar::package().gzip();
    check_error(&whole[..whole.len() - 1], MALFORMED);
    check_error(&gzip(&Tar::package().bytes()[..530]), MALFORMED);
    check_error(
        &gzip(&[0; 1024]),
        "the tarball has no package.json in its top directory",
    );
    let mut wrong_checksum = whole.clone();
    let at = whole.len() - 6;
    wrong_checksum[at] ^= 1;
    check_error(&wrong_checksum, MALFORMED);
}

#[test]
fn only_zeros_may_follow_the_archive() {
    const TRAILING: &str = "the tarball has data after its end";
    let mut padded = Tar::package().bytes();
    padded.resize(padded.len() + 4096, 0);
    let mut padded_gzip = gzip(&padded);
    padded_gzip.extend([0; 512]);
    assert!(facts(&padded_gzip).is_ok());

    let hidden = Tar::new().file("package/package.json", "{}").bytes();
    check_error(&gzip(&[padded, hidden].concat()), TRAILING);
    let second_member = [Tar::package().gzip(), Tar::package().gzip()].concat();
    check_error(&second_member, TRAILING);
}

#[test]
fn entries_that_could_harm_are_refused() {
    for (path, reason) in [
        ("../x", "its path has a `.` or `..` segment"),
        ("package/../../x", "its path has a `.` or `..` segment"),
        ("/etc/passwd", "its path is absolute"),
        (
            "package/a\\b",
            "its path has a backslash or a control character",
        ),
        ("other/x", "it is outside of the one top directory"),
        ("package", "it is outside of the one top directory"),
        ("package/x/", "it is a directory with content"),
    ] {
        check_refused(Tar::package().file(path, "x"), path, reason);
    }
    for (kind, reason) in [
        (EntryType::Symlink, "it is a link"),
        (EntryType::Link, "it is a link"),
        (EntryType::Char, "it is neither a file nor a directory"),
        (EntryType::Fifo, "it is neither a file nor a directory"),
        (EntryType::GNUSparse, "it is neither a file nor a directory"),
        (
            EntryType::GNULongLink,
            "it is neither a file nor a directory",
        ),
    ] {
        check_refused(
            Tar::package().entry(kind, "package/x", b""),
            "package/x",
            reason,
        );
    }
    check_refused(
        Tar::package().entry(EntryType::Directory, "package/x", b"hidden"),
        "package/x",
        "it is a directory with content",
    );
}

#[test]
fn extended_headers_hide_nothing() {
    const INVALID: &str = "its extended header is not valid";
    let evil = || Tar::package().pax("13 path=../x\n").file("package/x", "");
    check_refused(evil(), "../x", "its path has a `.` or `..` segment");
    // npm itself writes sizes for long paths; they must be those of the entry.
    let same = Tar::package().pax("10 size=1\n").file("package/x", "x");
    assert!(facts(&same.gzip()).is_ok());
    check_refused(
        Tar::package().pax("10 size=9\n").file("package/x", "x"),
        "package/x",
        "it has two sizes",
    );
    check_refused(
        Tar::package().pax("10 size=x\n").file("package/x", "x"),
        "PaxHeader",
        INVALID,
    );
    check_refused(
        Tar::package().entry(EntryType::XGlobalHeader, "global", b"10 size=1\n"),
        "global",
        "it sets the size of every entry",
    );
    check_refused(
        Tar::package().pax("\n13 path=../x\n").file("package/x", ""),
        "PaxHeader",
        INVALID,
    );
    check_refused(
        Tar::package()
            .pax("9 a=bcde\n\n13 path=../x\n")
            .file("package/x", ""),
        "PaxHeader",
        INVALID,
    );
    check_refused(Tar::package().pax("99 path=../x\n"), "PaxHeader", INVALID);
    check_refused(
        Tar::package().pax("18 path=package/y\n"),
        "package/y",
        "the archive ends before it",
    );
    check_refused(
        Tar::package()
            .entry(EntryType::GNULongName, "././@LongLink", b"package/y\0")
            .pax("18 path=package/z\n")
            .file("package/x", ""),
        "package/z",
        "it has two paths",
    );
    let long = "x".repeat(64 * 1024 + 1);
    check_refused(
        Tar::package().entry(EntryType::GNULongName, "././@LongLink", long.as_bytes()),
        "././@LongLink",
        "its extended header is too large",
    );
    let global = Tar::new()
        .entry(
            EntryType::XGlobalHeader,
            "pax_global_header",
            b"13 path=../x\n",
        )
        .file("package/package.json", MANIFEST);
    assert!(facts(&global.gzip()).is_ok());
}

#[test]
fn there_is_one_manifest_and_it_is_valid() {
    check_refused(
        Tar::package().file("package/package.json", MANIFEST),
        "package.json",
        "it is there twice",
    );
    check_error(
        &Tar::new().file("package/lib/package.json", MANIFEST).gzip(),
        "the tarball has no package.json in its top directory",
    );
    let deep = format!(r#"{{"name":{}"#, "[".repeat(100_000));
    for manifest in [
        "",
        "[]",
        "{",
        r#"{"name":"a"}"#,
        r#"{"name":1,"version":"1.0.0"}"#,
        &deep,
    ] {
        check_error(
            &Tar::new().file("package/package.json", manifest).gzip(),
            "the tarball's package.json is not valid: it needs a `name` and a `version`",
        );
    }
    let marked = format!("\u{feff}{MANIFEST}");
    let tarball = Tar::new().file("package/package.json", &marked).gzip();
    assert_eq!(facts(&tarball).unwrap().name, "a");
}

#[test]
fn bombs_stop_at_the_limit() {
    let limits = ArchiveLimits {
        unpacked_bytes: 64 * 1024,
        entries: 3,
    };
    let zeros = "\0".repeat(1024 * 1024);
    let large = Tar::package().file("package/zeros", &zeros).gzip();
    let error = inspect(large.as_slice(), limits).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge(65536)), "{error}");

    let mut trailing = Tar::package().bytes();
    trailing.resize(1024 * 1024, 0);
    let error = inspect(gzip(&trailing).as_slice(), limits).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge(65536)), "{error}");

    let mut tar = Tar::package();
    for _ in 0..3 {
        tar = tar.file("package/x", "");
    }
    let error = inspect(tar.gzip().as_slice(), limits).unwrap_err();
    assert!(matches!(error, ArchiveError::TooManyEntries(3)), "{error}");
}

#[test]
fn a_failing_disk_is_not_the_clients_fault() {
    /// Gives some bytes, then an error.
    struct Failing(Vec<u8>, AtomicUsize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let start = self.1.fetch_add(10, Ordering::Relaxed);
            let Some(piece) = self.0.get(start..start + 10).filter(|_| start < 50) else {
                return Err(io::ErrorKind::PermissionDenied.into());
            };
            buffer[..10].copy_from_slice(piece);
            Ok(10)
        }
    }
    let failing = Failing(Tar::package().gzip(), AtomicUsize::new(0));
    let error = inspect(failing, ArchiveLimits::default()).unwrap_err();
    assert_eq!(RegistryError::from(error).status().as_u16(), 503);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = facts(&bytes);
        let _ = facts(&gzip(&bytes));
    }

    #[test]
    fn mutated_tarballs_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        is_checksum_repaired in any::<bool>(),
    ) {
        let mut tar = Tar::package()
            .pax("21 path=package/long\n")
            .file("package/short", "12345")
            .bytes();
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        if is_checksum_repaired {
            for block in [0, 1024, 2048] {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&tar[block..block + 512]);
                header.set_cksum();
                tar[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let _ = facts(&gzip(&tar));
    }
}
