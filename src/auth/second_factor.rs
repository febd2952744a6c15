//! Second factors: codes that change every 30 seconds (RFC 6238), recovery codes, and one-time
//! passes that a browser fetched.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;
use totp_rs::{Builder, Totp};

use super::Auth;
use crate::{
    error::RegistryError,
    lifecycle::{random_bytes, random_hex},
    models::{Proof, SecondFactor, SecondFactorMode, Username},
    storage::{AccountsError, SecondFactorRecord, UserRecord},
};

const ISSUER: &str = "rustaccio";
/// What seeds are sealed for.
const SEAL: &str = "second-factor-seed";
/// RFC 4226, section 4, recommends 160 bits.
const SEED_LENGTH: usize = 20;
const RECOVERY_CODES: usize = 10;

/// What a user wants of her second factor, in the terms of `/-/npm/v1/user`.
#[derive(Debug)]
pub enum SecondFactorChange {
    /// Begin with one, or change what it protects.
    Enable {
        /// What it shall protect.
        mode: SecondFactorMode,
        /// Her password.
        password: SecretString,
    },
    /// Show a first code; from then on it counts.
    Confirm {
        /// The code.
        code: String,
    },
    /// Go without.
    Disable {
        /// Her password.
        password: SecretString,
    },
}

/// What has come of a [`SecondFactorChange`].
#[derive(Debug)]
pub enum SecondFactorAnswer {
    /// The address that authenticator apps read, as a QR code or typed.
    Seed(String),
    /// The recovery codes, shown this once.
    RecoveryCodes(Vec<String>),
    /// It is done.
    Done,
}

impl Auth {
    /// Changes the second factor of `user`.
    pub async fn change_second_factor(
        &self,
        user: &Username,
        change: SecondFactorChange,
        address: Option<std::net::IpAddr>,
    ) -> Result<SecondFactorAnswer, RegistryError> {
        if self.hook.is_some() {
            return Err(RegistryError::bad_request(
                "accounts are kept elsewhere, and so is their second factor",
            ));
        }
        match change {
            SecondFactorChange::Enable { mode, password } => {
                self.check_password(user, &password, address).await?;
                self.enable(user, mode).await
            }
            SecondFactorChange::Confirm { code } => self.confirm(user, &code).await,
            SecondFactorChange::Disable { password } => {
                self.check_password(user, &password, address).await?;
                let removed = self.edit_second_factor(user, |factor| {
                    *factor = None;
                    Ok(())
                });
                removed.await?;
                tracing::info!(user.name = %user, "second factor turned off");
                Ok(SecondFactorAnswer::Done)
            }
        }
    }

    async fn enable(
        &self,
        user: &Username,
        mode: SecondFactorMode,
    ) -> Result<SecondFactorAnswer, RegistryError> {
        let seed = random_bytes::<SEED_LENGTH>();
        let sealed = self.secrets.seal(SEAL, &seed);
        let is_new = self.edit_second_factor(user, |factor| match factor {
            Some(active) if !active.pending => {
                active.mode = mode;
                Ok(false)
            }
            _ => {
                *factor = Some(SecondFactorRecord {
                    mode,
                    pending: true,
                    seed: sealed,
                    recovery: Vec::new(),
                });
                Ok(true)
            }
        });
        if !is_new.await? {
            return Ok(SecondFactorAnswer::Done);
        }
        let totp = Builder::new()
            .with_secret(seed)
            .with_account_name(user.as_str())
            .with_issuer(Some(ISSUER))
            .build()
            .map_err(|error| RegistryError::internal(error.to_string()))?;
        let url = totp.to_url();
        let url = url.map_err(|error| RegistryError::internal(error.to_string()))?;
        Ok(SecondFactorAnswer::Seed(url))
    }

