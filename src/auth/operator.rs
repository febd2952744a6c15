//! What an operator does with accounts: whoever has the storage of a registry needs nobody's password.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::TryStreamExt as _;
use secrecy::SecretString;

use super::{Auth, TokenRequest, tokens};
use crate::{
    error::RegistryError,
    models::{SecondFactor, Timestamp, Username},
    storage::{
        AccountEntry, AccountStore as _, AccountStoreExt as _, Profile, TokenKind, TokenRecord,
        UserRecord,
    },
};

/// What the owner of a disabled account is told.
pub(super) const DISABLED: &str =
    "this account is disabled; ask whoever runs this registry to enable it";
/// A shorter beginning of a key could be that of anybody's token.
const SHORTEST_KEY: usize = 6;

/// A user in a list of all.
#[derive(Clone, Debug)]
pub struct AccountSummary {
    /// Her name.
    pub name: String,
    /// What is kept about her.
    pub record: Arc<UserRecord>,
    /// How many of her tokens count, those of logins too.
    pub tokens: usize,
}

impl Auth {
    /// What the account of `user` wants as a second factor; `None` where nothing of hers counts. Of those
    /// whom others keep, that is not known here.
    pub(super) async fn factor_unless_disabled(
        &self,
        user: &Username,
        pass: Option<&SecretString>,
        by: &str,
    ) -> Result<Option<SecondFactor>, RegistryError> {
        let (factor, is_disabled) = self.second_factors.of(user, pass, by).await?;
        Ok((!is_disabled || !self.outside.is_empty()).then_some(factor))
    }

    /// All users, by their names.
    pub async fn all_users(&self) -> Result<Vec<AccountSummary>, RegistryError> {
        let (mut users, mut counts) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
        let now = self.clock.now();
        let mut entries = self.accounts.entries();
        while let Some(entry) = entries.try_next().await? {
            match entry {
                AccountEntry::User(name, record) => drop(users.insert(name, record)),
                AccountEntry::Token(token) if counts_at(&token, now) => {
                    *counts.entry(token.user.clone()).or_default() += 1;
                }
                AccountEntry::Token(_) | AccountEntry::Organisation(..) => {}
            }
        }
        let mut all = Vec::with_capacity(users.len());
        for (name, record) in users {
            let others = match name.parse() {
                Ok(user) => self.listed_by_verdaccio(&user).await?.len(),
                Err(_) => 0,
            };
            let tokens = counts.get(&name).copied().unwrap_or_default() + others;
            all.push(AccountSummary {
                name,
                record,
                tokens,
            });
        }
        Ok(all)
    }

    /// All tokens that count, by their users, oldest first.
    pub async fn all_tokens(&self) -> Result<Vec<Arc<TokenRecord>>, RegistryError> {
        let now = self.clock.now();
        let (mut all, mut users) = (Vec::new(), Vec::new());
        let mut entries = self.accounts.entries();
        while let Some(entry) = entries.try_next().await? {
            match entry {
                AccountEntry::Token(token) if counts_at(&token, now) => all.push(token),
                AccountEntry::User(name, _) => users.push(name),
                AccountEntry::Token(_) | AccountEntry::Organisation(..) => {}
            }
        }
        for user in users.iter().filter_map(|name| name.parse().ok()) {
            all.extend(self.listed_by_verdaccio(&user).await?);
        }
        all.sort_by(|one, other| {
            (&one.user, one.created, &one.key).cmp(&(&other.user, other.created, &other.key))
        });
        Ok(all)
    }

    /// The account of `user`; fails where there is none, or where others keep it.
    pub async fn require_account(&self, user: &Username) -> Result<Arc<UserRecord>, RegistryError> {
        self.require_local_accounts()?;
        let record = self.accounts.user(user).await?;
        record.ok_or_else(|| {
            RegistryError::not_found(format!(
                "there is no user `{user}`; `rustaccio user list` shows all, `rustaccio user add {user}` makes \
                 one"
            ))
        })
    }

    /// Fails where others keep the accounts.
    pub fn require_local_accounts(&self) -> Result<(), RegistryError> {
        if self.outside.is_empty() {
            return Ok(());
        }
        Err(RegistryError::Settings {
            message: "the accounts of this registry are kept by the service that \
                      RUSTACCIO_AUTH_HTTP_BASE_URL names, and are changed there; \
                      `rustaccio token revoke --user NAME --all` ends what a user has here"
                .to_owned(),
        })
    }

    /// Makes an account, whether visitors may make one or not, and however many there are.
    pub async fn add_user(
        &self,
        user: &Username,
        password: &SecretString,
        profile: Profile,
    ) -> Result<(), RegistryError> {
        self.require_local_accounts()?;
        self.require_free_name(user)?;
        if self.accounts.user(user).await?.is_some() {
            return Err(RegistryError::conflict(format!(
                "there is a user `{user}` already; `rustaccio user passwd {user}` gives her another password"
            )));
        }
        self.require_good_password(password)?;
        self.make_account(user, password, profile, None).await
    }

