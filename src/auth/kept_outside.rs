//! Users whom others keep: what is done here with what they say.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, LoggedIn, Sender, local::THROTTLED, outside::Outsider};
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
        self.require_free_name(user)?;
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
                    Ok(added) => {
                        // Nobody knew her before, which was no wrong guess.
                        self.throttle.succeeded(user, sender.address);
                        Ok(added)
                    }
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
            self.require_free_name(user)?;
            let checked = keeper.recognise(sender, user.as_str(), password.expose_secret());
            return self.throttled(user, password, sender, checked).await;
        }
        self.check_password(user, password, sender).await
    }

    /// What others say of a password. A right one that many show at the same time is asked about once.
    pub(super) async fn throttled(
        &self,
        user: &Username,
        password: &SecretString,
        sender: &Sender,
        checked: impl Future<Output = Result<(), RegistryError>>,
    ) -> Result<(), RegistryError> {
        let digest = Self::digest(user, None, password, sender.address);
        let (mut checked, mut own) = (std::pin::pin!(checked), None);
        let asked = async {
            let counted = self.counted(user, sender, checked.as_mut()).await;
            own = Some(counted);
            match own {
                Some(Ok(())) => Ok(()),
                _ => Err(()),
            }
        };
        let shared = self.asked.try_get_with(digest, asked).await;
        // The next one asks again.
        self.asked.invalidate(&digest).await;
        match (own, shared) {
            (Some(own), _) => own,
            (None, Ok(())) => Ok(()),
            (None, Err(_)) => self.counted(user, sender, checked).await,
        }
    }

    /// Tries something that needs a password, as long as there were not too many wrong ones. What comes
    /// meanwhile counts too, and whatever those who keep the users refuse it with.
    async fn counted(
        &self,
        user: &Username,
        sender: &Sender,
        tried: impl Future<Output = Result<(), RegistryError>>,
    ) -> Result<(), RegistryError> {
        let address = sender.address;
        let begun = self.throttle.begin(user, address);
        begun.map_err(|retry_after| RegistryError::RateLimited {
            message: THROTTLED.to_owned(),
            retry_after,
        })?;
        let result = tried.await;
        match &result {
            Ok(()) => self.throttle.succeeded(user, address),
            Err(error) if error.status().is_server_error() => {
                self.throttle.take_back(user, address);
            }
            Err(_) => {}
        }
        result
    }

    /// Changes the password of a user that others keep.
    pub(super) async fn change_password_outside(
        &self,
        keeper: &dyn Outsider,
        user: &Username,
        (old, new): (&SecretString, &SecretString),
        sender: &Sender,
    ) -> Result<(), RegistryError> {
        let (old, new) = (old.expose_secret(), new.expose_secret());
        let min = self.config.password_min;
        let changed = keeper.change_password(sender, user.as_str(), old, new, min);
        self.counted(user, sender, changed).await?;
        self.end_logins(user).await
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
