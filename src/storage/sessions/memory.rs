//! [`MemorySessions`]: sessions of a single node. Whatever is under way when the process ends is
//! begun again.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::{
    Claim, LOGINS, SECOND_FACTORS, SessionRecord, SessionStore,
    room::{Id, Room},
};
use crate::{
    models::{SessionPurpose, Timestamp, Username},
    storage::StorageError,
};

const MAX_CLAIMS: u64 = 10_000;
/// Longer than any claim matters.
const CLAIMS_LAST: Duration = Duration::from_secs(2 * 3600);

/// Sessions in memory.
#[derive(Debug)]
pub struct MemorySessions {
    rooms: Mutex<Rooms>,
    passes: Mutex<HashMap<String, (Username, Timestamp)>>,
    claims: Cache<String, Claim>,
}

#[derive(Debug)]
struct Rooms {
    logins: Room,
    second_factors: Room,
}

impl Default for MemorySessions {
    fn default() -> Self {
        Self {
            rooms: Mutex::new(Rooms {
                logins: Room::new(LOGINS),
                second_factors: Room::new(SECOND_FACTORS),
            }),
            passes: Mutex::default(),
            claims: Cache::builder()
                .max_capacity(MAX_CLAIMS)
                .time_to_live(CLAIMS_LAST)
                .build(),
        }
    }
}

impl Rooms {
    /// The room that has the session `id`, and its number there.
    fn find(&mut self, id: &Id) -> Option<(&mut Room, u64)> {
        let rooms = [&mut self.logins, &mut self.second_factors];
        let mut found = rooms
            .into_iter()
            .filter_map(|room| room.number_of(id).map(|number| (room, number)));
        found.next()
    }

    fn session(&mut self, id: &Id) -> Option<&mut SessionRecord> {
        let (room, number) = self.find(id)?;
        room.get_mut(number)
    }
}

#[async_trait]
impl SessionStore for MemorySessions {
    async fn begin(&self, session: SessionRecord, now: Timestamp) -> Result<bool, StorageError> {
        let mut rooms = self.rooms.lock();
        let room = match session.purpose {
            SessionPurpose::Login { .. } => &mut rooms.logins,
            SessionPurpose::SecondFactor { .. } => &mut rooms.second_factors,
        };
        Ok(room.add(session, now).is_some())
    }

    async fn of_page(&self, page: &str) -> Result<Option<SessionRecord>, StorageError> {
        let id = Id::Page(page.to_owned());
        Ok(self.rooms.lock().session(&id).cloned())
    }

    async fn of_client(&self, done: &str) -> Result<Option<SessionRecord>, StorageError> {
        let id = Id::Done(done.to_owned());
        Ok(self.rooms.lock().session(&id).cloned())
    }

    async fn answer(
        &self,
        page: &str,
        token: Option<String>,
        expires: Timestamp,
    ) -> Result<bool, StorageError> {
        let id = Id::Page(page.to_owned());
        let mut rooms = self.rooms.lock();
        let session = rooms.session(&id).filter(|session| !session.is_answered);
        let is_first = session.is_some();
        if let Some(session) = session {
            session.is_answered = true;
            session.token = token;
            session.expires = expires;
        }
        Ok(is_first)
    }

    async fn take(&self, done: &str) -> Result<Option<SessionRecord>, StorageError> {
        let id = Id::Done(done.to_owned());
        let mut rooms = self.rooms.lock();
        if !rooms
            .session(&id)
            .is_some_and(|session| session.is_answered)
        {
            return Ok(None);
        }
        Ok(rooms
            .find(&id)
            .and_then(|(room, number)| room.remove(number)))
    }

    async fn add_pass(
        &self,
        hash: &str,
        user: &Username,
        expires: Timestamp,
    ) -> Result<(), StorageError> {
        let pass = (user.clone(), expires);
        self.passes.lock().insert(hash.to_owned(), pass);
        Ok(())
    }

    async fn pass(&self, hash: &str) -> Result<Option<(Username, Timestamp)>, StorageError> {
        Ok(self.passes.lock().get(hash).cloned())
    }

    async fn claim(
        &self,
        key: &str,
        claim: Claim,
        _until: Timestamp,
    ) -> Result<Claim, StorageError> {
        Ok(self.claims.get_with(key.to_owned(), || claim))
    }

    async fn claimed(&self, key: &str) -> Result<Option<Claim>, StorageError> {
        Ok(self.claims.get(key))
    }

    async fn prune(&self, now: Timestamp) -> Result<(), StorageError> {
        let mut passes = self.passes.lock();
        passes.retain(|_, (_, expires)| *expires > now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::sessions::conformance::{at, login, session_store};

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        let store: Arc<dyn SessionStore> = Arc::new(MemorySessions::default());
        session_store([Arc::clone(&store), store]).await;
    }

    #[tokio::test]
    async fn a_flood_from_everywhere_is_bounded_and_falls_on_whoever_has_most() {
        let store = MemorySessions::default();
        let other = login(&store, "192.0.2.1", at(0)).await;
        for number in 0..12_000 {
            let network = number % 200;
            login(&store, &format!("2001:db8:0:{network:x}::1"), at(1)).await;
        }
        assert_eq!(store.rooms.lock().logins.len(), 10_000);
        assert!(store.of_client(&other.done).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_flood_from_one_network_takes_little_room() {
        let store = MemorySessions::default();
        for host in 0..1000 {
            login(&store, &format!("2001:db8::{host}"), at(1)).await;
        }
        assert_eq!(store.rooms.lock().logins.len(), 100);
    }
}
