//! [`Sessions`]: logins and second factors that wait for somebody in a browser.
//!
//! They are kept in memory: whatever is under way when the process ends is begun again. Anybody may
//! begin a login, so there is room for so many of one network and so many in all; whoever wants
//! more pushes out the oldest of her own.

mod room;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use secrecy::SecretString;

use self::room::{Id, Limits, Owner, Room, Session, State};
use crate::{
    error::RegistryError,
    models::{Timestamp, Username},
};

/// Logins of one network, and of all.
const LOGINS: Limits = Limits {
    per_owner: 100,
    total: 10_000,
};
/// Second factors of one user, and of all. They begin only for who has shown credentials.
const SECOND_FACTORS: Limits = Limits {
    per_owner: 20,
    total: 10_000,
};
/// What a client has at least to fetch an answer; it asks every few seconds.
const TIME_TO_FETCH: Duration = Duration::from_secs(30);

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionPurpose {
    /// A client wants a token; whoever signs in on the page gives it hers.
    Login {
        /// Whether the client was asked to make an account.
        wants_account: bool,
    },
    /// A client wants a one-time pass of this user.
    SecondFactor {
        /// Whose second factor it is.
        user: Username,
    },
}

/// Who asks, as the page shows it. Only the address is not the client's own word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedBy {
    /// The client's name for itself.
    pub client: String,
    /// Its name for the machine that it runs on.
    pub machine: Option<String>,
    /// Where it asks from.
    pub address: Option<IpAddr>,
}

/// The two names of a session. Neither tells the other: the page's address is shown around, and
/// must not be enough to fetch what the client waits for.
#[derive(Clone, Debug)]
pub struct SessionIds {
    /// For the page.
    pub page: String,
    /// For the client that waits.
    pub done: String,
}

/// A session as its page shows it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// What it is for.
    pub purpose: SessionPurpose,
    /// Who asks.
    pub asked_by: AskedBy,
    /// Whether nobody has answered yet.
    pub is_pending: bool,
}

/// What has come of a session that a client waits for.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nobody has answered.
    Pending,
    /// Somebody has signed in: the token.
    Token(SecretString),
    /// This user has shown her second factor.
    Confirmed(Username),
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    inner: Mutex<Inner>,
    lifetime: Duration,
}

#[derive(Debug)]
struct Inner {
    logins: Room,
    second_factors: Room,
}

/// One-time passes that were fetched, by their SHA-256: whose they are, and until when. Cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes(Arc<Mutex<HashMap<String, (Username, Timestamp)>>>);

impl Passes {
    /// Lets `user` show the pass with this hash as her second factor until `expires`.
    pub(super) fn add(&self, hash: String, user: Username, expires: Timestamp, now: Timestamp) {
        let mut passes = self.0.lock();
        passes.retain(|_, (_, expires)| *expires > now);
        passes.insert(hash, (user, expires));
    }

    /// Whether the pass with this hash is one of `user`, who showed it at `at`.
    pub(super) fn has(&self, hash: &str, user: &Username, at: Timestamp) -> bool {
        let passes = self.0.lock();
        let pass = passes.get(hash);
        pass.is_some_and(|(whose, expires)| whose == user && *expires > at)
    }
}

impl Inner {
    /// The room that has the session `id`, and its number there.
    fn find(&mut self, id: &Id) -> Result<(&mut Room, u64), RegistryError> {
        let rooms = [&mut self.logins, &mut self.second_factors];
        let mut found = rooms
            .into_iter()
            .filter_map(|room| room.number_of(id).map(|number| (room, number)));
        found.next().ok_or_else(unknown)
    }

    fn session(&mut self, id: &Id, now: Timestamp) -> Result<&mut Session, RegistryError> {
        let (room, number) = self.find(id)?;
        let session = room.get_mut(number).ok_or_else(unknown)?;
        if session.is_expired(now) {
            return Err(RegistryError::unauthorized("session token expired"));
        }
        Ok(session)
    }
}

