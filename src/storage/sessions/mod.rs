//! [`SessionStore`]: logins and second factors that wait for a browser, and the one-time passes
//! that were used. All of it ends by itself.

#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod room;

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use memory::MemorySessions;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub(super) use room::Room;

use super::StorageError;
use crate::models::{AskedBy, SessionPurpose, Timestamp, Username};

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) per_owner: usize,
    pub(super) total: usize,
}

/// Logins of one network, and of all.
pub(super) const LOGINS: Limits = Limits {
    per_owner: 100,
    total: 10_000,
};
/// Second factors of one user, and of all. They begin only for who has shown credentials.
pub(super) const SECOND_FACTORS: Limits = Limits {
    per_owner: 20,
    total: 10_000,
};
/// How long ended sessions are remembered where there is room, so that clients hear that they came
/// too late.
pub(super) const REMEMBERED_FOR: std::time::Duration = std::time::Duration::from_secs(300);

/// Room for logins, and for second factors.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub(super) fn room_for() -> [Room; 2] {
    [Room::new(LOGINS), Room::new(SECOND_FACTORS)]
}

/// A session. Its two names do not tell each other: the page's address is shown around, and must
/// not be enough to fetch what the client waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its name for the page.
    pub page: String,
    /// Its name for the client that waits.
    pub done: String,
    /// What it is for.
    pub purpose: SessionPurpose,
    /// Who asks.
    pub asked_by: AskedBy,
    /// When it ends.
    #[serde(with = "crate::storage::unix_millis")]
    pub expires: Timestamp,
    /// Whether somebody has answered.
    #[serde(default)]
    pub is_answered: bool,
    /// The token that a login was answered with, sealed.
    #[serde(default)]
    pub token: Option<String>,
}

impl SessionRecord {
    /// Whether it has ended at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(super) fn is_login(&self) -> bool {
        matches!(self.purpose, SessionPurpose::Login { .. })
    }

    #[cfg(feature = "postgres")]
    pub(super) fn limits(&self) -> Limits {
        match self.purpose {
            SessionPurpose::Login { .. } => LOGINS,
            SessionPurpose::SecondFactor { .. } => SECOND_FACTORS,
        }
    }

    /// Who takes up room: a network, or a user.
    pub(super) fn owner(&self) -> String {
        match &self.purpose {
            SessionPurpose::Login { .. } => match self.asked_by.address.map(network_of) {
                Some(network) => format!("network:{network}"),
                None => "network:".to_owned(),
            },
            SessionPurpose::SecondFactor { user } => format!("user:{user}"),
        }
    }
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

/// Who used something that counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// The contract between the registry and whatever keeps what ends by itself.
///
/// What one node has written, all others see. Anybody may begin a login, so there is room for so
/// many of one network and so many in all; whoever wants more pushes out the oldest of her own.
/// Every implementation passes the suite in `storage/sessions/conformance.rs`.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Adds a session. `false`: there is no room.
    async fn begin(&self, session: SessionRecord, now: Timestamp) -> Result<bool, StorageError>;

    /// The session with this name for its page.
    async fn of_page(&self, page: &str) -> Result<Option<SessionRecord>, StorageError>;

    /// The session with this name for its client.
    async fn of_client(&self, done: &str) -> Result<Option<SessionRecord>, StorageError>;

    /// Answers the session of a page, which ends at `expires` from then on. `false`: somebody has
    /// answered it already, or there is none.
    async fn answer(
        &self,
        page: &str,
        token: Option<String>,
        expires: Timestamp,
    ) -> Result<bool, StorageError>;

    /// Takes the answered session of a client away. One of all who ask gets it.
    async fn take(&self, done: &str) -> Result<Option<SessionRecord>, StorageError>;

    /// Lets `user` show the pass with this hash as her second factor until `expires`.
    async fn add_pass(
        &self,
        hash: &str,
        user: &Username,
        expires: Timestamp,
    ) -> Result<(), StorageError>;

    /// Whose the pass with this hash is, and until when.
    async fn pass(&self, hash: &str) -> Result<Option<(Username, Timestamp)>, StorageError>;

    /// Claims what is called `key`, which may be forgotten after `until`. Who was first.
    async fn claim(&self, key: &str, claim: Claim, until: Timestamp)
    -> Result<Claim, StorageError>;

    /// Who has claimed `key`.
    async fn claimed(&self, key: &str) -> Result<Option<Claim>, StorageError>;

    /// Forgets what has ended at `now`.
    async fn prune(&self, now: Timestamp) -> Result<(), StorageError>;
}
