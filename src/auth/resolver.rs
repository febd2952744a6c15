//! From an `Authorization` header to an identity.

use std::{net::IpAddr, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;

use super::{Auth, Credentials, Sender, cidr, tokens};
use crate::{
    error::RegistryError,
    models::{AuthIdentity, Proof, RequestInfo, SecondFactor, TokenLimits, Username},
    storage::{TokenKind, TokenRecord},
};

/// Who a request comes from.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// Who is signed in, if anybody.
    pub identity: Option<Arc<AuthIdentity>>,
    /// How the token begins that was used, if it is one of ours.
    pub token: Option<Arc<str>>,
    /// What the token that was used may do.
    pub limits: Arc<TokenLimits>,
    /// What the account wants as a second factor, and what the request shows.
    pub second_factor: SecondFactor,
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
    /// The account has a second factor, which a password alone does not show.
    #[error("this account has a second factor; sign in with `npm login` and use a token")]
    PasswordAlone,
    /// The account does not count.
    #[error("{}", super::operator::DISABLED)]
    Disabled,
    /// Too many wrong passwords.
    #[error("too many failed logins, try again later")]
    Throttled,
}

impl Authentication {
    pub(super) fn problem(problem: CredentialProblem) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }
}

/// What a request shows of its sender.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `npm-otp` header.
    pub pass: Option<&'a SecretString>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// What it is about.
    pub request: &'a RequestInfo,
}

impl Auth {
    /// Who sent a request.
    ///
    /// Credentials that do not count make an anonymous caller with a
    /// `problem`; an error means that nobody could be asked.
    pub async fn authenticate(
        &self,
        presented: Presented<'_>,
    ) -> Result<Authentication, RegistryError> {
        let Some(header) = presented.authorization else {
            return Ok(Authentication::default());
        };
        match Credentials::parse(header) {
            // In boxes: room for it would be made for requests without credentials too.
            Ok(Credentials::Bearer(token)) => Box::pin(self.bearer(&token, presented)).await,
            Ok(Credentials::Basic { username, password }) => {
                Box::pin(self.basic(header, &username, &password, presented)).await
            }
            Err(_) => Ok(Authentication::problem(CredentialProblem::Malformed)),
        }
    }

    async fn bearer(
        &self,
        token: &SecretString,
        presented: Presented<'_>,
    ) -> Result<Authentication, RegistryError> {
        let token = token.expose_secret();
        if let Some(identity) = self.outside.identify(presented.request, token).await? {
            return self.known_outside(identity).await;
        }
        if self.config.is_external {
            let problem = CredentialProblem::UnknownToken;
            return Ok(Authentication::problem(problem));
        }
        let key = tokens::key_of(token);
        let record = self.accounts.known_token(&key).await?;
        if record.is_none() && self.verdaccio.is_some() {
            // In a box, for those whose token is ours.
            let old = Box::pin(self.old_token(token, None, presented)).await?;
            if let Some(found) = old {
                return Ok(found);
            }
        }
        self.token(record, &key, None, presented).await
    }

    async fn known_outside(
        &self,
        mut identity: Arc<AuthIdentity>,
    ) -> Result<Authentication, RegistryError> {
        let user = identity.username.as_deref().map(str::parse::<Username>);
        // Who has no name of her own has that of her group.
        let is_reserved = |user: &Username| {
            user.is_reserved() && !identity.groups.iter().any(|group| group == user.as_str())
        };
        let is_reserved = matches!(&user, Some(Ok(user)) if is_reserved(user));
        if identity.primary_name().is_none() || is_reserved {
            // Who has no name is nobody, and no user has the name of an organisation.
            let problem = CredentialProblem::UnknownToken;
            return Ok(Authentication::problem(problem));
        }
        // Organisations are kept here, whoever keeps the users.
        if let Some(Ok(user)) = user {
            let groups = self.accounts.known_groups(&user).await?;
            if !groups.is_empty() {
                Arc::make_mut(&mut identity).groups.extend(groups);
            }
        }
        Ok(Authentication {
            identity: Some(identity),
            ..Authentication::default()
        })
    }

    /// A user with a token from outside in the place of her password.
    async fn outside_token(
        &self,
        username: &str,
        token: &SecretString,
        presented: Presented<'_>,
    ) -> Result<Authentication, RegistryError> {
        let token = token.expose_secret();
        let identity = self.outside.identify(presented.request, token).await?;
        match identity {
            Some(identity) if identity.username.as_deref() == Some(username) => {
                self.known_outside(identity).await
            }
            _ => Ok(Authentication::problem(CredentialProblem::UnknownToken)),
        }
    }

