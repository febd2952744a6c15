//! [`Sessions`]: logins and second factors that wait for somebody in a browser.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    error::RegistryError,
    models::{AskedBy, SessionPurpose, Timestamp, Username},
    storage::{Secrets, SessionRecord, SessionStore},
};

/// What a client has at least to fetch an answer; it asks every few seconds.
const TIME_TO_FETCH: Duration = Duration::from_secs(30);
/// What tokens that wait to be fetched are sealed for.
const SEAL: &str = "login-session-token";

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
    store: Arc<dyn SessionStore>,
    secrets: Secrets,
    lifetime: Duration,
}

impl Sessions {
    /// Those in `store`; new ones live for `lifetime`. Tokens that wait there are sealed.
    pub(super) fn new(store: Arc<dyn SessionStore>, secrets: Secrets, lifetime: Duration) -> Self {
        Self {
            store,
            secrets,
            lifetime,
        }
    }

    /// Begins a session.
    pub(super) async fn begin(
        &self,
        purpose: SessionPurpose,
        asked_by: AskedBy,
        now: Timestamp,
    ) -> Result<SessionIds, RegistryError> {
        let id = || uuid::Uuid::new_v4().to_string();
        let (page, done) = (id(), id());
        let session = SessionRecord {
            page: page.clone(),
            done: done.clone(),
            purpose,
            asked_by,
            expires: now.plus(self.lifetime),
            is_answered: false,
            token: None,
        };
        if self.store.begin(session, now).await? {
            Ok(SessionIds { page, done })
        } else {
            Err(RegistryError::RateLimited {
                message: "too many logins are under way, try again in a minute".to_owned(),
                retry_after: Duration::from_secs(60),
            })
        }
    }

    /// The session of a page; 400 for one that there is not, 401 for one that has ended.
    pub(super) async fn of_page(
        &self,
        page: &str,
        now: Timestamp,
    ) -> Result<SessionView, RegistryError> {
        let session = alive(self.of_page_id(page).await?, now)?;
        Ok(SessionView {
            is_pending: !session.is_answered,
            purpose: session.purpose,
            asked_by: session.asked_by,
        })
    }

    async fn of_page_id(&self, page: &str) -> Result<Option<SessionRecord>, RegistryError> {
        if !is_id(page) {
            return Ok(None);
        }
        Ok(self.store.of_page(page).await?)
    }

    /// Answers the session of a page, a login with its token. `false`: it was answered already.
    pub(super) async fn answer(
        &self,
        page: &str,
        token: Option<&SecretString>,
        now: Timestamp,
    ) -> Result<bool, RegistryError> {
        let session = alive(self.of_page_id(page).await?, now)?;
        if session.is_answered {
            return Ok(false);
        }
        let token = token.map(|token| {
            let token = token.expose_secret().as_bytes();
            self.secrets.seal(SEAL, token)
        });
        let expires = session.expires.max(now.plus(TIME_TO_FETCH));
        Ok(self.store.answer(page, token, expires).await?)
    }

    /// What has come of the session that a client waits for. An answer is given once; then there
    /// is no such session.
    pub(super) async fn fetch(&self, done: &str, now: Timestamp) -> Result<Outcome, RegistryError> {
        if !is_id(done) {
            return Err(unknown());
        }
        let session = alive(self.store.of_client(done).await?, now)?;
        if !session.is_answered {
            return Ok(Outcome::Pending);
        }
        let session = self.store.take(done).await?.ok_or_else(unknown)?;
        if let SessionPurpose::SecondFactor { user } = session.purpose {
            return Ok(Outcome::Confirmed(user));
        }
        let token = session.token.ok_or_else(unknown)?;
        let token = self.secrets.unseal(SEAL, &token);
        let token = String::from_utf8(token.map_err(RegistryError::internal)?);
        Ok(Outcome::Token(
            token.map_err(RegistryError::internal)?.into(),
        ))
    }
}

/// Whether it can be one of ours. Storage is not asked for what else a visitor may say.
fn is_id(text: &str) -> bool {
    text.len() == uuid::fmt::Hyphenated::LENGTH && uuid::Uuid::try_parse(text).is_ok()
}

