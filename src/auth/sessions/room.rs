//! [`Room`]: sessions of one kind, and how many there may be.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use secrecy::SecretString;

use super::{AskedBy, SessionPurpose};
use crate::models::{Timestamp, Username};

/// How long ended sessions are remembered where there is room, so that clients hear that they came
/// too late.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) per_owner: usize,
    pub(super) total: usize,
}

/// One of the two names of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Page(String),
    Done(String),
}

/// Who takes up room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Network(Option<IpAddr>),
    User(Username),
}

/// What has become of a session.
#[derive(Debug)]
pub(super) enum State {
    Pending,
    Answered { token: Option<SecretString> },
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) ids: [Id; 2],
    pub(super) owner: Owner,
    pub(super) purpose: SessionPurpose,
    pub(super) asked_by: AskedBy,
    pub(super) state: State,
    pub(super) expires: Timestamp,
}

impl Session {
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }
}

/// Sessions, numbered in the order in which they began.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    next: u64,
    sessions: BTreeMap<u64, Session>,
    numbers: HashMap<Id, u64>,
    /// How many each has.
    held: HashMap<Owner, usize>,
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

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&number)
    }

    /// Adds a session. `false`: there is no room, because all that is there was answered and waits
    /// to be fetched.
    pub(super) fn add(&mut self, session: Session, now: Timestamp) -> bool {
        self.forget(now);
        if !self.make_room(&session.owner, now) {
            return false;
        }
        let number = self.next;
        self.next += 1;
        for id in &session.ids {
            self.numbers.insert(id.clone(), number);
        }
        *self.held.entry(session.owner.clone()).or_default() += 1;
        self.sessions.insert(number, session);
        true
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Session> {
        let session = self.sessions.remove(&number)?;
        for id in &session.ids {
            self.numbers.remove(id);
        }
        if let Some(held) = self.held.get_mut(&session.owner) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&session.owner);
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
    fn make_room(&mut self, owner: &Owner, now: Timestamp) -> bool {
        let has_too_many = self
            .held
            .get(owner)
            .is_some_and(|held| *held >= self.limits.per_owner);
        let loser = if has_too_many {
            Some(owner)
        } else if self.sessions.len() >= self.limits.total {
            let most = self.held.iter().max_by_key(|(_, held)| **held);
            most.map(|(owner, _)| owner)
        } else {
            return true;
        };
        let oldest = self.sessions.iter().find(|(_, session)| {
            let is_open = matches!(session.state, State::Pending) || session.is_expired(now);
            Some(&session.owner) == loser && is_open
        });
        let oldest = oldest.map(|(number, _)| *number);
        oldest.is_some_and(|number| self.remove(number).is_some())
    }
}
