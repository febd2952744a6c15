//! [`Auth`]: registering, logging in and out, passwords, profiles, tokens.

use std::{net::IpAddr, sync::Arc, time::Duration};

use moka::future::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;

use super::{
    Outside, Sender, cidr,
    known::Known,
    operator,
    passwords::{self, Passwords},
    second_factor::SecondFactors,
    sessions::Sessions,
    throttle::Throttle,
    tokens,
    verdaccio_tokens::VerdaccioTokens,
};
use crate::{
    config::{AuthConfig, Registration},
    error::RegistryError,
    lifecycle::SharedClock,
    models::{PackageName, Username},
    storage::{
        AccountStore, AccountStoreExt as _, AccountsError, PackageNameText, Profile, Secrets,
        SessionStore, TokenKind, TokenRecord, UserRecord,
    },
};

const BAD_PASSWORD: &str = "bad username/password, access denied";
pub(super) const THROTTLED: &str = "too many failed logins, try again later";
/// How long a password that was right is not computed again.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: u64 = 10_000;
const MAX_TOKENS_PER_USER: usize = 1000;

/// What [`Auth`] is made of.
pub struct AuthOptions {
    /// Settings of local accounts.
    pub config: AuthConfig,
    /// Groups that no user may have as a name.
    pub reserved_names: Vec<String>,
    /// Where users and tokens are kept.
    pub accounts: Arc<dyn AccountStore>,
    /// Where logins wait for a browser.
    pub sessions: Arc<dyn SessionStore>,
    /// Seals what must be readable again.
    pub secrets: Secrets,
    /// The clock.
    pub clock: SharedClock,
    /// Who keeps accounts in our place.
    pub outside: Outside,
    /// Tokens that Verdaccio made, where it was used before.
    pub verdaccio: Option<VerdaccioTokens>,
}

/// The answer to a login or a registration.
#[derive(Debug)]
pub struct LoggedIn {
    /// Whether the account is new.
    pub is_new: bool,
    /// The token, shown this once.
    pub token: SecretString,
}

/// What a user wants of a new token.
#[derive(Clone, Debug, Default)]
pub struct TokenRequest {
    /// A name for it.
    pub name: Option<String>,
    /// Whether it may only read.
    pub readonly: bool,
    /// Whether it works without the second factor of its user.
    pub bypass_second_factor: bool,
    /// The networks that it may be used from.
    pub cidr: Vec<String>,
    /// When it ends; `None` for never.
    pub lifetime: Option<Duration>,
    /// The packages that it works for; empty (with no scope) for all.
    pub packages: Vec<PackageName>,
    /// The scopes that it works for.
    pub scopes: Vec<String>,
}

/// Why a password does not count.
#[derive(Debug)]
enum Refused {
    Wrong,
    Throttled(Duration),
    Failed(RegistryError),
}

/// Accounts and what may be done with them.
pub struct Auth {
    pub(super) config: AuthConfig,
    reserved_names: Vec<String>,
    pub(super) accounts: Arc<Known>,
    pub(super) clock: SharedClock,
    pub(super) outside: Outside,
    pub(super) verdaccio: Option<VerdaccioTokens>,
    pub(super) second_factors: SecondFactors,
    pub(super) passwords: Passwords,
    pub(super) throttle: Throttle,
    pub(super) sessions: Sessions,
    /// Passwords that were right, or are being looked at: see [`Auth::digest`].
    right: Cache<[u8; 32], ()>,
    /// Passwords that others are being asked about.
    pub(super) asked: Cache<[u8; 32], ()>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// Accounts as `options` say.
    pub fn new(options: AuthOptions) -> Self {
        let AuthOptions {
            config,
            reserved_names,
            accounts,
            sessions,
            secrets,
            clock,
            outside,
            verdaccio,
        } = options;
        let accounts = Arc::new(Known::new(accounts));
        let passwords = Passwords::new(accounts.hash_form());
        let known = Arc::clone(&accounts);
        let waiting = Sessions::new(
            Arc::clone(&sessions),
            secrets.clone(),
            config.login_session_ttl,
        );
        let second_factors = SecondFactors::new(known, sessions, secrets, Arc::clone(&clock));
        Self {
            sessions: waiting,
            config,
            reserved_names,
            accounts,
            throttle: Throttle::new(Arc::clone(&clock)),
            second_factors,
            clock,
            outside,
            verdaccio,
            passwords,
            asked: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            right: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(REMEMBERED_FOR)
                .build(),
        }
    }

