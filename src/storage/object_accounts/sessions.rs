//! [`ObjectSessions`]: logins that wait for a browser, passes and claims as objects in a bucket.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::Records;
use crate::{
    lifecycle::random_hex,
    models::{Timestamp, Username},
    storage::{
        StorageError,
        object::Precondition,
        sessions::{Claim, REMEMBERED_FOR, Room, SessionRecord, SessionStore, room_for},
    },
};

const PAGES: &str = "pages";
const CLIENTS: &str = "clients";
const PASSES: &str = "passes";
const CLAIMS: &str = "claims";

/// Keeps each session in an object below `pages/`, with its name for the client below `clients/`.
///
/// Each node counts the sessions that were begun on it, and pushes out the oldest of whoever has
/// too many of them there.
#[derive(Clone, Debug)]
pub struct ObjectSessions {
    records: Records,
    begun: Arc<Mutex<[Room; 2]>>,
}

/// A session as it is kept. Whoever takes it says so first, as objects are deleted without asking
/// what they have become.
#[derive(Serialize, Deserialize)]
struct Kept {
    session: SessionRecord,
    #[serde(default)]
    is_taken: bool,
    /// Another one in each write, so that none is taken for somebody else's.
    #[serde(default)]
    nonce: String,
}

/// A pass or a claim as it is kept.
#[derive(Serialize, Deserialize)]
struct Used {
    by: String,
    /// Milliseconds since the Unix epoch.
    at: i64,
    until: i64,
}

impl ObjectSessions {
    /// The sessions among `records`.
    pub fn new(records: Records) -> Self {
        Self {
            records,
            begun: Arc::new(Mutex::new(room_for())),
        }
    }

    fn page_path(&self, page: &str) -> Path {
        self.records.path(&[PAGES, page])
    }

    fn client_path(&self, done: &str) -> Path {
        self.records.path(&[CLIENTS, done])
    }

    fn claim_path(&self, key: &str) -> Path {
        let hash = hex::encode(sha2::Sha256::digest(key));
        self.records.path(&[CLAIMS, &hash])
    }

    async fn kept(&self, path: &Path) -> Result<Option<(Kept, Precondition)>, StorageError> {
        let found = self.records.get(path).await?;
        Ok(found.map(|found| (found.record, Precondition::Matches(found.tag))))
    }

    async fn used(&self, path: &Path) -> Result<Option<Used>, StorageError> {
        Ok(self.records.get(path).await?.map(|found| found.record))
    }

    /// The page of a client's session.
    async fn page_of(&self, done: &str) -> Result<Option<String>, StorageError> {
        let found = self.records.bytes(&self.client_path(done)).await?;
        Ok(found.and_then(|page| String::from_utf8(page.record.to_vec()).ok()))
    }

    async fn delete(&self, session: &SessionRecord) -> Result<(), StorageError> {
        self.records
            .delete(&self.client_path(&session.done))
            .await?;
        self.records.delete(&self.page_path(&session.page)).await
    }

