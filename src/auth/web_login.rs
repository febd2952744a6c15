//! Logins, and second factors, that end in a browser while a client waits.

use std::time::Duration;

use secrecy::SecretString;

use super::{
    Auth, Sender,
    second_factor::hash_of,
    sessions::{Outcome, SessionIds, SessionView},
};
use crate::{
    config::Registration,
    error::RegistryError,
    lifecycle::random_hex,
    models::{AskedBy, SessionPurpose, Username},
    storage::Profile,
};

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
    /// Whether the account is to be made.
    pub is_new: bool,
    /// Where it comes from.
    pub sender: Sender,
}

impl Auth {
    /// Whether visitors may make accounts.
    pub fn registration_is_open(&self) -> bool {
        self.config.registration == Registration::Open
    }

    /// Begins a session. `asked_by` tells her who reads the page what asks.
    pub async fn begin_session(
        &self,
        purpose: SessionPurpose,
        asked_by: AskedBy,
    ) -> Result<SessionIds, RegistryError> {
        let now = self.clock.now();
        self.sessions.begin(purpose, asked_by, now).await
    }

    /// The session of a page; 400 for one that there is not, 401 for one that has ended.
    pub async fn session(&self, page: &str) -> Result<SessionView, RegistryError> {
        self.sessions.of_page(page, self.clock.now()).await
    }

    /// Answers the session of a page, by signing in or as its user. The token that the client will
    /// get; none for a second factor.
    pub async fn approve(
        &self,
        page: &str,
        approval: Approval,
    ) -> Result<Option<SecretString>, RegistryError> {
        let session = self.session(page).await?;
        if !session.is_pending {
            return Err(already_answered());
        }
        let token = match session.purpose {
            SessionPurpose::Login { .. } => Some(self.sign_in_at(approval).await?),
            SessionPurpose::SecondFactor { user } => {
                let pass = approval.pass.as_ref();
                self.require_second_factor(&user, pass).await?;
                None
            }
        };
        let now = self.clock.now();
        let answered = self.sessions.answer(page, token.as_ref(), now).await;
        if matches!(answered, Ok(true)) {
            return Ok(token);
        }
        // Two browsers answered at once, or it has ended: nobody fetches this token.
        if let Some(token) = &token {
            self.logout(token).await?;
        }
        answered?;
        Err(already_answered())
    }

    async fn sign_in_at(&self, approval: Approval) -> Result<SecretString, RegistryError> {
        let Approval {
            user,
            password,
            pass,
            is_new,
            sender,
        } = approval;
        let (Some(user), Some(password)) = (user, password) else {
            let message = "user and password are required";
            return Err(RegistryError::bad_request(message));
        };
        let logged_in = if is_new {
            let profile = Profile::default();
            self.register(&user, &password, profile, &sender).await?
        } else {
            let pass = pass.as_ref();
            self.login(&user, &password, &sender, pass).await?
        };
        Ok(logged_in.token)
    }

    /// What the client waits for: its token or its one-time pass. `None` while nobody has
    /// answered. It can be fetched once.
    pub async fn fetch(&self, done: &str) -> Result<Option<SecretString>, RegistryError> {
        let now = self.clock.now();
        match self.sessions.fetch(done, now).await? {
            Outcome::Pending => Ok(None),
            Outcome::Token(token) => Ok(Some(token)),
            Outcome::Confirmed(user) => {
                let pass = format!("rco_{}", random_hex::<24>());
                let expires = now.plus(PASS_LIFETIME);
                let sessions = self.second_factors.sessions();
                sessions.add_pass(&hash_of(&pass), &user, expires).await?;
                Ok(Some(pass.into()))
            }
        }
    }
}

fn already_answered() -> RegistryError {
    RegistryError::conflict("this login was answered already; start again in the terminal")
}