    async fn confirm(
        &self,
        user: &Username,
        code: &str,
    ) -> Result<SecondFactorAnswer, RegistryError> {
        let record = self.user(user);
        let factor = record.as_ref().and_then(|user| user.second_factor.as_ref());
        let pending = factor.filter(|factor| factor.pending).ok_or_else(|| {
            RegistryError::bad_request("run `npm profile enable-2fa` to begin with 2FA")
        })?;
        if self.step_of(pending, code)?.is_none() {
            return Err(RegistryError::bad_request(
                "the code is wrong; is the clock of the device that made it right?",
            ));
        }
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| random_hex::<32>()).collect();
        let hashes: Vec<String> = codes.iter().map(|code| hash_of(code)).collect();
        let seed = pending.seed.clone();
        let confirmed = self.edit_second_factor(user, |factor| {
            // Somebody may have begun anew meanwhile; the code was not for that seed.
            let factor = factor.as_mut().filter(|factor| factor.seed == seed);
            let factor = factor.ok_or_else(|| {
                AccountsError::Refused("the second factor has changed; begin again".to_owned())
            })?;
            factor.pending = false;
            factor.recovery = hashes;
            Ok(())
        });
        confirmed.await?;
        tracing::info!(user.name = %user, "second factor turned on");
        Ok(SecondFactorAnswer::RecoveryCodes(codes))
    }

    /// What the second factor of `user` protects, and whether `pass` is a proof of it. `by` names
    /// who shows it: a code may be shown again, but only by the same.
    pub(super) async fn second_factor(
        &self,
        user: &Username,
        pass: Option<&SecretString>,
        by: &str,
    ) -> Result<SecondFactor, RegistryError> {
        let record = self.user(user);
        let Some(factor) = record.as_ref().and_then(|user| active(user)) else {
            return Ok(SecondFactor::default());
        };
        let proof = match pass {
            None => Proof::None,
            Some(pass)
                if self
                    .is_right(user, factor, pass.expose_secret(), by)
                    .await? =>
            {
                Proof::Given
            }
            Some(_) => Proof::Wrong,
        };
        Ok(SecondFactor {
            mode: Some(factor.mode),
            proof,
        })
    }

    /// Succeeds when `user` has no second factor or `pass` is a proof of it; for logins.
    pub(super) async fn require_second_factor(
        &self,
        user: &Username,
        pass: Option<&SecretString>,
    ) -> Result<(), RegistryError> {
        let factor = self.second_factor(user, pass, &random_hex::<16>()).await?;
        if factor.covers_account() {
            return Ok(());
        }
        let was_wrong = factor.proof == Proof::Wrong;
        Err(RegistryError::one_time_pass_required(
            user.as_str(),
            was_wrong,
        ))
    }

    async fn is_right(
        &self,
        user: &Username,
        factor: &SecondFactorRecord,
        pass: &str,
        by: &str,
    ) -> Result<bool, RegistryError> {
        // Whoever gets here has shown a password or a token: no stranger can lock anybody out.
        if let Some(retry_after) = self.pass_throttle.delay(user, None) {
            return Err(RegistryError::RateLimited {
                message: "too many wrong one-time passes, try again later".to_owned(),
                retry_after,
            });
        }
        let is_right = self.accepts(user, factor, pass, by).await?;
        if is_right {
            self.pass_throttle.succeeded(user, None);
        } else {
            self.pass_throttle.failed(user, None);
            tracing::info!(user.name = %user, "wrong one-time pass");
        }
        Ok(is_right)
    }

    async fn accepts(
        &self,
        user: &Username,
        factor: &SecondFactorRecord,
        pass: &str,
        by: &str,
    ) -> Result<bool, RegistryError> {
        let pass: String = pass.split_whitespace().collect();
        if let Some(step) = self.step_of(factor, &pass)? {
            let key = (user.clone(), step);
            let first = self.used_codes.get_with(key, || by.into());
            return Ok(*first == *by);
        }
        let hash = hash_of(&pass);
        if factor.recovery.contains(&hash) {
            return self.use_recovery_code(user, &hash).await;
        }
        Ok(self.sessions.has_pass(&hash, user, self.clock.now()))
    }

    /// Whether the code was still there; from now on it is not.
    async fn use_recovery_code(&self, user: &Username, hash: &str) -> Result<bool, RegistryError> {
        let used = self.edit_second_factor(user, |factor| {
            let Some(factor) = factor else {
                return Ok(false);
            };
            let before = factor.recovery.len();
            factor.recovery.retain(|known| known != hash);
            Ok(factor.recovery.len() < before)
        });
        let used = used.await?;
        tracing::info!(user.name = %user, "recovery code used");
        Ok(used)
    }

    /// The 30 seconds that `code` is of; `None` for a wrong one.
    fn step_of(
        &self,
        factor: &SecondFactorRecord,
        code: &str,
    ) -> Result<Option<u64>, RegistryError> {
        if !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let seed = self.secrets.unseal(SEAL, &factor.seed);
        let totp: Totp = Builder::new()
            .with_secret(seed.map_err(RegistryError::internal)?)
            .build()
            .map_err(|error| RegistryError::internal(error.to_string()))?;
        let seconds = u64::try_from(self.clock.now().unix_millis() / 1000).unwrap_or(0);
        Ok(totp.check(code, seconds))
    }

    async fn edit_second_factor<T>(
        &self,
        user: &Username,
        edit: impl FnOnce(&mut Option<SecondFactorRecord>) -> Result<T, AccountsError>,
    ) -> Result<T, RegistryError> {
        let edit = |record: &mut UserRecord| edit(&mut record.second_factor);
        Ok(self
            .accounts
            .edit_user(user, self.clock.now(), edit)
            .await?)
    }
}

/// The second factor of `user`, if she has shown a code of it once.
pub(super) fn active(user: &UserRecord) -> Option<&SecondFactorRecord> {
    user.second_factor.as_ref().filter(|factor| !factor.pending)
}

pub(super) fn hash_of(pass: &str) -> String {
    hex::encode(sha2::Sha256::digest(pass))
}