    async fn prune_used(&self, folder: &str, now: Timestamp) -> Result<(), StorageError> {
        for (path, _) in self.records.list(&[folder]).await? {
            let used = self.used(&path).await?;
            if used.is_some_and(|used| used.until <= now.unix_millis()) {
                self.records.delete(&path).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SessionStore for ObjectSessions {
    async fn begin(&self, session: SessionRecord, now: Timestamp) -> Result<bool, StorageError> {
        let pushed_out = {
            let mut begun = self.begun.lock();
            let [logins, second_factors] = &mut *begun;
            let room = if session.is_login() {
                logins
            } else {
                second_factors
            };
            match room.add(session.clone(), now) {
                Some(pushed_out) => pushed_out,
                None => return Ok(false),
            }
        };
        for old in pushed_out {
            // One that was answered on another node stays until it is fetched.
            let kept = self.of_page(&old.page).await?;
            if kept.is_some_and(|kept| !kept.is_answered || kept.is_expired(now)) {
                self.delete(&old).await?;
            }
        }
        let page = self.page_path(&session.page);
        let client = self.client_path(&session.done);
        let name = session.page.clone().into();
        let kept = Kept {
            session,
            is_taken: false,
            nonce: String::new(),
        };
        self.records.put_own(&page, &kept).await?;
        self.records.put_own_bytes(&client, name).await?;
        Ok(true)
    }

    async fn of_page(&self, page: &str) -> Result<Option<SessionRecord>, StorageError> {
        let found = self.kept(&self.page_path(page)).await?;
        Ok(found
            .filter(|(kept, _)| !kept.is_taken)
            .map(|(kept, _)| kept.session))
    }

    async fn of_client(&self, done: &str) -> Result<Option<SessionRecord>, StorageError> {
        match self.page_of(done).await? {
            Some(page) => self.of_page(&page).await,
            None => Ok(None),
        }
    }

    async fn answer(
        &self,
        page: &str,
        token: Option<String>,
        expires: Timestamp,
    ) -> Result<bool, StorageError> {
        let path = self.page_path(page);
        let found = self.kept(&path).await?;
        let Some((mut kept, as_read)) = found.filter(|(kept, _)| !kept.session.is_answered) else {
            return Ok(false);
        };
        kept.session.is_answered = true;
        kept.session.token = token;
        kept.session.expires = expires;
        kept.nonce = random_hex::<8>();
        // Only an answer changes it before that.
        let answered = self.records.put(&path, &kept, &as_read).await?;
        Ok(answered.is_some())
    }

    async fn take(&self, done: &str) -> Result<Option<SessionRecord>, StorageError> {
        let Some(page) = self.page_of(done).await? else {
            return Ok(None);
        };
        let path = self.page_path(&page);
        let found = self.kept(&path).await?;
        let is_open = |kept: &Kept| kept.session.is_answered && !kept.is_taken;
        let Some((mut kept, as_read)) = found.filter(|(kept, _)| is_open(kept)) else {
            return Ok(None);
        };
        let session = kept.session.clone();
        kept.is_taken = true;
        kept.session.token = None;
        kept.nonce = random_hex::<8>();
        if self.records.put(&path, &kept, &as_read).await?.is_none() {
            return Ok(None);
        }
        // It is hers now, whatever becomes of what is left.
        if let Err(error) = self.delete(&session).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a session is left over"
            );
        }
        Ok(Some(session))
    }

    async fn add_pass(
        &self,
        hash: &str,
        user: &Username,
        expires: Timestamp,
    ) -> Result<(), StorageError> {
        let pass = Used {
            by: user.as_str().to_owned(),
            at: 0,
            until: expires.unix_millis(),
        };
        let path = self.records.path(&[PASSES, hash]);
        self.records.put_own(&path, &pass).await
    }

    async fn pass(&self, hash: &str) -> Result<Option<(Username, Timestamp)>, StorageError> {
        let path = self.records.path(&[PASSES, hash]);
        let pass = self.used(&path).await?;
        Ok(pass.and_then(|pass| {
            let user = pass.by.parse().ok()?;
            Some((user, Timestamp::from_unix_millis(pass.until)))
        }))
    }

    async fn claim(
        &self,
        key: &str,
        claim: Claim,
        until: Timestamp,
    ) -> Result<Claim, StorageError> {
        let used = Used {
            by: claim.by.clone(),
            at: claim.at.unix_millis(),
            until: until.unix_millis(),
        };
        let path = self.claim_path(key);
        let made = self.records.put(&path, &used, &Precondition::Absent);
        if made.await?.is_some() {
            return Ok(claim);
        }
        // It was there, and is pruned long after it matters.
        Ok(self.claimed(key).await?.unwrap_or(claim))
    }

    async fn claimed(&self, key: &str) -> Result<Option<Claim>, StorageError> {
        let used = self.used(&self.claim_path(key)).await?;
        Ok(used.map(|used| Claim {
            by: used.by,
            at: Timestamp::from_unix_millis(used.at),
        }))
    }

    async fn prune(&self, now: Timestamp) -> Result<(), StorageError> {
        for (path, _) in self.records.list(&[PAGES]).await? {
            if let Some((kept, _)) = self.kept(&path).await?
                && kept.session.expires.plus(REMEMBERED_FOR) <= now
            {
                self.delete(&kept.session).await?;
            }
        }
        self.prune_used(PASSES, now).await?;
        self.prune_used(CLAIMS, now).await
    }
}
