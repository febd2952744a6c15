//! Turning a second factor on and off, as `/-/npm/v1/user` has it.

use secrecy::SecretString;
use totp_rs::Builder;

use super::{Auth, Sender, second_factor::hash_of};
use crate::{
    error::RegistryError,
    lifecycle::{random_bytes, random_hex},
    models::{SecondFactorMode, Username},
    storage::{AccountsError, SecondFactorRecord},
};

const ISSUER: &str = "rustaccio";
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
    /// It protects something else from now on.
    ModeChanged,
    /// There is none any more.
    Off,
}

impl Auth {
    /// Changes the second factor of `user`.
    pub async fn change_second_factor(
        &self,
        user: &Username,
        change: SecondFactorChange,
        sender: &Sender,
    ) -> Result<SecondFactorAnswer, RegistryError> {
        if !self.outside.is_empty() {
            return Err(RegistryError::bad_request(
                "accounts are kept elsewhere, and so is their second factor",
            ));
        }
        match change {
            SecondFactorChange::Enable { mode, password } => {
                self.check_password(user, &password, sender).await?;
                self.enable(user, mode).await
            }
            SecondFactorChange::Confirm { code } => self.confirm(user, &code).await,
            SecondFactorChange::Disable { password } => {
                self.check_password(user, &password, sender).await?;
                let removed = self.second_factors.edit(user, |factor| {
                    *factor = None;
                    Ok(())
                });
                removed.await?;
                tracing::info!(user.name = %user, "second factor turned off");
                Ok(SecondFactorAnswer::Off)
            }
        }
    }

    async fn enable(
        &self,
        user: &Username,
        mode: SecondFactorMode,
    ) -> Result<SecondFactorAnswer, RegistryError> {
        let seed = random_bytes::<SEED_LENGTH>();
        let sealed = self.second_factors.seal(&seed);
        let is_new = self.second_factors.edit(user, |factor| match factor {
            Some(active) if !active.pending => {
                active.mode = mode;
                Ok(false)
            }
            _ => {
                *factor = Some(SecondFactorRecord {
                    mode,
                    pending: true,
                    seed: sealed.clone(),
                    recovery: Vec::new(),
                });
                Ok(true)
            }
        });
        if !is_new.await? {
            return Ok(SecondFactorAnswer::ModeChanged);
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
        let record = self.user(user).await?;
        let factor = record.as_ref().and_then(|user| user.second_factor.as_ref());
        let pending = factor.filter(|factor| factor.pending).ok_or_else(|| {
            RegistryError::bad_request("run `npm profile enable-2fa` to begin with 2FA")
        })?;
        if !self.second_factors.confirms(user, pending, code)? {
            return Err(RegistryError::bad_request(
                "the code is wrong; is the clock of the device that made it right?",
            ));
        }
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| random_hex::<32>()).collect();
        let hashes: Vec<String> = codes.iter().map(|code| hash_of(code)).collect();
        let seed = pending.seed.clone();
        let confirmed = self.second_factors.edit(user, |factor| {
            // Somebody may have begun anew meanwhile; the code was not for that seed.
            let factor = factor.as_mut().filter(|factor| factor.seed == seed);
            let factor = factor.ok_or_else(|| {
                AccountsError::Refused("the second factor has changed; begin again".to_owned())
            })?;
            factor.pending = false;
            factor.recovery.clone_from(&hashes);
            Ok(())
        });
        confirmed.await?;
        tracing::info!(user.name = %user, "second factor turned on");
        Ok(SecondFactorAnswer::RecoveryCodes(codes))
    }
}
