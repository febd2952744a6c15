//! [`LoginSession`]: a login, or a second factor, that a client waits for while its user is in a
//! browser.

use serde::{Deserialize, Serialize};

use crate::models::{Timestamp, Username};

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "kebab-case")]
pub enum SessionPurpose {
    /// A client wants a token; whoever signs in on the page gives it hers.
    Login,
    /// A client wants a one-time pass of this user.
    SecondFactor {
        /// Whose second factor it is.
        user: String,
    },
}

/// What has become of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SessionState {
    /// Nobody has answered.
    #[default]
    Pending,
    /// The user signed in; the client has not fetched its token.
    Approved {
        /// Who signed in.
        user: String,
        /// The token, sealed; empty for a second factor.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        token: String,
    },
    /// The client has fetched a one-time pass with this SHA-256.
    Passed {
        /// The hash in hexadecimal.
        pass: String,
    },
}

/// A login, or a second factor, that a client waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginSession {
    /// What it is for.
    #[serde(flatten)]
    pub purpose: SessionPurpose,
    /// What has become of it.
    #[serde(flatten)]
    pub state: SessionState,
    /// Who asks, as the page shows it: host name, client, address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asked_by: String,
    /// When it began.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl LoginSession {
    /// Whether it has ended at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// Whether it holds a one-time pass with this hash for `user`.
    pub fn passes(&self, user: &Username, pass_hash: &str) -> bool {
        let is_users = matches!(&self.purpose, SessionPurpose::SecondFactor { user: whose } if whose == user.as_str());
        is_users && matches!(&self.state, SessionState::Passed { pass } if pass == pass_hash)
    }
}
