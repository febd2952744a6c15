//! [`VerdaccioTokens`]: those that Verdaccio made keep working, until they are revoked or their time ends.

mod encrypted;
mod signed;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, Authentication, CredentialProblem, Presented, Sender, cidr, tokens};
use crate::{
    error::RegistryError,
    models::{SecondFactor, Timestamp, TokenLimits, Username},
    storage::{
        AccountStore as _, AccountStoreExt as _, StorageError, TokenKind, TokenRecord,
        VerdaccioToken, VerdaccioTokenList, verdaccio_secret,
    },
};

/// A longer one is none.
const MAX_LENGTH: usize = 8 * 1024;
/// The length of a key of AES-256 in bytes, which is that of secrets since Verdaccio 5.31; earlier ones are
/// longer, and were made into keys in a way that was given up as weak.
const KEY_LENGTH: usize = 32;

/// What reads Verdaccio's tokens: its secret, and its list of those that can be revoked.
#[derive(Debug)]
pub struct VerdaccioTokens {
    secret: SecretString,
    list: VerdaccioTokenList,
}

/// What a token of Verdaccio's holds.
#[derive(Debug)]
struct Held {
    user: String,
    /// What it has in the list; of a login, nothing.
    key: Option<String>,
    proof: ProofOfUser,
}

/// Why a token should be believed.
#[derive(Debug)]
enum ProofOfUser {
    /// It has the password in it, which must be right.
    Password(SecretString),
    /// Verdaccio has signed it.
    Signature {
        /// When it was made, if it says so.
        issued: Option<Timestamp>,
        /// When it ends.
        expires: Option<Timestamp>,
    },
}

impl VerdaccioTokens {
    /// The tokens of the Verdaccio that has its secret in the file `database` and its list of tokens in the
    /// file `list`. `None` where it has no secret that could be kept.
    pub async fn open(database: PathBuf, list: PathBuf) -> Result<Option<Self>, StorageError> {
        let path = database.display().to_string();
        let Some(secret) = verdaccio_secret(database).await? else {
            return Ok(None);
        };
        let length = secret.expose_secret().len();
        if length < KEY_LENGTH {
            tracing::warn!(
                path,
                length,
                "the secret of Verdaccio's tokens is too short to be one: none of them counts"
            );
            return Ok(None);
        }
        if length != KEY_LENGTH {
            tracing::warn!(
                path,
                length,
                "the secret of Verdaccio's tokens is of an old version, which nobody can decrypt with any longer: who has a \
                 token that is no JWT must run `npm login` again"
            );
        }
        let list = VerdaccioTokenList::new(list);
        Ok(Some(Self { secret, list }))
    }

    /// What `token` holds at `now`, if Verdaccio has made it and its time has not ended.
    fn read(&self, token: &str, now: Timestamp) -> Option<Held> {
        if token.len() > MAX_LENGTH {
            return None;
        }
        let secret = self.secret.expose_secret().as_bytes();
        signed::read(token, secret, now).or_else(|| encrypted::read(token, secret))
    }
}

/// Reads a token as a fuzzer wants it. No part of the interface.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (secret, now) = (
        b"0123456789abcdef0123456789abcdef",
        Timestamp::from_unix_millis(0),
    );
    let _ = signed::read(text, secret, now);
    let _ = encrypted::read(text, secret);
    // What is under the signature, and what is behind the key, is outside input too.
    let _ = signed::claims(bytes, now);
    let _ = encrypted::held(bytes);
}

impl Auth {
    /// Who shows a token of Verdaccio's, who must be `user` if one is given; `None` where it is none of
    /// hers.
    pub(super) async fn old_token(
        &self,
        token: &str,
        user: Option<&str>,
        presented: Presented<'_>,
    ) -> Result<Option<Authentication>, RegistryError> {
        let Some(verdaccio) = &self.verdaccio else {
            return Ok(None);
        };
        let held = verdaccio.read(token, self.clock.now());
        let Some(held) = held.filter(|held| user.is_none_or(|user| held.user == user)) else {
            return Ok(None);
        };
        let problem = |problem| Ok(Some(Authentication::problem(problem)));
        let Ok(user) = held.user.parse::<Username>() else {
            return problem(CredentialProblem::UnknownToken);
        };
        let mut limits = TokenLimits::default();
        if let Some(key) = &held.key {
            let listed = verdaccio.list.find(&user, key).await?;
            let is_signed = matches!(held.proof, ProofOfUser::Signature { .. });
            // A key that nobody has signed may be another's, which may do more.
            let Some(listed) = listed.filter(|listed| is_signed || listed.looks_like(token)) else {
                return problem(CredentialProblem::UnknownToken);
            };
            if !is_within(&listed, &presented) {
                return problem(CredentialProblem::WrongNetwork);
            }
            limits.is_readonly = listed.readonly;
        }
        let by = tokens::key_of(token);
        let found = match &held.proof {
            ProofOfUser::Password(password) => {
                self.by_password(&user, password, &by, presented).await?
            }
            ProofOfUser::Signature { issued, .. } => {
                if !self.counts_still(&user, *issued).await? {
                    return problem(CredentialProblem::UnknownToken);
                }
                let factor = self.factor_unless_disabled(&user, presented.pass, &by);
                let Some(second_factor) = factor.await? else {
                    return problem(CredentialProblem::Disabled);
                };
                Authentication {
                    second_factor: SecondFactor {
                        is_bypassed: false,
                        ..second_factor
                    },
                    ..self.signed_in(&user).await?
                }
            }
        };
        Ok(Some(Authentication {
            limits: Arc::new(limits),
            ..found
        }))
    }

