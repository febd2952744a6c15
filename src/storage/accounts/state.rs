//! What is kept about users and tokens, and its form in `state.json`.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{AccountEntry, OrganisationRecord};
use crate::{
    error::RegistryError,
    models::{PackageName, SecondFactorMode, Timestamp, Username},
    storage::{LeaseError, StorageError},
};

/// The length of a SHA-256 in hexadecimal; earlier versions kept raw tokens, which are shorter.
const HASH_LENGTH: usize = 64;

/// Why accounts could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// There is such a user already.
    #[error("username is already registered")]
    UserExists,
    /// There is no such user.
    #[error("there is no user `{0}`")]
    NoSuchUser(Username),
    /// As many users as allowed are registered.
    #[error("maximum amount of users reached")]
    TooManyUsers,
    /// The change makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The caller may not make this change.
    #[error("{0}")]
    Forbidden(String),
    /// What was named is not there.
    #[error("{0}")]
    Missing(String),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It was not this node's turn.
    #[error(transparent)]
    Turn(#[from] LeaseError),
}

impl AccountsError {
    /// The same, of a change that only the store can refuse.
    pub(in crate::storage) fn into_storage(self) -> StorageError {
        match self {
            Self::Storage(error) => error,
            error => StorageError::backend("changing accounts", error),
        }
    }
}

impl From<AccountsError> for RegistryError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::UserExists => Self::conflict(error.to_string()),
            AccountsError::NoSuchUser(_) | AccountsError::Missing(_) => {
                Self::not_found(error.to_string())
            }
            AccountsError::Refused(_) => Self::bad_request(error.to_string()),
            AccountsError::Forbidden(_) | AccountsError::TooManyUsers => {
                Self::forbidden(error.to_string())
            }
            AccountsError::Storage(error) => error.into(),
            AccountsError::Turn(error) => error.into(),
        }
    }
}

/// What a user tells about herself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Her e-mail address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Her full name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fullname: String,
    /// Her home page.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// Her name on Freenode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub freenode: String,
    /// Her name on Twitter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub twitter: String,
    /// Her name on GitHub.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub github: String,
}

/// A local user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The password's hash in PHC form.
    pub password_hash: String,
    /// When she registered, in milliseconds since the Unix epoch.
    #[serde(rename = "created_at", with = "crate::storage::unix_millis")]
    pub created: Timestamp,
    /// When she last changed something, in milliseconds since the Unix epoch.
    #[serde(default, rename = "updated_at", with = "optional_unix_millis")]
    pub updated: Option<Timestamp>,
    /// When she last chose another password, in milliseconds since the Unix epoch; `None` for never, as
    /// far as is known.
    #[serde(
        default,
        with = "optional_unix_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub password_changed: Option<Timestamp>,
    /// Since when nothing of hers counts, in milliseconds since the Unix epoch; `None` where all does.
    #[serde(
        default,
        with = "optional_unix_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub disabled: Option<Timestamp>,
    /// Her second factor, if she has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<SecondFactorRecord>,
    /// What she tells about herself.
    #[serde(flatten)]
    pub profile: Profile,
}

/// The second factor of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactorRecord {
    /// What it protects.
    pub mode: SecondFactorMode,
    /// Whether it protects nothing yet, because no code of it was shown.
    #[serde(default)]
    pub pending: bool,
    /// The seed of the codes, sealed.
    pub seed: String,
    /// SHA-256 of the recovery codes that are left, in hexadecimal.
    #[serde(default)]
    pub recovery: Vec<String>,
}

/// What a token was made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// A login; ends with logout, password change, or its time.
    #[default]
    Login,
    /// `npm token create`; ends when it is deleted, or with its own expiry.
    Npm,
    /// One that others made, which counts no longer: who had it has logged out.
    Ended,
}

/// A token; the token itself is not kept, only its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The SHA-256 of the token in hexadecimal.
    #[serde(default)]
    pub key: String,
    /// Whose it is.
    pub user: String,
    /// What it was made for.
    #[serde(default)]
    pub kind: TokenKind,
    /// The first characters of the token, for listings.
    #[serde(default, rename = "token")]
    pub prefix: String,
    /// The name that its user gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it may only read.
    #[serde(default)]
    pub readonly: bool,
    /// Whether it works without the second factor of its user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass_second_factor: bool,
    /// The networks that it may be used from; empty for all.
    #[serde(default)]
    pub cidr: Vec<IpNet>,
    /// The packages that it works for; empty (with no scope either) for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageNameText>,
    /// The scopes (with their `@`) that it works for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since the Unix epoch.
    #[serde(
        default = "epoch",
        alias = "created_at",
        with = "crate::storage::unix_millis"
    )]
    pub created: Timestamp,
    /// When it ends, in milliseconds since the Unix epoch.
    #[serde(default, with = "optional_unix_millis")]
    pub expires: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether the token has ended at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// A package name in `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageNameText(pub PackageName);

