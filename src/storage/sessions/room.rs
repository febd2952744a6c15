//! [`Room`]: sessions of one kind, and how many there may be.

use std::collections::{BTreeMap, HashMap};

use super::{Limits, REMEMBERED_FOR, SessionRecord};
use crate::models::Timestamp;

/// One of the two names of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Page(String),
    Done(String),
}

/// Sessions, numbered in the order in which they began.
#[derive(Debug)]
pub(in crate::storage) struct Room {
    limits: Limits,
    next: u64,
    sessions: BTreeMap<u64, SessionRecord>,
    numbers: HashMap<Id, u64>,
    /// How many each has.
    held: HashMap<String, usize>,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            sessions: BTreeMap::new(),
            numbers: HashMap::new(),
            held: HashMap::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn number_of(&self, id: &Id) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut SessionRecord> {
        self.sessions.get_mut(&number)
    }

    /// Adds a session; what was pushed out for it. `None`: there is no room, because all that is
    /// there was answered and waits to be fetched.
    pub(in crate::storage) fn add(
        &mut self,
        session: SessionRecord,
        now: Timestamp,
    ) -> Option<Vec<SessionRecord>> {
        self.forget(now);
        let owner = session.owner();
        let pushed_out = self.make_room(&owner, now)?;
        let number = self.next;
        self.next += 1;
        for id in ids_of(&session) {
            self.numbers.insert(id, number);
        }
        *self.held.entry(owner).or_default() += 1;
        self.sessions.insert(number, session);
        Some(pushed_out)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<SessionRecord> {
        let session = self.sessions.remove(&number)?;
        for id in ids_of(&session) {
            self.numbers.remove(&id);
        }
        let owner = session.owner();
        if let Some(held) = self.held.get_mut(&owner) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&owner);
            }
        }
        Some(session)
    }

    /// Forgets what ended long ago.
    fn forget(&mut self, now: Timestamp) {
        while let Some((&number, oldest)) = self.sessions.first_key_value()
            && oldest.expires.plus(REMEMBERED_FOR) <= now
        {
            self.remove(number);
        }
    }

    /// Removes the oldest session of `owner` if she has too many, else of whoever has most if
    /// there are too many in all. One that was answered stays until it is fetched.
    fn make_room(&mut self, owner: &str, now: Timestamp) -> Option<Vec<SessionRecord>> {
        let has_too_many = self
            .held
            .get(owner)
            .is_some_and(|held| *held >= self.limits.per_owner);
        let loser = if has_too_many {
            Some(owner.to_owned())
        } else if self.sessions.len() >= self.limits.total {
            let most = self.held.iter().max_by_key(|(_, held)| **held);
            most.map(|(owner, _)| owner.clone())
        } else {
            return Some(Vec::new());
        };
        let oldest = self.sessions.iter().find(|(_, session)| {
            let is_open = !session.is_answered || session.is_expired(now);
            is_open && Some(session.owner()) == loser
        });
        let oldest = oldest.map(|(number, _)| *number);
        let removed = self.remove(oldest?)?;
        Some(vec![removed])
    }
}

fn ids_of(session: &SessionRecord) -> [Id; 2] {
    [
        Id::Page(session.page.clone()),
        Id::Done(session.done.clone()),
    ]
}
