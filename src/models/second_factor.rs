//! [`SecondFactor`]: what a request shows besides its credentials.

use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What an account's second factor protects, in npm's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondFactorMode {
    /// Signing in, and changes of the account.
    AuthOnly,
    /// That, and every change of a package.
    AuthAndWrites,
}

impl SecondFactorMode {
    /// npm's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthOnly => "auth-only",
            Self::AuthAndWrites => "auth-and-writes",
        }
    }
}

/// What a request has proved with its second factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    #[default]
    None,
    /// A one-time pass that is wrong or used up.
    Wrong,
    /// A token that was made to work without.
    Bypassed,
    /// The right one-time pass.
    Given,
}

/// A one-time pass that a request shows. Whether it is right is only looked at where that matters,
/// because looking at it uses it up.
#[derive(Clone, Debug)]
pub struct ShownPass {
    /// The pass.
    pub pass: SecretString,
    /// Who shows it, by the credentials beside it: the same may show it again for a while.
    pub by: Arc<str>,
    /// When the request came: an upload that takes long does not make a code too late.
    pub at: Timestamp,
}

/// The second factor of a caller: what the account wants, and what the request shows.
#[derive(Clone, Debug, Default)]
pub struct SecondFactor {
    /// What it protects; `None` for accounts that have none.
    pub mode: Option<SecondFactorMode>,
    /// Whether the token was made to work without.
    pub is_bypassed: bool,
    /// What the request shows.
    pub shown: Option<ShownPass>,
}

impl SecondFactor {
    /// Whether packages may be changed without a one-time pass.
    pub fn leaves_writes_open(&self) -> bool {
        self.mode != Some(SecondFactorMode::AuthAndWrites) || self.is_bypassed
    }
}
