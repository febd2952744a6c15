//! What a login or a second factor that waits for a browser is for, and who asks.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Username;

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionPurpose {
    /// A client wants a token; whoever signs in on the page gives it hers.
    Login {
        /// Whether the client was asked to make an account.
        wants_account: bool,
    },
    /// A client wants a one-time pass of this user.
    SecondFactor {
        /// Whose second factor it is.
        #[serde(with = "username")]
        user: Username,
    },
}

/// Who asks, as the page shows it. Only the address is not the client's own word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBy {
    /// The client's name for itself.
    pub client: String,
    /// Its name for the machine that it runs on.
    pub machine: Option<String>,
    /// Where it asks from.
    pub address: Option<IpAddr>,
}

mod username {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::models::Username;

    pub(super) fn serialize<S: Serializer>(name: &Username, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Username, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