fn alive(session: Option<SessionRecord>, now: Timestamp) -> Result<SessionRecord, RegistryError> {
    let session = session.ok_or_else(unknown)?;
    if session.is_expired(now) {
        return Err(RegistryError::unauthorized("session token expired"));
    }
    Ok(session)
}

fn unknown() -> RegistryError {
    RegistryError::bad_request("session id is invalid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FileKeys, MemorySessions};

    const LIFETIME: Duration = Duration::from_secs(120);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    async fn sessions() -> (Sessions, Arc<MemorySessions>) {
        let store = Arc::new(MemorySessions::default());
        let keys = FileKeys::new("unused".into());
        let secrets = Secrets::open(&keys, Some(&"key".to_owned().into())).await;
        let kept: Arc<dyn SessionStore> = store.clone();
        (Sessions::new(kept, secrets.unwrap(), LIFETIME), store)
    }

    async fn login(sessions: &Sessions, now: Timestamp) -> SessionIds {
        let purpose = SessionPurpose::Login {
            wants_account: false,
        };
        let asked_by = AskedBy::default();
        sessions.begin(purpose, asked_by, now).await.unwrap()
    }

    #[tokio::test]
    async fn the_page_does_not_fetch_and_the_client_does_not_answer() {
        let (sessions, store) = sessions().await;
        let SessionIds { page, done } = login(&sessions, at(0)).await;
        assert_eq!((page.len(), done.len()), (36, 36));
        sessions.fetch(&page, at(0)).await.unwrap_err();
        sessions.answer(&done, None, at(0)).await.unwrap_err();
        let (t, u) = ("t".to_owned().into(), "u".to_owned().into());
        assert!(sessions.answer(&page, Some(&t), at(0)).await.unwrap());
        assert!(!sessions.answer(&page, Some(&u), at(0)).await.unwrap());
        let kept = store.of_page(&page).await.unwrap().unwrap();
        assert!(kept.token.unwrap().starts_with("v1."));
        sessions.fetch(&page, at(0)).await.unwrap_err();
        let outcome = sessions.fetch(&done, at(0)).await.unwrap();
        assert!(matches!(outcome, Outcome::Token(token) if token.expose_secret() == "t"));
        sessions.fetch(&done, at(0)).await.unwrap_err();
    }

    #[tokio::test]
    async fn sessions_end() {
        let (sessions, _) = sessions().await;
        let status = |result: Result<Outcome, RegistryError>| {
            result.map_or_else(|error| error.status().as_u16(), |_| 200)
        };
        let late = login(&sessions, at(0)).await;
        assert_eq!(status(sessions.fetch(&late.done, at(119)).await), 200);
        assert_eq!(status(sessions.fetch(&late.done, at(120)).await), 401);
        sessions.of_page(&late.page, at(120)).await.unwrap_err();
        let answered = sessions.answer(&late.page, None, at(120)).await;
        answered.unwrap_err();
        // Who answers in the last second is not lost to a client that asks every five.
        let close = login(&sessions, at(200)).await;
        let token = "t".to_owned().into();
        let answered = sessions.answer(&close.page, Some(&token), at(319)).await;
        answered.unwrap();
        assert_eq!(status(sessions.fetch(&close.done, at(325)).await), 200);
        login(&sessions, at(10_000)).await;
        assert_eq!(status(sessions.fetch(&late.done, at(10_000)).await), 400);
    }

    #[tokio::test]
    async fn a_second_factor_is_its_users() {
        let (sessions, _) = sessions().await;
        let user: Username = "alice".parse().unwrap();
        let purpose = SessionPurpose::SecondFactor { user: user.clone() };
        let own = sessions
            .begin(purpose, AskedBy::default(), at(1))
            .await
            .unwrap();
        sessions.answer(&own.page, None, at(1)).await.unwrap();
        let outcome = sessions.fetch(&own.done, at(1)).await.unwrap();
        assert!(matches!(outcome, Outcome::Confirmed(whose) if whose == user));
    }
}
