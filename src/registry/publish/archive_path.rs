//! [`check_path`]: which paths of a tarball's entries are safe to unpack anywhere.

const MAX_PATH_BYTES: usize = 1024;
const MAX_SEGMENTS: usize = 64;

/// The segments of an entry's path below the tarball's one top directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntryPath<'a> {
    /// First segment, usually `package`.
    pub(super) top: &'a str,
    /// What is below; empty for the top directory itself.
    pub(super) below: &'a str,
    /// The path ends in a slash.
    pub(super) names_a_directory: bool,
}

/// Returns the path if no unpacker on any system can be led astray by it; else why not.
///
/// Names that two programs may read differently (`.`, empty segments, backslashes, drive letters)
/// are refused too: what is checked must be what is installed.
pub(super) fn check_path(bytes: &[u8]) -> Result<EntryPath<'_>, &'static str> {
    if bytes.len() > MAX_PATH_BYTES {
        return Err("its path is too long");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "its path is not UTF-8")?;
    if text.is_empty() {
        return Err("it has no path");
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        return Err("its path has a backslash or a control character");
    }
    if text.starts_with('/') {
        return Err("its path is absolute");
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    for segment in path.split('/') {
        check_segment(segment)?;
    }
    if path.split('/').count() > MAX_SEGMENTS {
        return Err("its path is too deep");
    }
    let (top, below) = path.split_once('/').unwrap_or((path, ""));
    Ok(EntryPath {
        top,
        below,
        names_a_directory: text.ends_with('/'),
    })
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    let mut characters = segment.chars();
    let has_drive = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && characters.next() == Some(':');
    match segment {
        "" => Err("its path has an empty segment"),
        "." | ".." => Err("its path has a `.` or `..` segment"),
        _ if has_drive => Err("its path has a drive letter"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_have_a_top_and_a_rest() {
        for (text, top, below, names_a_directory) in [
            ("package/package.json", "package", "package.json", false),
            ("package/a/b c/é:ü", "package", "a/b c/é:ü", false),
            ("package/", "package", "", true),
            ("package", "package", "", false),
            ("package/..a", "package", "..a", false),
        ] {
            let expected = EntryPath {
                top,
                below,
                names_a_directory,
            };
            assert_eq!(check_path(text.as_bytes()), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn paths_that_could_escape_are_refused() {
        let long = "a/".repeat(600);
        let deep = "a/".repeat(65);
        for text in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "package/../../x",
            "package/..",
            "./package/x",
            "package//x",
            "package\\..\\x",
            "package/C:x",
            "c:/x",
            "package/\0",
            "package/\u{1b}x",
            "package/x//",
            &long,
            &deep,
        ] {
            assert!(check_path(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(check_path(b"package/\xff").is_err());
    }
}
