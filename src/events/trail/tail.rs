//! The end of the trail, for those who look at it in a browser.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// How much of the file is read at most.
const MAX_BYTES: u64 = 256 * 1024;

/// The last lines of the file, at most `most`, the newest first. Blocks.
pub(super) fn last_lines(path: &Path, most: usize) -> io::Result<Vec<String>> {
    match fs::metadata(path) {
        // A pipe or a terminal gives nothing back, and whoever reads it waits.
        Ok(found) if !found.is_file() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file, and cannot be read back",
        )),
        Ok(_) => read(path, most),
        // Somebody has moved it away, and nothing has happened since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, most: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut end = bytes.as_slice();
    if start > 0 {
        // It may begin within a line.
        let first = memchr::memchr(b'\n', end).map_or(end.len(), |at| at + 1);
        end = end.get(first..).unwrap_or_default();
    }
    let lines = end.rsplit(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty()).take(most);
    Ok(lines
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
        File::create(path)?.write_all(text.as_ref())
    }

    #[test]
    fn the_newest_lines_come_first_and_no_more_is_read_than_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        assert_eq!(last_lines(&path, 5).unwrap(), [""; 0]);
        write(&path, "1\n2\n\n3\n").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["3", "2"]);
        assert_eq!(last_lines(&path, 5).unwrap(), ["3", "2", "1"]);
        // Longer than what is read, without a line that ends in it.
        let long = "x".repeat(usize::try_from(MAX_BYTES).unwrap());
        write(&path, format!("{long}{long}\nlast\n")).unwrap();
        assert_eq!(last_lines(&path, 5).unwrap(), ["last"]);
        write(&path, format!("{long}{long}")).unwrap();
        assert_eq!(last_lines(&path, 5).unwrap(), [""; 0]);
        write(&path, b"\xff\n").unwrap();
        assert_eq!(last_lines(&path, 5).unwrap(), ["\u{fffd}"]);
    }

    #[test]
    fn what_gives_nothing_back_is_not_read() {
        assert!(last_lines(Path::new("/dev/null"), 1).is_err());
        assert!(last_lines(Path::new("/"), 1).is_err());
    }
}
