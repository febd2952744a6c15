//! [`Moved`]: what has come of moving everything.

use std::fmt;

use serde::Serialize;

use crate::{error::explain, storage::StorageError};

/// What has become of things of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Moved now.
    pub moved: usize,
    /// There already, as in the source.
    pub same: usize,
    /// Taken from the target, because the source does not have them.
    pub removed: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.moved += other.moved;
        self.same += other.same;
        self.removed += other.removed;
    }
}

/// What has come of moving everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Moved {
    /// Keys.
    pub keys: Tally,
    /// Users, tokens and organisations.
    pub accounts: Tally,
    /// Manifests.
    pub packages: Tally,
    /// Tarballs; none where they stay where they are.
    pub tarballs: Tally,
    /// How many tarballs of upstream a manifest of Verdaccio names that were never fetched.
    pub never_fetched: usize,
    /// Tarballs, as `package/-/file`, that a manifest names and the source does not have.
    pub absent: Vec<String>,
    /// Tarballs that have other bytes in the source than their manifest says.
    pub damaged: Vec<String>,
    /// What is another in the target, and was left as it is there.
    pub conflicts: Vec<String>,
    /// What could not be read or written, with the reason.
    pub failures: Vec<String>,
}

impl Moved {
    /// Whether the target has all that the source can give, and nothing that contradicts it.
    pub fn has_moved_all(&self) -> bool {
        self.conflicts.is_empty() && self.failures.is_empty()
    }

    /// Whether the target has all that was ever acknowledged, as far as manifests tell.
    pub fn is_complete(&self) -> bool {
        self.has_moved_all() && self.absent.is_empty() && self.damaged.is_empty()
    }

    pub(super) fn fail(&mut self, what: impl fmt::Display, error: &StorageError) {
        self.failures.push(format!("{what}: {}", explain(error)));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.keys.add(other.keys);
        self.accounts.add(other.accounts);
        self.packages.add(other.packages);
        self.tarballs.add(other.tarballs);
        self.never_fetched += other.never_fetched;
        self.absent.extend(other.absent);
        self.damaged.extend(other.damaged);
        self.conflicts.extend(other.conflicts);
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} moved, {} there already", self.moved, self.same)?;
        if self.removed > 0 {
            write!(
                f,
                ", {} removed that the source does not have",
                self.removed
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "keys: {}", self.keys)?;
        writeln!(f, "users, tokens, organisations: {}", self.accounts)?;
        write!(f, "packages: {}", self.packages)?;
        if self.tarballs != Tally::default() {
            write!(f, "\ntarballs: {}", self.tarballs)?;
        }
        if self.never_fetched > 0 {
            let count = self.never_fetched;
            write!(f, "\ntarballs of upstream that were never fetched: {count}")?;
        }
        for (what, each) in [
            ("missing in the source", &self.absent),
            ("damaged in the source", &self.damaged),
            ("left as it is", &self.conflicts),
            ("failed", &self.failures),
        ] {
            for one in each {
                write!(f, "\n{what}: {one}")?;
            }
        }
        Ok(())
    }
}
