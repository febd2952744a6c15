//! Logins, and second factors, that end in a browser while a client waits.

use std::{net::IpAddr, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, second_factor::hash_of};
use crate::{
    error::RegistryError,
    lifecycle::random_hex,
    models::Username,
    storage::{LoginSession, SessionPurpose, SessionState},
};

/// Logins that may be under way at the same time.
const MAX_SESSIONS: usize = 1000;
const ID_LENGTH: usize = 36;
/// What tokens are sealed for while they wait to be fetched.
const SEAL: &str = "login-session-token";
/// How long a one-time pass may be used after it was fetched.
const PASS_LIFETIME: Duration = Duration::from_secs(300);

/// What somebody shows on the page of a session.
#[derive(Debug)]
pub struct Approval {
    /// Her name; a second factor needs none, it is asked for by name.
    pub user: Option<Username>,
    /// Her password; a second factor needs none, the client has shown a token.
    pub password: Option<SecretString>,
    /// Her one-time pass, if she has a second factor.
    pub pass: Option<SecretString>,
    /// Where she is.
    pub address: Option<IpAddr>,
}

impl Auth {
    /// Begins a session; its id. `asked_by` tells her who reads the page what asks.
    pub async fn begin_session(
        &self,
        purpose: SessionPurpose,
        asked_by: String,
    ) -> Result<String, RegistryError> {
        let id = uuid::Uuid::new_v4().to_string();
        let now = self.clock.now();
        let session = LoginSession {
            purpose,
            state: SessionState::Pending,
            asked_by,
            created: now,
            expires: now.plus(self.config.login_session_ttl),
        };
        let added = self.accounts.add_session(id.clone(), session, MAX_SESSIONS);
        added.await?;
        Ok(id)
    }

    /// The session `id` as it is; 400 for one that there is not, 401 for one that has ended.
    pub fn session(&self, id: &str) -> Result<LoginSession, RegistryError> {
        let unknown = || RegistryError::bad_request("session id is invalid");
        if id.len() != ID_LENGTH {
            return Err(unknown());
        }
        let session = self.accounts.session(id).ok_or_else(unknown)?;
        if session.is_expired(self.clock.now()) {
            return Err(RegistryError::unauthorized("session token expired"));
        }
        Ok((*session).clone())
    }

    /// Signs the session `id` in, as its user if it has one. The token that the client will get;
    /// none for a second factor.
    pub async fn approve(
        &self,
        id: &str,
        approval: Approval,
    ) -> Result<Option<SecretString>, RegistryError> {
        let session = self.session(id)?;
        let Approval {
            user,
            password,
            pass,
            address,
        } = approval;
        if session.state != SessionState::Pending {
            return Err(already_answered());
        }
        let (user, token) = match &session.purpose {
            SessionPurpose::Login => {
                let (Some(user), Some(password)) = (user, password) else {
                    let message = "user and password are required";
                    return Err(RegistryError::bad_request(message));
                };
                let logged_in = self.login(&user, &password, address, pass.as_ref());
                let token = logged_in.await?.token;
                (user, Some(token))
            }
            SessionPurpose::SecondFactor { user } => {
                let user: Username = user.parse().map_err(RegistryError::internal)?;
                self.require_second_factor(&user, pass.as_ref()).await?;
                (user, None)
            }
        };
        let sealed = token.as_ref().map(|token| {
            let token = token.expose_secret();
            self.secrets.seal(SEAL, token.as_bytes())
        });
        let state = SessionState::Approved {
            user: user.as_str().to_owned(),
            token: sealed.unwrap_or_default(),
        };
        let changed = self.accounts.edit_session(id, |known| {
            let is_first = known.state == SessionState::Pending;
            let next = LoginSession {
                state: if is_first { state } else { known.state.clone() },
                ..known.clone()
            };
            Ok((Some(next), is_first))
        });
        if changed.await? != Some(true) {
            // Two browsers answered at once, or it has ended: nobody fetches this token.
            if let Some(token) = &token {
                self.logout(token).await?;
            }
            return Err(already_answered());
        }
        Ok(token)
    }

    /// What the client waits for: its token or its one-time pass. `None` while nobody has
    /// answered. It can be fetched once.
    pub async fn fetch(&self, id: &str) -> Result<Option<SecretString>, RegistryError> {
        let session = self.session(id)?;
        match (&session.purpose, &session.state) {
            (_, SessionState::Pending) => Ok(None),
            (_, SessionState::Passed { .. }) => {
                Err(RegistryError::bad_request("session id is invalid"))
            }
            (SessionPurpose::Login, SessionState::Approved { token, .. }) => {
                let token = self.secrets.unseal(SEAL, token);
                let token = token.map_err(RegistryError::internal)?;
                let token = String::from_utf8(token).map_err(RegistryError::internal)?;
                let taken = self.accounts.edit_session(id, |_| Ok((None, ())));
                if taken.await?.is_none() {
                    return Err(RegistryError::bad_request("session id is invalid"));
                }
                Ok(Some(token.into()))
            }
            (SessionPurpose::SecondFactor { .. }, SessionState::Approved { .. }) => {
                let pass = format!("rco_{}", random_hex::<24>());
                let hash = hash_of(&pass);
                let expires = self.clock.now().plus(PASS_LIFETIME);
                let passed = self.accounts.edit_session(id, |known| {
                    let is_first = matches!(known.state, SessionState::Approved { .. });
                    let next = LoginSession {
                        state: SessionState::Passed { pass: hash },
                        expires,
                        ..known.clone()
                    };
                    let next = if is_first { next } else { known.clone() };
                    Ok((Some(next), is_first))
                });
                if passed.await? != Some(true) {
                    return Err(RegistryError::bad_request("session id is invalid"));
                }
                Ok(Some(pass.into()))
            }
        }
    }
}

fn already_answered() -> RegistryError {
    RegistryError::conflict("this login was answered already; start again in the terminal")
}
