//! Which marks keep settings from being served, and what a finished move changes of them. Nothing here is
//! read or written.

use super::Destination;
use crate::config::{Config, MetadataBackend, TarballBackend};

/// One of the grounds that settings name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runtime) enum Spot {
    Folder,
    Bucket,
    Database,
}

/// What of settings decides where things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Arrangement {
    pub(in crate::runtime) has_database: bool,
    pub(in crate::runtime) has_bucket: bool,
}

/// A change of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Change {
    Set(Spot, Destination),
    Remove(Spot, Destination),
}

impl Arrangement {
    pub(in crate::runtime) fn of(config: &Config) -> Self {
        Self {
            has_database: config.storage.metadata != MetadataBackend::Sidecar,
            has_bucket: config.storage.tarballs != TarballBackend::Local,
        }
    }

    /// Where tarballs are.
    pub(super) fn tarballs(self) -> Spot {
        if self.has_bucket {
            Spot::Bucket
        } else {
            Spot::Folder
        }
    }

    /// Each mark that keeps it from being served: one of it says that the newest is elsewhere.
    pub(super) fn looked_for(self) -> Vec<(Spot, Destination)> {
        let tarballs = self.tarballs();
        let moved_on = if self.has_bucket {
            Destination::Folder
        } else {
            Destination::Bucket
        };
        let of_metadata = if self.has_database {
            (Spot::Database, Destination::Tarballs)
        } else {
            (tarballs, Destination::Postgres)
        };
        vec![of_metadata, (tarballs, moved_on)]
    }

    /// The mark that tells of it once all of it was moved to `to`.
    pub(in crate::runtime) fn moved_to(self, to: Self) -> (Spot, Destination) {
        let tarballs = self.tarballs();
        match (self.has_database, to.has_database) {
            (false, true) => (tarballs, Destination::Postgres),
            (true, false) => (Spot::Database, Destination::Tarballs),
            _ if to.has_bucket => (tarballs, Destination::Bucket),
            _ => (tarballs, Destination::Folder),
        }
    }

    /// What is being filled while everything of `from` is moved here.
    pub(in crate::runtime) fn filled_from(self, from: Self) -> Spot {
        if self.has_database && !from.has_database {
            Spot::Database
        } else {
            self.tarballs()
        }
    }

    /// What is changed once everything was moved to `to`, in this order. The source is marked first: both
    /// would be served otherwise, where this is broken off. Then the target gets the mark of what has
    /// tarballs alone, if it has, and loses those that keep it from being served.
    pub(in crate::runtime) fn changes(self, to: Self) -> Vec<Change> {
        let (spot, destination) = self.moved_to(to);
        let mut changes = vec![Change::Set(spot, destination)];
        if self.has_database && to.has_database {
            changes.push(Change::Set(to.tarballs(), Destination::Postgres));
        }
        let removed = to.looked_for().into_iter();
        changes.extend(removed.map(|(spot, mark)| Change::Remove(spot, mark)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Arrangement; 4] = [
        of(false, false),
        of(false, true),
        of(true, false),
        of(true, true),
    ];

    const fn of(has_database: bool, has_bucket: bool) -> Arrangement {
        Arrangement {
            has_database,
            has_bucket,
        }
    }

    /// What there would be of marks, of all grounds.
    #[derive(Clone, Default)]
    struct World {
        marks: BTreeSet<(Spot, &'static str)>,
        /// What is being filled, and whether it had tarballs before.
        filled: Option<(Spot, bool)>,
        /// Where something was ever written.
        used: BTreeSet<Spot>,
    }

    impl World {
        fn change(&mut self, change: Change) {
            match change {
                Change::Set(spot, mark) => self.marks.insert((spot, mark.name())),
                Change::Remove(spot, mark) => self.marks.remove(&(spot, mark.name())),
            };
        }

        /// Whether a registry would start, and have something to serve.
        fn serves(&self, settings: Arrangement) -> bool {
            let is_used = self.used.contains(&settings.tarballs())
                && (!settings.has_database || self.used.contains(&Spot::Database));
            let mut marks = settings.looked_for().into_iter();
            let is_marked = marks.any(|(spot, mark)| self.marks.contains(&(spot, mark.name())));
            let is_filled = self.filled.is_some_and(|(spot, had_tarballs)| {
                let is_named =
                    spot == settings.tarballs() || settings.has_database && spot == Spot::Database;
                let concerns_tarballs = settings.has_database && spot != Spot::Database;
                is_named && !(had_tarballs && concerns_tarballs)
            });
            is_used && !is_marked && !is_filled
        }

        fn served(&self) -> Vec<Arrangement> {
            ALL.into_iter().filter(|one| self.serves(*one)).collect()
        }
    }

    fn is_one_move(from: Arrangement, to: Arrangement) -> bool {
        (from.has_database == to.has_database) != (from.has_bucket == to.has_bucket)
    }

    /// Every way of `moves` moves from `newest`, each broken off after each change and finished then.
    fn walk(world: &World, newest: Arrangement, moves: u32, seen: &mut u32) {
        *seen += 1;
        assert_eq!(world.served(), [newest], "{:?}", world.marks);
        if moves == 0 {
            return;
        }
        for to in ALL.into_iter().filter(|to| is_one_move(newest, *to)) {
            let changes = newest.changes(to);
            let mut after = world.clone();
            let had_tarballs = newest.has_bucket == to.has_bucket;
            after.filled = Some((to.filled_from(newest), had_tarballs));
            after.used.insert(to.tarballs());
            if to.has_database {
                after.used.insert(Spot::Database);
            }
            // Broken off before anything was marked.
            assert_eq!(after.served(), [newest], "{newest:?} to {to:?}");
            for broken_off in 1..=changes.len() {
                let mut between = after.clone();
                for change in &changes[..broken_off] {
                    between.change(*change);
                }
                assert_eq!(between.served(), [], "{newest:?} to {to:?}");
                for change in &changes {
                    between.change(*change);
                }
                between.filled = None;
                assert_eq!(between.served(), [to], "{newest:?} to {to:?}");
            }
            for change in changes {
                after.change(change);
            }
            after.filled = None;
            walk(&after, to, moves - 1, seen);
        }
    }

    #[test]
    fn after_any_moves_the_newest_is_served_and_nothing_else() {
        for newest in ALL {
            let mut world = World::default();
            world.used.insert(newest.tarballs());
            if newest.has_database {
                world.used.insert(Spot::Database);
                // Tarballs alone are no registry.
                world.change(Change::Set(newest.tarballs(), Destination::Postgres));
            }
            let mut seen = 0;
            walk(&world, newest, 6, &mut seen);
            assert_eq!(seen, 127);
        }
    }
}