    /// The bearer of the token with this hash and `record`, who must be `user` if one is given.
    async fn token(
        &self,
        record: Option<Arc<TokenRecord>>,
        key: &str,
        user: Option<&str>,
        presented: Presented<'_>,
    ) -> Result<Authentication, RegistryError> {
        let problem = |problem| Ok(Authentication::problem(problem));
        let record = record.filter(|record| {
            !record.is_expired(self.clock.now())
                && record.kind != TokenKind::Ended
                && user.is_none_or(|user| record.user == user)
        });
        let Some(record) = record else {
            return problem(CredentialProblem::UnknownToken);
        };
        if !cidr::covers(&record.cidr, presented.address) {
            return problem(CredentialProblem::WrongNetwork);
        }
        let Ok(user) = record.user.parse::<Username>() else {
            return problem(CredentialProblem::UnknownToken);
        };
        let factor = self.factor_unless_disabled(&user, presented.pass, key);
        let Some(factor) = factor.await? else {
            return problem(CredentialProblem::Disabled);
        };
        let second_factor = SecondFactor {
            is_bypassed: record.bypass_second_factor,
            ..factor
        };
        let limits = TokenLimits {
            is_readonly: record.readonly,
            packages: record.packages.iter().map(|name| name.0.clone()).collect(),
            scopes: record.scopes.clone(),
        };
        Ok(Authentication {
            token: Some(record.prefix.as_str().into()),
            limits: Arc::new(limits),
            second_factor,
            ..self.signed_in(&user).await?
        })
    }

    /// A user with her password, or with a token of hers in its place.
    async fn basic(
        &self,
        header: &str,
        username: &str,
        password: &SecretString,
        presented: Presented<'_>,
    ) -> Result<Authentication, RegistryError> {
        if self.config.is_external {
            return self.outside_token(username, password, presented).await;
        }
        let key = tokens::key_of(password.expose_secret());
        let record = self.accounts.known_token(&key).await?;
        if record.is_some() {
            return self.token(record, &key, Some(username), presented).await;
        }
        if self.verdaccio.is_some() {
            let old = self.old_token(password.expose_secret(), Some(username), presented);
            if let Some(found) = Box::pin(old).await? {
                return Ok(found);
            }
        }
        let Ok(user) = username.parse::<Username>() else {
            // Each costs nobody a look at a password: without this they would come as fast as can be.
            let problem = match self.throttle.begin(None, presented.address) {
                Ok(()) => CredentialProblem::WrongPassword,
                Err(_) => CredentialProblem::Throttled,
            };
            return Ok(Authentication::problem(problem));
        };
        let by = hex::encode(sha2::Sha256::digest(header));
        self.by_password(&user, password, &by, presented).await
    }

    /// A user with her password. `by` tells what it came in from other credentials.
    pub(super) async fn by_password(
        &self,
        user: &Username,
        password: &SecretString,
        by: &str,
        presented: Presented<'_>,
    ) -> Result<Authentication, RegistryError> {
        let sender = Sender {
            address: presented.address,
            request_id: Arc::clone(&presented.request.id),
        };
        let checked = self.recognise_password(user, password, &sender);
        match checked.await {
            Ok(()) => {}
            Err(RegistryError::RateLimited { .. }) => {
                return Ok(Authentication::problem(CredentialProblem::Throttled));
            }
            Err(RegistryError::Forbidden { message }) if message == super::operator::DISABLED => {
                return Ok(Authentication::problem(CredentialProblem::Disabled));
            }
            Err(error) if error.status().is_client_error() => {
                return Ok(Authentication::problem(CredentialProblem::WrongPassword));
            }
            Err(error) => return Err(error),
        }
        let factor = self.factor_unless_disabled(user, presented.pass, by);
        let Some(second_factor) = factor.await? else {
            return Ok(Authentication::problem(CredentialProblem::Disabled));
        };
        // A password alone would be worth more here than at a login.
        if second_factor.mode.is_some() {
            match self.second_factors.proof_of(user, &second_factor).await {
                Ok(Proof::Given) => {}
                Ok(_) => return Ok(Authentication::problem(CredentialProblem::PasswordAlone)),
                Err(RegistryError::RateLimited { .. }) => {
                    return Ok(Authentication::problem(CredentialProblem::Throttled));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Authentication {
            second_factor,
            ..self.signed_in(user).await?
        })
    }

    pub(super) async fn signed_in(&self, user: &Username) -> Result<Authentication, RegistryError> {
        let identity = AuthIdentity {
            username: Some(user.as_str().to_owned()),
            groups: self.accounts.known_groups(user).await?,
        };
        Ok(Authentication {
            identity: Some(Arc::new(identity)),
            ..Authentication::default()
        })
    }
}