    /// Gives `user` another password, and revokes her login tokens.
    pub async fn reset_password(
        &self,
        user: &Username,
        new: &SecretString,
    ) -> Result<(), RegistryError> {
        self.require_account(user).await?;
        self.require_good_password(new)?;
        self.require_whole(new)?;
        self.replace_password(user, new).await
    }

    /// Takes the second factor from `user`, who may have lost it. Whether there was one.
    pub async fn reset_second_factor(&self, user: &Username) -> Result<bool, RegistryError> {
        if self.require_account(user).await?.second_factor.is_none() {
            return Ok(false);
        }
        let edit = |record: &mut UserRecord| Ok(record.second_factor.take().is_some());
        let now = self.clock.now();
        Ok(self.accounts.change_user(user, now, edit).await?)
    }

    /// Lets nothing of `user` count any more, neither her password nor a token. Whether something did.
    pub async fn disable_account(&self, user: &Username) -> Result<bool, RegistryError> {
        self.set_disabled(user, Some(self.clock.now())).await
    }

    /// Lets all of `user` count again. Whether nothing did.
    pub async fn enable_account(&self, user: &Username) -> Result<bool, RegistryError> {
        self.set_disabled(user, None).await
    }

    async fn set_disabled(
        &self,
        user: &Username,
        since: Option<Timestamp>,
    ) -> Result<bool, RegistryError> {
        let account = self.require_account(user).await?;
        if account.disabled.is_some() == since.is_some() {
            return Ok(false);
        }
        let edit = |record: &mut UserRecord| {
            let has_changed = record.disabled.is_some() != since.is_some();
            record.disabled = since;
            Ok(has_changed)
        };
        let now = self.clock.now();
        Ok(self.accounts.change_user(user, now, edit).await?)
    }

    /// Makes a token for `user`. Those whom others keep need not be known here.
    pub async fn grant_token(
        &self,
        user: &Username,
        request: TokenRequest,
    ) -> Result<(SecretString, TokenRecord), RegistryError> {
        if self.config.is_external {
            return Err(RegistryError::Settings {
                message: "RUSTACCIO_AUTH_EXTERNAL_MODE is on: tokens are made and known elsewhere, and those of \
                          this registry do not count"
                    .to_owned(),
            });
        }
        if self.outside.is_empty() {
            self.require_account(user).await?;
        } else {
            self.require_free_name(user)?;
        }
        self.make_token(user, request).await
    }

    /// The one token that `text` means: itself, its key, or a beginning of its key.
    pub async fn find_token(&self, text: &str) -> Result<Arc<TokenRecord>, RegistryError> {
        let hash = tokens::key_of(text);
        let all = self.all_tokens().await?;
        let is_meant = |token: &&Arc<TokenRecord>| {
            token.key == hash
                || (text.len() >= SHORTEST_KEY && token.key.starts_with(text))
                || (!token.user.is_empty()
                    && token.user.parse().is_ok_and(|user| {
                        self.key_at_verdaccio(&user, text).as_deref() == Some(&*token.key)
                    }))
        };
        let mut meant = all.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(token), None) => Ok(Arc::clone(token)),
            (Some(_), Some(_)) => Err(RegistryError::conflict(
                "several tokens have a key that begins so; give more of it (`rustaccio token list --json` has \
                 all of it)",
            )),
            (None, _) => Err(RegistryError::not_found(format!(
                "there is no such token; `rustaccio token list` shows the keys of all, of which at least \
                 {SHORTEST_KEY} characters are to be given"
            ))),
        }
    }

    /// Ends a token, whosever it is. Whether it counted until now.
    pub async fn end_token(&self, token: &TokenRecord) -> Result<bool, RegistryError> {
        if self.accounts.remove_token(&token.key).await? {
            return Ok(true);
        }
        match token.user.parse() {
            Ok(user) => self.revoke_at_verdaccio(&user, &token.key).await,
            Err(_) => Ok(false),
        }
    }

    fn require_good_password(&self, password: &SecretString) -> Result<(), RegistryError> {
        self.check_new_password(password).map_err(|_| {
            let min = self.config.password_min;
            let pattern = self.config.password_pattern.as_ref().map(|pattern| {
                format!(" and match `{pattern}` (RUSTACCIO_PASSWORD_PATTERN)")
            });
            RegistryError::bad_request(format!(
                "the password is refused: it must have at least {min} characters (RUSTACCIO_PASSWORD_MIN), at \
                 most 1024 bytes{}; choose another one",
                pattern.unwrap_or_default()
            ))
        })
    }
}

fn counts_at(token: &TokenRecord, now: Timestamp) -> bool {
    !token.is_expired(now) && token.kind != TokenKind::Ended
}
