//! [`AuthHook`]: how a program that embeds the registry brings its own users and rules.

use async_trait::async_trait;

use crate::{error::RegistryError, models::AuthIdentity};

/// An embedder's say in who callers are and what they may do.
///
/// Every method has a default, so that a hook implements what it cares about. It is asked before
/// local accounts and before the rules; an error ends the request.
#[async_trait]
pub trait AuthHook: Send + Sync {
    /// Makes a user. `min` is the smallest length of a password in characters.
    async fn add_user(&self, name: &str, password: &str, min: usize) -> Result<(), RegistryError> {
        let _ = (name, password, min);
        Err(RegistryError::forbidden("adding users is not supported"))
    }

    /// Checks a user's password.
    async fn authenticate(&self, name: &str, password: &str) -> Result<(), RegistryError> {
        let _ = (name, password);
        Err(RegistryError::forbidden("password login is not supported"))
    }

    /// Changes a user's password. `min` is the smallest length of a password in characters.
    async fn change_password(
        &self,
        name: &str,
        old: &str,
        new: &str,
        min: usize,
    ) -> Result<(), RegistryError> {
        let _ = (name, old, new, min);
        Err(RegistryError::forbidden(
            "changing passwords is not supported",
        ))
    }

    /// Who the bearer of `token` is; `None` leaves the question to local accounts.
    async fn authenticate_request(
        &self,
        token: &str,
        method: &str,
        path: &str,
    ) -> Result<Option<AuthIdentity>, RegistryError> {
        let _ = (token, method, path);
        Ok(None)
    }

    /// Whether `identity` may read `package`; `None` leaves the question to the rules.
    async fn allow_access(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        let _ = (identity, package);
        Ok(None)
    }

    /// Whether `identity` may publish `package`; `None` leaves the question to the rules.
    async fn allow_publish(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        let _ = (identity, package);
        Ok(None)
    }

    /// Whether `identity` may unpublish `package`; `None` leaves the question to the rules.
    async fn allow_unpublish(
        &self,
        identity: Option<AuthIdentity>,
        package: &str,
    ) -> Result<Option<bool>, RegistryError> {
        let _ = (identity, package);
        Ok(None)
    }
}
