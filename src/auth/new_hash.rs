//! In which form passwords are kept from now on.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, hashes, passwords};
use crate::{
    error::RegistryError,
    models::Username,
    storage::{AccountStore as _, AccountsError, HashForm, UserRecord},
};

impl Auth {
    /// The hash that is kept of a new password.
    pub(super) async fn hash(&self, password: &SecretString) -> Result<String, RegistryError> {
        let form = self.accounts.hash_form();
        self.passwords.hash(password, form).await
    }

    /// Fails where the hash of a new password would be made of its beginning only.
    pub(super) fn require_whole(&self, password: &SecretString) -> Result<(), RegistryError> {
        if passwords::fits(password.expose_secret(), self.accounts.hash_form()) {
            return Ok(());
        }
        Err(RegistryError::bad_request(passwords::TOO_LONG))
    }

    /// Keeps a stronger hash of a password that was right, where a weaker one came from elsewhere. The hash
    /// that is kept then; a failure is none of the login.
    pub(super) async fn strengthened(
        &self,
        user: &Username,
        password: &SecretString,
        hash: Option<String>,
    ) -> Option<String> {
        let form = self.accounts.hash_form();
        let weak = match &hash {
            Some(weak) if form == HashForm::Argon2id && hashes::is_weak(weak) => weak.clone(),
            _ => return hash,
        };
        let replaced = async {
            let stronger = self.passwords.hash(password, form).await?;
            let mut edit = |record: &mut UserRecord| {
                // Another login, or a new password, came first.
                if record.password_hash != weak {
                    return Err(AccountsError::Refused(String::new()));
                }
                record.password_hash.clone_from(&stronger);
                Ok(())
            };
            match self.accounts.edit_user(user, &mut edit, None).await {
                Ok(_) => Ok(Some(stronger)),
                Err(AccountsError::Refused(_)) => Ok(None),
                Err(error) => Err(RegistryError::from(error)),
            }
        };
        match replaced.await {
            Ok(Some(stronger)) => Some(stronger),
            // The same password, as far as it was right a moment ago.
            Ok(None) => match self.accounts.user(user).await {
                Ok(record) if self.is_right(password, record.as_deref()).await => {
                    record.map(|record| record.password_hash.clone())
                }
                _ => hash,
            },
            Err(error) => {
                tracing::warn!(
                    user.name = %user,
                    error = &error as &dyn std::error::Error,
                    "cannot keep a stronger hash of a password"
                );
                hash
            }
        }
    }

    async fn is_right(&self, password: &SecretString, record: Option<&UserRecord>) -> bool {
        let hash = record.map(|record| record.password_hash.clone());
        let verified = self.passwords.verify(password, hash).await;
        verified.unwrap_or(false)
    }
}
