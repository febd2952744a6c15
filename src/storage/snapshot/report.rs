//! [`Taken`]: what has come of making a snapshot.

use std::fmt;

use serde::Serialize;

/// What has come of making a snapshot.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Taken {
    /// Packages.
    pub packages: usize,
    /// Tarballs that were copied.
    pub copied: usize,
    /// Tarballs that an earlier snapshot has.
    pub linked: usize,
    /// Users, tokens and organisations.
    pub accounts: usize,
    /// How many tarballs of upstream a manifest of Verdaccio names that were never fetched.
    pub never_fetched: usize,
    /// What the source does not have as it should, and the snapshot has from the one before.
    pub rescued: Vec<String>,
    /// What the snapshot lacks, or has as it was before, each with the reason.
    pub lacking: Vec<String>,
    /// Whether the source could not be read.
    #[serde(skip)]
    pub(super) has_failed: bool,
}

impl Taken {
    /// Whether the snapshot has all that was ever acknowledged, as far as manifests tell.
    pub fn is_complete(&self) -> bool {
        self.lacking.is_empty()
    }

    /// Notes that the snapshot lacks `what`.
    pub fn lacks(&mut self, what: String) {
        self.lacking.push(what);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.packages += other.packages;
        self.copied += other.copied;
        self.linked += other.linked;
        self.accounts += other.accounts;
        self.never_fetched += other.never_fetched;
        self.rescued.extend(other.rescued);
        self.lacking.extend(other.lacking);
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "users, tokens, organisations: {}", self.accounts)?;
        writeln!(f, "packages: {}", self.packages)?;
        let (copied, linked) = (self.copied, self.linked);
        write!(
            f,
            "tarballs: {copied} copied, {linked} in an earlier snapshot"
        )?;
        if self.never_fetched > 0 {
            let count = self.never_fetched;
            write!(f, "\ntarballs of upstream that were never fetched: {count}")?;
        }
        for line in &self.rescued {
            write!(f, "\nfrom the snapshot before: {line}")?;
        }
        for line in &self.lacking {
            write!(f, "\n{line}")?;
        }
        Ok(())
    }
}
