//! Users whom others keep: what is done here with what they say.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, LoggedIn, Sender, local::THROTTLED};
use crate::{
    error::RegistryError,
    models::Username,
    storage::{AccountStore as _, Profile, TokenKind},
};

impl Auth {
    /// Logs in a user whom others keep, or has her made there. The token is ours.
    pub(super) async fn login_outside(
        &self,
        user: &Username,
        password: &SecretString,
        sender: &Sender,
    ) -> Result<LoggedIn, RegistryError> {
        match self.check_password(user, password, sender).await {
            Ok(()) => {}
            // Whether there is such a user is not known then.
            Err(failed) if failed.status().is_server_error() => return Err(failed),
            Err(throttled @ RegistryError::RateLimited { .. }) => return Err(throttled),
            Err(refused) => {
                let added = self.register(user, password, Profile::default(), sender);
                return match added.await {
                    Err(failed) if failed.status().is_server_error() => Err(failed),
                    // Who cannot be added either hears why the login failed.
                    Err(_) => Err(refused),
                    added => added,
                };
            }
        }
        Ok(LoggedIn {
            is_new: false,
            token: self.issue_login_token(user).await?,
        })
    }

    /// Like [`Auth::check_password`], for a password that comes with each request.
    pub(super) async fn recognise_password(
        &self,
        user: &Username,
        password: &SecretString,
        sender: &Sender,
    ) -> Result<(), RegistryError> {
        if let Some(keeper) = self.outside.keeper() {
            let (name, password) = (user.as_str(), password.expose_secret());
            let checked = keeper.recognise(sender, name, password);
            return self.throttled(user, sender, checked).await;
        }
        self.check_password(user, password, sender).await
    }

    /// What others say of a password, as long as there were not too many wrong ones.
    pub(super) async fn throttled(
        &self,
        user: &Username,
        sender: &Sender,
        checked: impl Future<Output = Result<(), RegistryError>>,
    ) -> Result<(), RegistryError> {
        let throttled = |retry_after| RegistryError::RateLimited {
            message: THROTTLED.to_owned(),
            retry_after,
        };
        let address = sender.address;
        self.throttle.look(user, address).map_err(throttled)?;
        let result = checked.await;
        match &result {
            Ok(()) => self.throttle.succeeded(user, address),
            Err(RegistryError::Unauthorized { .. }) => {
                self.throttle.begin(user, address).map_err(throttled)?;
            }
            Err(_) => {}
        }
        result
    }

    /// Ends the login tokens of a user that others keep.
    pub(super) async fn end_logins(&self, user: &Username) -> Result<(), RegistryError> {
        for token in self.accounts.tokens_of(user).await? {
            if token.kind == TokenKind::Login {
                self.accounts.remove_token(&token.key).await?;
            }
        }
        Ok(())
    }
}