impl TryFrom<String> for PackageNameText {
    type Error = crate::models::InvalidPackageName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<PackageNameText> for String {
    fn from(name: PackageNameText) -> Self {
        name.0.as_str().to_owned()
    }
}

/// All accounts at one moment. Cheap to clone as far as its entries go.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) users: BTreeMap<String, Arc<UserRecord>>,
    pub(super) tokens: BTreeMap<String, Arc<TokenRecord>>,
    pub(super) organisations: BTreeMap<String, Arc<OrganisationRecord>>,
    other: serde_json::Map<String, serde_json::Value>,
}

/// `state.json`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Form {
    users: BTreeMap<String, Arc<UserRecord>>,
    auth_tokens: BTreeMap<String, Arc<TokenRecord>>,
    npm_tokens: Vec<Arc<TokenRecord>>,
    /// Written empty, for earlier versions: logins under way are kept in memory.
    login_sessions: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    organisations: BTreeMap<String, Arc<OrganisationRecord>>,
    packages: serde_json::Map<String, serde_json::Value>,
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

impl State {
    /// Keeps `entry`, in the place of what has its name.
    pub(super) fn put(&mut self, entry: AccountEntry) {
        match entry {
            AccountEntry::User(name, user) => drop(self.users.insert(name, user)),
            AccountEntry::Token(token) => drop(self.tokens.insert(token.key.clone(), token)),
            AccountEntry::Organisation(name, organisation) => {
                self.organisations.insert(name, organisation);
            }
        }
    }

    /// Everything, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = AccountEntry> {
        let users = self.users.iter();
        let users = users.map(|(name, user)| AccountEntry::User(name.clone(), Arc::clone(user)));
        let tokens = self.tokens.values();
        let tokens = tokens.map(|token| AccountEntry::Token(Arc::clone(token)));
        let organisations = self.organisations.iter().map(|(name, organisation)| {
            AccountEntry::Organisation(name.clone(), Arc::clone(organisation))
        });
        users.chain(tokens).chain(organisations)
    }

    pub(super) fn has_same_accounts(&self, other: &Self) -> bool {
        self.users == other.users
            && self.tokens == other.tokens
            && self.organisations == other.organisations
    }

    /// Reads `state.json`; also whether it has to be written again, because it had raw tokens.
    pub(super) fn from_json(json: &[u8]) -> Result<(Self, bool), serde_json::Error> {
        let form: Form = serde_json::from_slice(json)?;
        let mut state = Self {
            users: form.users,
            tokens: BTreeMap::new(),
            organisations: form.organisations,
            other: form.other,
        };
        let mut had_raw = false;
        for (key, mut record) in form.auth_tokens {
            let is_hash = key.len() == HASH_LENGTH && key.bytes().all(|b| b.is_ascii_hexdigit());
            had_raw |= !is_hash;
            let token = Arc::make_mut(&mut record);
            token.key = if is_hash { key } else { hash_of(&key) };
            state.tokens.insert(token.key.clone(), record);
        }
        for mut record in form.npm_tokens {
            Arc::make_mut(&mut record).kind = TokenKind::Npm;
            state.tokens.insert(record.key.clone(), record);
        }
        Ok((state, had_raw))
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let (mut auth_tokens, mut npm_tokens) = (BTreeMap::new(), Vec::new());
        for (key, record) in &self.tokens {
            match record.kind {
                TokenKind::Login | TokenKind::Ended => {
                    auth_tokens.insert(key.clone(), Arc::clone(record));
                }
                TokenKind::Npm => npm_tokens.push(Arc::clone(record)),
            }
        }
        serde_json::to_vec_pretty(&Form {
            users: self.users.clone(),
            auth_tokens,
            npm_tokens,
            organisations: self.organisations.clone(),
            other: self.other.clone(),
            ..Form::default()
        })
    }
}

fn hash_of(token: &str) -> String {
    hex::encode(sha2::Sha256::digest(token))
}

fn epoch() -> Timestamp {
    Timestamp::from_unix_millis(0)
}

mod optional_unix_millis {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::models::Timestamp;

    #[expect(clippy::ref_option, reason = "serde wants it so")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_i64(time.unix_millis()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_unix_millis))
    }
}