    /// Logs `user` in, or registers her if nobody has that name.
    pub async fn login_or_register(
        &self,
        user: &Username,
        password: &SecretString,
        profile: Profile,
        sender: &Sender,
        pass: Option<&SecretString>,
    ) -> Result<LoggedIn, RegistryError> {
        if !self.outside.is_empty() {
            return self.login_outside(user, password, sender).await;
        }
        if self.accounts.user(user).await?.is_some() {
            return self.login(user, password, sender, pass).await;
        }
        match self.register(user, password, profile, sender).await {
            Err(error @ RegistryError::Conflict { .. }) => {
                if self.accounts.user(user).await?.is_none() {
                    return Err(error);
                }
                // Somebody else took the name meanwhile; perhaps it was the same person.
                self.login(user, password, sender, pass).await
            }
            result => result,
        }
    }

    /// Logs an existing `user` in; with `pass` if she has a second factor.
    pub async fn login(
        &self,
        user: &Username,
        password: &SecretString,
        sender: &Sender,
        pass: Option<&SecretString>,
    ) -> Result<LoggedIn, RegistryError> {
        let hash = self.checked_hash(user, password, sender).await?;
        self.require_second_factor(user, pass).await?;
        let hash = self.strengthened(user, password, hash).await;
        let record = self.record(user, TokenKind::Login, self.config.token_ttl);
        let (token, record) = self.keep(user, record).await?;
        // Who changes a password revokes the tokens that are there, and this one may have come after.
        if self.password_hash(user).await? != hash {
            self.accounts.remove_token(&record.key).await?;
            return Err(RegistryError::unauthorized(BAD_PASSWORD));
        }
        Ok(LoggedIn {
            is_new: false,
            token,
        })
    }

    /// What is stored now; `None` for users that others keep and for nobody.
    async fn password_hash(&self, user: &Username) -> Result<Option<String>, RegistryError> {
        if !self.outside.is_empty() {
            return Ok(None);
        }
        let record = self.accounts.user(user).await?;
        Ok(record.map(|record| record.password_hash.clone()))
    }

    /// Makes an account, if visitors may.
    pub async fn register(
        &self,
        user: &Username,
        password: &SecretString,
        profile: Profile,
        sender: &Sender,
    ) -> Result<LoggedIn, RegistryError> {
        self.require_free_name(user)?;
        if let Some(keeper) = self.outside.keeper() {
            self.require_open_registration(keeper.registers_by_itself())?;
            let (name, min) = (user.as_str(), self.config.password_min);
            let added = keeper.add_user(sender, name, password.expose_secret(), min);
            added.await?;
            return Ok(LoggedIn {
                is_new: true,
                token: self.issue_login_token(user).await?,
            });
        }
        self.require_open_registration(false)?;
        self.check_new_password(password)?;
        if let Some(max) = self.config.max_users
            && self.accounts.user_count().await? >= max
        {
            return Err(AccountsError::TooManyUsers.into());
        }
        let max_users = self.config.max_users;
        self.make_account(user, password, profile, max_users)
            .await?;
        tracing::info!(user.name = %user, "user registered");
        let token = self.issue_login_token(user).await?;
        Ok(LoggedIn {
            is_new: true,
            token,
        })
    }

    /// Makes an account with a password that may be one.
    pub(super) async fn make_account(
        &self,
        user: &Username,
        password: &SecretString,
        profile: Profile,
        max_users: Option<usize>,
    ) -> Result<(), RegistryError> {
        self.require_whole(password)?;
        let now = self.clock.now();
        let record = UserRecord {
            password_hash: self.passwords.hash(password).await?,
            created: now,
            updated: Some(now),
            password_changed: Some(now),
            disabled: None,
            second_factor: None,
            profile,
        };
        Ok(self.accounts.create_user(user, record, max_users).await?)
    }

    /// Revokes a token that its bearer shows. Whether there was one.
    pub async fn logout(&self, token: &SecretString) -> Result<bool, RegistryError> {
        let key = tokens::key_of(token.expose_secret());
        let known = self.accounts.token(&key).await?;
        // That it has ended stays known.
        if known.is_some_and(|token| token.kind == TokenKind::Ended) {
            return Ok(false);
        }
        Ok(self.accounts.remove_token(&key).await?)
    }

    /// Changes a user's password and revokes her login tokens.
    pub async fn change_password(
        &self,
        user: &Username,
        old: &SecretString,
        new: &SecretString,
        sender: &Sender,
    ) -> Result<(), RegistryError> {
        if let Some(keeper) = self.outside.keeper() {
            let passwords = (old, new);
            let changed = self.change_password_outside(keeper, user, passwords, sender);
            return changed.await;
        }
        self.check_new_password(new)
            .map_err(|error| RegistryError::unauthorized(error.to_string()))?;
        self.require_whole(new)?;
        let checked = self.checked_hash(user, old, sender).await;
        let checked = checked.map_err(|error| match error {
            RegistryError::Unauthorized { message } => RegistryError::Forbidden { message },
            error => error,
        })?;
        if self.password_hash(user).await? != checked {
            return Err(RegistryError::forbidden(BAD_PASSWORD));
        }
        self.replace_password(user, new).await
    }