impl Sessions {
    /// None yet; each will live for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            inner: Mutex::new(Inner {
                logins: Room::new(LOGINS),
                second_factors: Room::new(SECOND_FACTORS),
            }),
            lifetime,
        }
    }

    /// Begins a session.
    pub(super) fn begin(
        &self,
        purpose: SessionPurpose,
        asked_by: AskedBy,
        now: Timestamp,
    ) -> Result<SessionIds, RegistryError> {
        let id = || uuid::Uuid::new_v4().to_string();
        let (page, done) = (id(), id());
        let mut inner = self.inner.lock();
        let (owner, room) = match &purpose {
            SessionPurpose::Login { .. } => {
                let network = asked_by.address.map(network_of);
                (Owner::Network(network), &mut inner.logins)
            }
            SessionPurpose::SecondFactor { user } => {
                (Owner::User(user.clone()), &mut inner.second_factors)
            }
        };
        let session = Session {
            ids: [Id::Page(page.clone()), Id::Done(done.clone())],
            owner,
            purpose,
            asked_by,
            state: State::Pending,
            expires: now.plus(self.lifetime),
        };
        if room.add(session, now) {
            Ok(SessionIds { page, done })
        } else {
            Err(RegistryError::RateLimited {
                message: "too many logins are under way, try again in a minute".to_owned(),
                retry_after: Duration::from_secs(60),
            })
        }
    }

    /// The session of a page; 400 for one that there is not, 401 for one that has ended.
    pub(super) fn of_page(&self, page: &str, now: Timestamp) -> Result<SessionView, RegistryError> {
        let mut inner = self.inner.lock();
        let session = inner.session(&Id::Page(page.to_owned()), now)?;
        Ok(SessionView {
            purpose: session.purpose.clone(),
            asked_by: session.asked_by.clone(),
            is_pending: matches!(session.state, State::Pending),
        })
    }

    /// Answers the session of a page, a login with its token. `false`: it was answered already.
    pub(super) fn answer(
        &self,
        page: &str,
        token: Option<SecretString>,
        now: Timestamp,
    ) -> Result<bool, RegistryError> {
        let mut inner = self.inner.lock();
        let session = inner.session(&Id::Page(page.to_owned()), now)?;
        if !matches!(session.state, State::Pending) {
            return Ok(false);
        }
        session.state = State::Answered { token };
        session.expires = session.expires.max(now.plus(TIME_TO_FETCH));
        Ok(true)
    }

    /// What has come of the session that a client waits for. An answer is given once; then there
    /// is no such session.
    pub(super) fn fetch(&self, done: &str, now: Timestamp) -> Result<Outcome, RegistryError> {
        let mut inner = self.inner.lock();
        let id = Id::Done(done.to_owned());
        if matches!(inner.session(&id, now)?.state, State::Pending) {
            return Ok(Outcome::Pending);
        }
        let (room, number) = inner.find(&id)?;
        let session = room.remove(number).ok_or_else(unknown)?;
        match (session.purpose, session.state) {
            (SessionPurpose::SecondFactor { user }, _) => Ok(Outcome::Confirmed(user)),
            (_, State::Answered { token: Some(token) }) => Ok(Outcome::Token(token)),
            (_, State::Answered { token: None } | State::Pending) => Err(unknown()),
        }
    }
}

fn unknown() -> RegistryError {
    RegistryError::bad_request("session id is invalid")
}

