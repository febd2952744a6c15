//! [`Imported`]: what has come of an import.

use std::fmt;

use serde::Serialize;

/// What has come of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Whether nothing was written, and counts say what would be.
    pub dry_run: bool,
    /// How many packages were looked at.
    pub packages: usize,
    /// Packages of which something was written.
    pub changed: usize,
    /// Packages that were as they should be.
    pub unchanged: usize,
    /// Versions that were added.
    pub versions: usize,
    /// Versions that were there.
    pub same: usize,
    /// Tarballs that were downloaded.
    pub tarballs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Users that were added.
    pub users: usize,
    /// Versions that are here with other bytes or were unpublished here, and were left as they are.
    pub conflicts: Vec<String>,
    /// Versions whose tarball has other bytes in the source than it says.
    pub damaged: Vec<String>,
    /// Packages, and versions whose tarball, the source does not have.
    pub missing: Vec<String>,
    /// What could not be read or written, with the reason.
    pub failures: Vec<String>,
    /// What is another here on purpose and may be worth a look.
    pub notes: Vec<String>,
}

impl Imported {
    /// Whether all that was asked for is here.
    pub fn is_complete(&self) -> bool {
        let lists = [
            &self.conflicts,
            &self.damaged,
            &self.missing,
            &self.failures,
        ];
        lists.iter().all(|list| list.is_empty())
    }

    pub(super) fn add(&mut self, other: Self) {
        self.packages += other.packages;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.versions += other.versions;
        self.same += other.same;
        self.tarballs += other.tarballs;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.users += other.users;
        self.conflicts.extend(other.conflicts);
        self.damaged.extend(other.damaged);
        self.missing.extend(other.missing);
        self.failures.extend(other.failures);
        self.notes.extend(other.notes);
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, each) in [
            ("left as it is here", &self.conflicts),
            ("damaged in the source", &self.damaged),
            ("missing in the source", &self.missing),
            ("failed", &self.failures),
            ("note", &self.notes),
        ] {
            for one in each {
                writeln!(f, "{what}: {one}")?;
            }
        }
        let (changed, added) = if self.dry_run {
            ("would change", "would be added")
        } else {
            ("imported", "added")
        };
        writeln!(
            f,
            "packages: {}, {} {changed}, {} as they should be",
            self.packages, self.changed, self.unchanged
        )?;
        write!(
            f,
            "versions: {} {added}, {} here already",
            self.versions, self.same
        )?;
        if self.users > 0 {
            write!(f, "\nusers: {} {added}", self.users)?;
        }
        if self.tarballs > 0 {
            write!(
                f,
                "\ndownloaded: {} tarballs, {} bytes",
                self.tarballs, self.bytes
            )?;
        }
        Ok(())
    }
}