    /// Makes `new`, which may be one, the password of `user`, and revokes her login tokens.
    pub(super) async fn replace_password(
        &self,
        user: &Username,
        new: &SecretString,
    ) -> Result<(), RegistryError> {
        let hash = self.passwords.hash(new).await?;
        let now = self.clock.now();
        let login = TokenKind::Login;
        let changed = self.accounts.set_password(user, hash, now, login);
        changed.await?;
        Ok(())
    }

    /// Whether every user has an account here; those outside may know others.
    pub fn knows_all_users(&self) -> bool {
        self.outside.is_empty()
    }

    /// Where users, tokens and organisations are kept.
    pub fn accounts(&self) -> &dyn AccountStore {
        &*self.accounts
    }

    /// The account of `user`.
    pub async fn user(&self, user: &Username) -> Result<Option<Arc<UserRecord>>, RegistryError> {
        Ok(self.accounts.user(user).await?)
    }

    /// Changes what `user` tells about herself.
    pub async fn edit_profile(
        &self,
        user: &Username,
        edit: impl Fn(&mut Profile) + Send + Sync,
    ) -> Result<(), RegistryError> {
        let edit = |record: &mut UserRecord| {
            edit(&mut record.profile);
            Ok(())
        };
        Ok(self
            .accounts
            .change_user(user, self.clock.now(), edit)
            .await?)
    }

    /// Makes a token for `user`, who proves with her password that it is she.
    pub async fn create_token(
        &self,
        user: &Username,
        password: &SecretString,
        request: TokenRequest,
        sender: &Sender,
    ) -> Result<(SecretString, TokenRecord), RegistryError> {
        if password.expose_secret().is_empty() {
            return Err(RegistryError::unprocessable(
                "a new token needs your password, and this client sent none; use \
                 `npm token create`, which asks for it",
            ));
        }
        self.check_password(user, password, sender).await?;
        self.make_token(user, request).await
    }

    /// Makes a token for `user`, whoever wants it.
    pub(super) async fn make_token(
        &self,
        user: &Username,
        request: TokenRequest,
    ) -> Result<(SecretString, TokenRecord), RegistryError> {
        let others = self.accounts.tokens_of(user).await?.into_iter();
        let others = others.filter(|token| token.kind != TokenKind::Ended);
        if others.count() >= MAX_TOKENS_PER_USER {
            return Err(RegistryError::conflict(format!(
                "you have {MAX_TOKENS_PER_USER} tokens; revoke some with `npm token revoke`"
            )));
        }
        let mut record = self.record(user, TokenKind::Npm, request.lifetime);
        record.name = request.name;
        record.readonly = request.readonly;
        record.bypass_second_factor = request.bypass_second_factor;
        record.cidr = cidr::parse(&request.cidr)?;
        record.packages = request.packages.into_iter().map(PackageNameText).collect();
        record.scopes = request.scopes;
        self.keep(user, record).await
    }

    /// The tokens of `user` that still count, oldest first.
    pub async fn tokens(&self, user: &Username) -> Result<Vec<Arc<TokenRecord>>, RegistryError> {
        let now = self.clock.now();
        let mut tokens = self.accounts.tokens_of(user).await?;
        tokens.retain(|token| !token.is_expired(now) && token.kind != TokenKind::Ended);
        tokens.extend(self.listed_by_verdaccio(user).await?);
        tokens.sort_by(|one, other| (one.created, &one.key).cmp(&(other.created, &other.key)));
        Ok(tokens)
    }

    /// Revokes a token of `user` by its key, a prefix of the key that is hers alone, or the token
    /// itself. Whether there was one.
    pub async fn revoke(&self, user: &Username, token: &str) -> Result<bool, RegistryError> {
        let hash = tokens::key_of(token);
        let own = self.tokens(user).await?;
        let verdaccios = self.key_at_verdaccio(user, token);
        let is_meant = |own: &&Arc<TokenRecord>| {
            own.key == hash
                || verdaccios.as_ref().is_some_and(|key| own.key == **key)
                || (token.len() >= 6 && own.key.starts_with(token))
        };
        let mut matching = own.iter().filter(is_meant);
        let (Some(found), None) = (matching.next(), matching.next()) else {
            return Ok(false);
        };
        let is_ours = self.accounts.remove_token(&found.key).await?;
        Ok(is_ours || self.revoke_at_verdaccio(user, &found.key).await?)
    }

