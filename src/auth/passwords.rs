//! Passwords: hashed and verified on the blocking pool, a bounded number at a time.

use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use super::hashes::{self, verify};
use crate::{error::RegistryError, storage::HashForm};

/// One hash takes 19 MiB (the library's default, OWASP's first choice); a flood of logins must
/// not take all memory.
const MAX_AT_ONCE: usize = 4;
/// How much of a hash tells its form and its cost.
const FORM: usize = 7;
/// Longer ones only cost time.
pub(super) const MAX_LENGTH: usize = 1024;
/// What is said of a new password that is too short, or absurdly long.
pub(super) const INVALID: &str = "The provided password does not pass the validation";

/// What is said of a password that is longer than what its hash would be made of.
pub(super) const TOO_LONG: &str =
    "the password may have 72 bytes at most: bcrypt, which the file of users has, reads no more";

/// Whether hashes of this form are made of all of the new password.
pub(super) fn fits(password: &str, form: HashForm) -> bool {
    match form {
        HashForm::Argon2id => true,
        HashForm::Bcrypt { .. } => password.len() <= hashes::MAX_BCRYPT_LENGTH,
    }
}

/// Whether a new password has `min` characters, and not absurdly many.
pub(super) fn is_long_enough(password: &str, min: usize) -> bool {
    password.chars().count() >= min && !password.is_empty() && password.len() <= MAX_LENGTH
}

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Passwords {
    form: HashForm,
    slots: Arc<Semaphore>,
    /// What unknown users' passwords are compared with, so that they take as long as known ones.
    nobodys: Arc<OnceLock<String>>,
}

impl Passwords {
    /// Those whose new hashes have this form.
    pub(super) fn new(form: HashForm) -> Self {
        Self {
            form,
            nobodys: Arc::default(),
            slots: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        }
    }

    /// The password's hash, in the form of new ones.
    pub(super) async fn hash(&self, password: &SecretString) -> Result<String, RegistryError> {
        let (password, form) = (password.clone(), self.form);
        self.run(move || hash(password.expose_secret(), form))
            .await?
    }

    /// Whether the password has the hash. Without a hash: false, after the same time.
    pub(super) async fn verify(
        &self,
        password: &SecretString,
        hash: Option<String>,
    ) -> Result<bool, RegistryError> {
        let (password, form) = (password.clone(), self.form);
        let nobodys = Arc::clone(&self.nobodys);
        self.run(move || {
            let is_known = hash.is_some();
            let made = || self::hash("not a password", form).unwrap_or_default();
            let nobodys = || nobodys.get_or_init(made).clone();
            let hash = hash.unwrap_or_else(nobodys);
            let is_right = verify(password.expose_secret(), &hash) && is_known;
            if !is_right && hash.get(..FORM) != nobodys().get(..FORM) {
                // Another form is faster; who exists is nobody's business.
                verify(password.expose_secret(), &nobodys());
            }
            is_right
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let slots = Arc::clone(&self.slots);
        let slot = slots
            .acquire_owned()
            .await
            .map_err(RegistryError::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let value = work();
            drop(slot);
            value
        });
        done.await.map_err(RegistryError::internal)
    }
}

fn hash(password: &str, form: HashForm) -> Result<String, RegistryError> {
    match form {
        HashForm::Argon2id => hashes::argon2id(password),
        HashForm::Bcrypt { cost } => hashes::bcrypt(password, cost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_passes() {
        let passwords = Passwords::new(HashForm::Argon2id);
        let secret = "secret".into();
        let hash = passwords.hash(&secret).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(
            passwords
                .verify(&"secret".into(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(&"Secret".into(), Some(hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(&"not a password".into(), None)
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(&"x".into(), Some("garbage".to_owned()))
                .await
                .unwrap()
        );
    }
}
