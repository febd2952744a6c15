//! [`SecondFactor`]: what a request shows besides its credentials.

use serde::{Deserialize, Serialize};

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

/// What a request has shown as its second factor.
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

/// The second factor of a caller: what the account wants, and what the request shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondFactor {
    /// What it protects; `None` for accounts that have none.
    pub mode: Option<SecondFactorMode>,
    /// What the request shows.
    pub proof: Proof,
}

impl SecondFactor {
    /// Whether the account may be changed, as far as the second factor goes.
    pub fn covers_account(self) -> bool {
        self.mode.is_none() || self.proof == Proof::Given
    }

    /// Whether packages may be changed.
    pub fn covers_writes(self) -> bool {
        self.mode != Some(SecondFactorMode::AuthAndWrites)
            || matches!(self.proof, Proof::Given | Proof::Bypassed)
    }
}