    /// Removes tokens that have ended.
    pub async fn prune(&self) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.second_factors.sessions().prune(now).await?;
        let count = self.accounts.prune(now).await?;
        if count > 0 {
            tracing::info!(count, "expired tokens removed");
        }
        Ok(())
    }

    /// Succeeds when `password` is that of `user`.
    ///
    /// A right one is remembered for a minute. Those who show the same one at once wait for one
    /// answer, so that a hundred jobs that start together are not taken for guesses.
    pub async fn check_password(
        &self,
        user: &Username,
        password: &SecretString,
        sender: &Sender,
    ) -> Result<(), RegistryError> {
        self.checked_hash(user, password, sender).await.map(drop)
    }

    /// The same; of an account here, the hash that `password` has been compared with. It may have been
    /// replaced by another node a moment ago.
    async fn checked_hash(
        &self,
        user: &Username,
        password: &SecretString,
        sender: &Sender,
    ) -> Result<Option<String>, RegistryError> {
        if let Some(keeper) = self.outside.keeper() {
            self.require_free_name(user)?;
            let checked = keeper.authenticate(sender, user.as_str(), password.expose_secret());
            self.throttled(user, password, sender, checked).await?;
            return Ok(None);
        }
        let address = sender.address;
        // What was right stays so while the account's hash is the one that is known.
        let known = self.accounts.known_user(user).await?;
        let is_disabled = known.as_ref().is_some_and(|user| user.disabled.is_some());
        let known = known.map(|record| record.password_hash.clone());
        let digest = Self::digest(user, known.as_deref(), password, address);
        if !is_disabled && self.right.get(&digest).await.is_some() {
            return Ok(known);
        }
        // Another node may have changed it a moment ago.
        let stored = self.accounts.user(user).await?;
        let is_disabled = stored.as_ref().is_some_and(|user| user.disabled.is_some());
        let hash = stored.map(|record| record.password_hash.clone());
        let digest = Self::digest(user, hash.as_deref(), password, address);
        let looked_at = self.look_at_password(user, hash.clone(), password, address);
        let result = self.right.try_get_with(digest, looked_at).await;
        if is_disabled && result.is_ok() {
            // Nobody else learns of it.
            return Err(RegistryError::forbidden(operator::DISABLED));
        }
        result.map(|()| hash).map_err(|refused| match &*refused {
            Refused::Wrong => RegistryError::unauthorized(BAD_PASSWORD),
            Refused::Throttled(retry_after) => RegistryError::RateLimited {
                message: THROTTLED.to_owned(),
                retry_after: *retry_after,
            },
            Refused::Failed(error) => RegistryError::internal(error.to_string()),
        })
    }

    async fn look_at_password(
        &self,
        user: &Username,
        hash: Option<String>,
        password: &SecretString,
        address: Option<IpAddr>,
    ) -> Result<(), Refused> {
        let begun = self.throttle.begin(user, address);
        begun.map_err(Refused::Throttled)?;
        let fits = password.expose_secret().len() <= passwords::MAX_LENGTH;
        let is_right = fits && {
            let verified = self.passwords.verify(password, hash).await;
            verified.map_err(Refused::Failed)?
        };
        if is_right {
            self.throttle.succeeded(user, address);
            return Ok(());
        }
        tracing::info!(user.name = %user, "wrong password");
        Err(Refused::Wrong)
    }

    /// What a password is remembered by. The account's hash is part of it: a changed password ends
    /// it at once. The address is too: from elsewhere, guesses meet the throttle first.
    pub(super) fn digest(
        user: &Username,
        hash: Option<&str>,
        password: &SecretString,
        address: Option<IpAddr>,
    ) -> [u8; 32] {
        let address = address.map(|address| address.to_string());
        let parts = [
            user.as_str(),
            hash.unwrap_or_default(),
            address.as_deref().unwrap_or_default(),
            password.expose_secret(),
        ];
        let mut digest = sha2::Sha256::new();
        for part in parts {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    /// Fails for a name that means something else in rules, or is that of a group: whoever had it would have
    /// its rights.
    pub(super) fn require_free_name(&self, user: &Username) -> Result<(), RegistryError> {
        let is_reserved =
            user.is_reserved() || self.reserved_names.iter().any(|name| name == user.as_str());
        if is_reserved {
            let message = format!("the name `{user}` is reserved");
            return Err(RegistryError::conflict(message));
        }
        Ok(())
    }

    fn require_open_registration(&self, is_open_anyway: bool) -> Result<(), RegistryError> {
        if self.config.registration == Registration::Closed && !is_open_anyway {
            return Err(RegistryError::conflict("user registration disabled"));
        }
        Ok(())
    }

    pub(super) fn check_new_password(&self, password: &SecretString) -> Result<(), RegistryError> {
        let (text, pattern) = (password.expose_secret(), &self.config.password_pattern);
        let is_wanted = pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(text));
        if is_wanted && passwords::is_long_enough(text, self.config.password_min) {
            Ok(())
        } else {
            Err(RegistryError::bad_request(passwords::INVALID))
        }
    }
}
