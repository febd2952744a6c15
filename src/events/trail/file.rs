//! [`TrailFile`]: a file that only grows, until another is begun in its place.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::models::Timestamp;

/// What only the registry's user may read.
const PRIVATE: u32 = 0o600;

/// The file of the trail, and what becomes of full ones. All of it blocks.
#[derive(Debug)]
pub(super) struct TrailFile {
    path: PathBuf,
    /// 0 for any size.
    max_size: u64,
    /// 0 for all.
    max_files: usize,
    file: File,
    /// Whether the end of the file may be a part of a line.
    is_torn: bool,
}

/// Lines could not be written, or not all of them.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// How many bytes of them are in the file.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl From<io::Error> for Unfinished {
    fn from(error: io::Error) -> Self {
        Self { written: 0, error }
    }
}

impl TrailFile {
    pub(super) fn open(path: &Path, max_size: u64, max_files: usize) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            max_size,
            max_files,
            file: open(path, PRIVATE)?,
            is_torn: true,
        })
    }

    /// Adds `lines`, each with its end, by one write. An error leaves at most a part of a line, after
    /// which the next one begins a line of its own.
    pub(super) fn append(&mut self, lines: &[u8], now: Timestamp) -> Result<(), Unfinished> {
        self.follow()?;
        self.rotate(lines.len(), now)?;
        let mut text = lines;
        let mended;
        if self.is_torn && !ends_a_line(&mut self.file)? {
            mended = [b"\n", lines].concat();
            text = &mended;
        }
        self.is_torn = true;
        let mend = text.len() - lines.len();
        write_all(&mut self.file, text).map_err(|unfinished| Unfinished {
            written: unfinished.written.saturating_sub(mend),
            ..unfinished
        })?;
        self.is_torn = false;
        Ok(())
    }

    /// Makes what was written safe from a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Goes on in a new file where somebody has moved this one away.
    fn follow(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let is_same = match std::fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_same {
            // What is in the old one is as good as any other line.
            self.sync()?;
            self.begin_another(own.mode())?;
        }
        Ok(())
    }

    /// Moves a full file away.
    fn rotate(&mut self, added: usize, now: Timestamp) -> io::Result<()> {
        let own = self.file.metadata()?;
        let added = u64::try_from(added).unwrap_or(u64::MAX);
        let is_full = self.max_size > 0 && own.len().saturating_add(added) > self.max_size;
        if !is_full || own.len() == 0 {
            return Ok(());
        }
        self.sync()?;
        std::fs::rename(&self.path, self.free_name(now))?;
        self.begin_another(own.mode())?;
        self.remove_oldest();
        Ok(())
    }

    /// Who may read the one before may read this one.
    fn begin_another(&mut self, mode: u32) -> io::Result<()> {
        self.file = open(&self.path, mode & 0o777)?;
        self.is_torn = true;
        Ok(())
    }

    /// `audit.log.20260102T030405678Z`; names sort as their times do.
    fn free_name(&self, now: Timestamp) -> PathBuf {
        let time: String = now
            .to_string()
            .chars()
            .filter(|character| !matches!(character, '-' | ':' | '.'))
            .collect();
        let name = |suffix: String| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{time}{suffix}"));
            PathBuf::from(name)
        };
        let mut names = std::iter::once(name(String::new()))
            .chain((1..1000).map(|count| name(format!("-{count:03}"))));
        let free = names.find(|name| !name.exists());
        free.unwrap_or_else(|| name("-full".to_owned()))
    }

    /// Removes all but the newest full files. What cannot be removed stays.
    fn remove_oldest(&self) {
        if self.max_files == 0 {
            return;
        }
        let (Some(folder), Some(own)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let Some(own) = own.to_str() else { return };
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        let mut full: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| is_full_file(entry.file_name().to_str(), own))
            .map(|entry| entry.path())
            .collect();
        full.sort();
        let too_many = full.len().saturating_sub(self.max_files);
        for path in full.into_iter().take(too_many) {
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "the oldest file of the audit trail is removed");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a file of the audit trail cannot be removed");
                }
            }
        }
    }
}

/// Whether `name` is one that [`TrailFile::free_name`] has made of `own`.
fn is_full_file(name: Option<&str>, own: &str) -> bool {
    let time = name.and_then(|name| name.strip_prefix(own)?.strip_prefix('.'));
    time.and_then(|time| time.split('-').next())
        .is_some_and(|time| {
            let is_time = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z');
            time.len() == "20260102T030405678Z".len() && time.bytes().all(is_time)
        })
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(mode);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // Whatever the mask of the process takes away.
            file.set_permissions(Permissions::from_mode(mode))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Like [`io::Write::write_all`], which does not say how much was written before an error.
fn write_all(file: &mut impl io::Write, text: &[u8]) -> Result<(), Unfinished> {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => {
                let error = io::ErrorKind::WriteZero.into();
                return Err(Unfinished { written, error });
            }
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unfinished { written, error }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const NOW: i64 = 1_767_323_045_678;

    fn file(max_size: u64, max_files: usize) -> (tempfile::TempDir, TrailFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = TrailFile::open(&folder.path().join("audit.log"), max_size, max_files);
        (folder, file.unwrap())
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut torn = open(&path, 0o640).unwrap();
        torn.write_all(b"{\"a\":1}\n{\"tor").unwrap();
        let mut file = TrailFile::open(&path, 0, 0).unwrap();
        for line in [b"{\"b\":2}\n", b"{\"c\":3}\n"] {
            file.append(line, Timestamp::from_unix_millis(NOW)).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"tor\n{\"b\":2}\n{\"c\":3}\n");
        // Whoever gave others leave to read it meant that.
        assert_eq!(file.file.metadata().unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn full_files_get_a_time_and_the_oldest_go() {
        let (folder, mut file) = file(20, 2);
        File::create(folder.path().join("audit.log.bak")).unwrap();
        for second in 0..5 {
            let now = Timestamp::from_unix_millis(NOW + 1000 * second);
            file.append(b"{\"a line\":1}\n", now).unwrap();
        }
        let expected = [
            "audit.log",
            "audit.log.20260102T030408678Z",
            "audit.log.20260102T030409678Z",
            "audit.log.bak",
        ];
        assert_eq!(names(&folder), expected);
        for name in &expected[..3] {
            let path = folder.path().join(name);
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn two_full_files_of_one_moment_are_two() {
        let (folder, mut file) = file(20, 0);
        for _ in 0..4 {
            file.append(b"{\"a line\":1}\n", Timestamp::from_unix_millis(NOW))
                .unwrap();
        }
        assert_eq!(names(&folder).len(), 4);
    }

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_another() {
        let (folder, mut file) = file(0, 0);
        let now = Timestamp::from_unix_millis(NOW);
        file.append(b"1\n", now).unwrap();
        let moved = folder.path().join("audit.log.1");
        std::fs::rename(folder.path().join("audit.log"), &moved).unwrap();
        file.append(b"2\n", now).unwrap();
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "1\n");
        let new = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
        assert_eq!(new, "2\n");
    }

    #[test]
    fn what_is_written_before_the_end_of_space_is_known() {
        let mut space = [0; 10];
        let unfinished = write_all(&mut &mut space[..], b"12\n456\n89\nbc\n").unwrap_err();
        assert_eq!(unfinished.written, 10);
        assert_eq!(&space, b"12\n456\n89\n");
        write_all(&mut &mut space[..], b"12\n").unwrap();
    }
}