    /// Whether what was signed then still says who `user` is: she is there, and has the same password.
    async fn counts_still(
        &self,
        user: &Username,
        issued: Option<Timestamp>,
    ) -> Result<bool, RegistryError> {
        // Whom others keep may be gone without our knowing.
        if !self.outside.is_empty() {
            return Ok(false);
        }
        let record = self.accounts.known_user(user).await?;
        let seconds = |time: Timestamp| time.unix_millis().div_euclid(1000);
        Ok(record.is_some_and(|record| {
            let is_hers = record.disabled.is_none()
                && issued.is_none_or(|issued| seconds(issued) >= seconds(record.created));
            is_hers
                && record
                    .password_changed
                    .is_none_or(|changed| issued.is_some_and(|issued| issued > changed))
        }))
    }

    /// The tokens of `user` in Verdaccio's list, as we list ours.
    pub(super) async fn listed_by_verdaccio(
        &self,
        user: &Username,
    ) -> Result<Vec<Arc<TokenRecord>>, RegistryError> {
        let Some(verdaccio) = &self.verdaccio else {
            return Ok(Vec::new());
        };
        let listed = verdaccio.list.of(user).await?;
        Ok(listed
            .into_iter()
            .map(|token| Arc::new(record_of(user, token)))
            .collect())
    }

    /// What a token of `user`, if Verdaccio has made it, has in Verdaccio's list.
    pub(super) fn key_at_verdaccio(&self, user: &Username, token: &str) -> Option<String> {
        let held = self.verdaccio.as_ref()?.read(token, self.clock.now())?;
        held.key.filter(|_| held.user == user.as_str())
    }

    /// Takes a token out of Verdaccio's list. Whether it was there.
    pub(super) async fn revoke_at_verdaccio(
        &self,
        user: &Username,
        key: &str,
    ) -> Result<bool, RegistryError> {
        match &self.verdaccio {
            Some(verdaccio) => Ok(verdaccio.list.remove(user, key).await?),
            None => Ok(false),
        }
    }

    /// Ends a token of Verdaccio's that its bearer shows; Verdaccio itself would go on believing it. Whether
    /// it counted.
    pub async fn end_old_token(
        &self,
        token: &SecretString,
        sender: &Sender,
    ) -> Result<bool, RegistryError> {
        let token = token.expose_secret();
        let now = self.clock.now();
        let held = self.verdaccio.as_ref().and_then(|it| it.read(token, now));
        let Some(held) = held else {
            return Ok(false);
        };
        let Ok(user) = held.user.parse::<Username>() else {
            return Ok(false);
        };
        // Only what counts is remembered: anybody can make texts without end.
        let expires = match &held.proof {
            ProofOfUser::Password(password) => {
                match self.recognise_password(&user, password, sender).await {
                    Ok(()) => None,
                    Err(refused) if refused.status().is_client_error() => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            ProofOfUser::Signature { issued, expires } => {
                if !self.counts_still(&user, *issued).await? {
                    return Ok(false);
                }
                *expires
            }
        };
        let key = tokens::key_of(token);
        if self.accounts.token(&key).await?.is_some() {
            return Ok(false);
        }
        let ended = TokenRecord {
            key,
            expires,
            created: now,
            ..self.record(&user, TokenKind::Ended, None)
        };
        self.accounts.add_token(ended).await?;
        Ok(true)
    }
}

fn is_within(token: &VerdaccioToken, presented: &Presented<'_>) -> bool {
    match &token.networks {
        None => true,
        Some(networks) => !networks.is_empty() && cidr::covers(networks, presented.address),
    }
}

fn record_of(user: &Username, token: VerdaccioToken) -> TokenRecord {
    TokenRecord {
        key: token.key,
        user: user.as_str().to_owned(),
        kind: TokenKind::Npm,
        prefix: token.prefix,
        name: None,
        readonly: token.readonly,
        bypass_second_factor: false,
        cidr: token.networks.unwrap_or_default(),
        packages: Vec::new(),
        scopes: Vec::new(),
        created: token.created,
        expires: None,
    }
}