/// What one client can choose freely of an IPv6 address does not count.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(120);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    fn login(sessions: &Sessions, address: &str, now: Timestamp) -> SessionIds {
        let asked_by = AskedBy {
            address: Some(address.parse().unwrap()),
            ..AskedBy::default()
        };
        let purpose = SessionPurpose::Login {
            wants_account: false,
        };
        sessions.begin(purpose, asked_by, now).unwrap()
    }

    #[test]
    fn the_page_does_not_fetch_and_the_client_does_not_answer() {
        let sessions = Sessions::new(LIFETIME);
        let SessionIds { page, done } = login(&sessions, "192.0.2.1", at(0));
        assert_eq!((page.len(), done.len()), (36, 36));
        sessions.fetch(&page, at(0)).unwrap_err();
        sessions.answer(&done, None, at(0)).unwrap_err();
        assert!(sessions.answer(&page, Some("t".into()), at(0)).unwrap());
        assert!(!sessions.answer(&page, Some("u".into()), at(0)).unwrap());
        sessions.fetch(&page, at(0)).unwrap_err();
        let outcome = sessions.fetch(&done, at(0)).unwrap();
        assert!(matches!(outcome, Outcome::Token(_)), "{outcome:?}");
        sessions.fetch(&done, at(0)).unwrap_err();
    }

    #[test]
    fn sessions_end() {
        let sessions = Sessions::new(LIFETIME);
        let status = |result: Result<Outcome, RegistryError>| {
            result.map_or_else(|error| error.status().as_u16(), |_| 200)
        };
        let late = login(&sessions, "192.0.2.1", at(0));
        assert_eq!(status(sessions.fetch(&late.done, at(119))), 200);
        assert_eq!(status(sessions.fetch(&late.done, at(120))), 401);
        sessions.of_page(&late.page, at(120)).unwrap_err();
        sessions.answer(&late.page, None, at(120)).unwrap_err();
        // Who answers in the last second is not lost to a client that asks every five.
        let close = login(&sessions, "192.0.2.1", at(200));
        sessions
            .answer(&close.page, Some("t".into()), at(319))
            .unwrap();
        assert_eq!(status(sessions.fetch(&close.done, at(325))), 200);
        login(&sessions, "192.0.2.1", at(10_000));
        assert_eq!(status(sessions.fetch(&late.done, at(10_000))), 400);
    }

    #[test]
    fn a_flood_from_one_network_drowns_only_itself() {
        let sessions = Sessions::new(LIFETIME);
        let fetches = |ids: &SessionIds| sessions.fetch(&ids.done, at(1)).is_ok();
        let other = login(&sessions, "192.0.2.1", at(0));
        let answered = login(&sessions, "2001:db8::1", at(0));
        sessions
            .answer(&answered.page, Some("t".into()), at(0))
            .unwrap();
        let first = login(&sessions, "2001:db8::1", at(0));
        for host in 0..1000 {
            login(&sessions, &format!("2001:db8::{host}"), at(1));
        }
        assert!(!fetches(&first));
        assert!(fetches(&other) && fetches(&answered));
        assert!(sessions.inner.lock().logins.len() <= 101);
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_falls_on_whoever_has_most() {
        let sessions = Sessions::new(LIFETIME);
        let other = login(&sessions, "192.0.2.1", at(0));
        for number in 0..12_000 {
            let network = number % 200;
            login(&sessions, &format!("2001:db8:0:{network:x}::1"), at(1));
        }
        assert_eq!(sessions.inner.lock().logins.len(), 10_000);
        assert!(sessions.fetch(&other.done, at(1)).is_ok());
        let user: Username = "alice".parse().unwrap();
        let purpose = SessionPurpose::SecondFactor { user: user.clone() };
        let own = sessions.begin(purpose, AskedBy::default(), at(1)).unwrap();
        sessions.answer(&own.page, None, at(1)).unwrap();
        let outcome = sessions.fetch(&own.done, at(1)).unwrap();
        assert!(matches!(outcome, Outcome::Confirmed(whose) if whose == user));
    }

    #[test]
    fn passes_are_their_users_and_end() {
        let passes = Passes::default();
        let (alice, bob): (Username, Username) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        passes.add("hash".to_owned(), alice.clone(), at(300), at(0));
        assert!(passes.has("hash", &alice, at(299)));
        assert!(!passes.has("hash", &bob, at(299)));
        assert!(!passes.has("hash", &alice, at(300)));
        assert!(!passes.has("other", &alice, at(0)));
    }
}
