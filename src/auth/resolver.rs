//! From an `Authorization` header to an identity.

use std::{net::IpAddr, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;

use super::{Auth, Credentials, cidr, local::Remembered, tokens};
use crate::{
    error::RegistryError,
    models::{AuthIdentity, TokenLimits, Username},
};

/// Who a request comes from.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// Who is signed in, if anybody.
    pub identity: Option<Arc<AuthIdentity>>,
    /// What the token that was used may do.
    pub limits: Arc<TokenLimits>,
    /// Why credentials that were sent do not count.
    pub problem: Option<CredentialProblem>,
}

/// Why credentials do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialProblem {
    /// Neither Bearer nor Basic.
    #[error("the Authorization header cannot be read")]
    Malformed,
    /// No such token, or no longer.
    #[error("the token is unknown, expired or revoked; run `npm login`")]
    UnknownToken,
    /// The token may not be used from here.
    #[error("the token may not be used from this address")]
    WrongNetwork,
    /// User name or password are wrong.
    #[error("bad username/password, access denied")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many failed logins, try again later")]
    Throttled,
}

impl Authentication {
    fn problem(problem: CredentialProblem) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }
}

impl Auth {
    /// Who sent this `Authorization` header from `address`, asking for `method` and `path`.
    ///
    /// Credentials that do not count make an anonymous caller with a
    /// `problem`; an error means that nobody could be asked.
    pub async fn authenticate(
        &self,
        header: Option<&str>,
        address: Option<IpAddr>,
        method: &str,
        path: &str,
    ) -> Result<Authentication, RegistryError> {
        let Some(header) = header else {
            return Ok(Authentication::default());
        };
        match Credentials::parse(header) {
            Ok(Credentials::Bearer(token)) => self.bearer(&token, address, method, path).await,
            Ok(Credentials::Basic { username, password }) => {
                self.basic(header, &username, &password, address).await
            }
            Err(_) => Ok(Authentication::problem(CredentialProblem::Malformed)),
        }
    }

    async fn bearer(
        &self,
        token: &SecretString,
        address: Option<IpAddr>,
        method: &str,
        path: &str,
    ) -> Result<Authentication, RegistryError> {
        let token = token.expose_secret();
        if let Some(hook) = self.hook()
            && let Some(identity) = hook.authenticate_request(token, method, path).await?
        {
            return Ok(Authentication {
                identity: Some(Arc::new(identity)),
                ..Authentication::default()
            });
        }
        Ok(self.token(&tokens::key_of(token), None, address))
    }

    /// The bearer of the token with this hash, who must be `user` if one is given.
    fn token(&self, key: &str, user: Option<&str>, address: Option<IpAddr>) -> Authentication {
        let record = self.accounts().token(key).filter(|record| {
            !record.is_expired(self.clock().now()) && user.is_none_or(|user| record.user == user)
        });
        let Some(record) = record else {
            return Authentication::problem(CredentialProblem::UnknownToken);
        };
        if !cidr::covers(&record.cidr, address) {
            return Authentication::problem(CredentialProblem::WrongNetwork);
        }
        let identity = AuthIdentity {
            username: Some(record.user.clone()),
            groups: Vec::new(),
        };
        let limits = TokenLimits {
            is_readonly: record.readonly,
            packages: record.packages.iter().map(|name| name.0.clone()).collect(),
            scopes: record.scopes.clone(),
        };
        Authentication {
            identity: Some(Arc::new(identity)),
            limits: Arc::new(limits),
            problem: None,
        }
    }

    /// A user with her password, or with a token of hers in its place.
    async fn basic(
        &self,
        header: &str,
        username: &str,
        password: &SecretString,
        address: Option<IpAddr>,
    ) -> Result<Authentication, RegistryError> {
        let key = tokens::key_of(password.expose_secret());
        if self.accounts().token(&key).is_some() {
            return Ok(self.token(&key, Some(username), address));
        }
        let Ok(user) = username.parse::<Username>() else {
            return Ok(Authentication::problem(CredentialProblem::WrongPassword));
        };
        let remembered = Remembered(sha2::Sha256::digest(header).into());
        if self.remembers(&remembered, &user) {
            return Ok(signed_in(&user));
        }
        match self.check_password(&user, password, address).await {
            Ok(()) => {
                self.remember(remembered, &user);
                Ok(signed_in(&user))
            }
            Err(RegistryError::RateLimited { .. }) => {
                Ok(Authentication::problem(CredentialProblem::Throttled))
            }
            Err(RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. }) => {
                Ok(Authentication::problem(CredentialProblem::WrongPassword))
            }
            Err(error) => Err(error),
        }
    }
}

fn signed_in(user: &Username) -> Authentication {
    let identity = AuthIdentity {
        username: Some(user.as_str().to_owned()),
        groups: Vec::new(),
    };
    Authentication {
        identity: Some(Arc::new(identity)),
        ..Authentication::default()
    }
}
